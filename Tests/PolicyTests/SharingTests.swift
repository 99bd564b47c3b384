// SPDX-License-Identifier: Apache-2.0
import Testing
import Units

@testable import Policy

@Suite("Several requests at once in one sandbox")
struct SharingTests {
    private func driver(_ concurrency: Int = 100) -> Driver {
        var driver = Driver(budget: .gib(1))
        driver.plan(concurrency: concurrency, perSandbox: 2)
        return driver
    }

    @Test("requests that come together share what is started for them")
    func start() throws {
        var driver = driver()
        for token in 1...3 { driver.lease(LeaseToken(token)) }
        #expect(driver.state.entries.count == 2)
        driver.settle()
        #expect(driver.running.values.map(\.count).sorted() == [1, 2])
    }

    @Test("a busy sandbox takes another request without more memory, and never more than its places")
    func join() throws {
        var driver = driver(1)
        driver.lease(1)
        driver.settle()
        let held = driver.state.ledger.promised
        driver.lease(2)
        driver.lease(3)
        #expect(driver.state.ledger.promised == held)
        #expect(try driver.sandbox().running == 2)
        #expect(driver.state.waitingCount == 1)
        driver.finish(1)
        #expect(try driver.sandbox().running == 2)
        #expect(driver.starts[3] == .warm)
        driver.finish(2)
        #expect(try driver.sandbox().phase == .busy)
        driver.finish(3)
        #expect(try driver.sandbox().phase == .idle)
    }

    @Test("a request with a size of its own runs alone, and those behind it let it have its turn")
    func alone() throws {
        var driver = driver(1)
        driver.lease(1)
        driver.settle()
        driver.lease(2, memory: .mib(150))
        driver.lease(3)
        #expect(driver.starts[3] == nil)
        driver.finish(1)
        driver.settle()
        #expect(driver.contracts[2] == .mib(150))
        #expect(driver.starts[3] == nil)
        driver.finish(2)
        driver.settle()
        #expect(driver.starts[3] != nil)
    }

    @Test("one that is full, or of former code, is not joined")
    func former() throws {
        var driver = driver()
        driver.lease(1)
        driver.settle()
        driver.plan(generation: 2, perSandbox: 2)
        driver.lease(2)
        driver.settle()
        #expect(driver.running.count == 2)
    }

    @Test("a sandbox that ends with several ends once")
    func ends() throws {
        var driver = driver()
        driver.lease(1)
        driver.settle()
        driver.lease(2)
        let id = try driver.sandbox().id
        driver.end(id)
        #expect(driver.state.entries.isEmpty)
        #expect(driver.state.ledger.promised == .zero)
    }
}
