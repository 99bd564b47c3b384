// SPDX-License-Identifier: Apache-2.0
import NIOHTTP1
import Testing

@testable import RuntimeAPI

@Suite("Runtime API routes")
struct RuntimeRouteTests {
    @Test("the calls of version 2018-06-01 are known")
    func known() {
        #expect(RuntimeRoute(.GET, "/2018-06-01/runtime/invocation/next") == .next)
        #expect(RuntimeRoute(.POST, "/2018-06-01/runtime/invocation/x-1/response") == .response(requestID: "x-1"))
        #expect(RuntimeRoute(.POST, "/2018-06-01/runtime/invocation/x-1/error") == .error(requestID: "x-1"))
        #expect(RuntimeRoute(.POST, "/2018-06-01/runtime/init/error") == .initError)
        #expect(RuntimeRoute(.GET, "/2018-06-01/ping") == .ping)
        #expect(RuntimeRoute(.GET, "/2018-06-01/runtime/restore/next") == .restoreNext)
        #expect(RuntimeRoute(.POST, "/2018-06-01/runtime/restore/error") == .restoreError)
    }

    @Test("the calls of extensions are known, in their versions")
    func extensions() {
        #expect(ExtensionRoute(.POST, "/2020-01-01/extension/register") == .register)
        #expect(ExtensionRoute(.GET, "/2020-01-01/extension/event/next") == .next)
        #expect(ExtensionRoute(.POST, "/2020-01-01/extension/init/error") == .initError)
        #expect(ExtensionRoute(.POST, "/2020-01-01/extension/exit/error") == .exitError)
        #expect(ExtensionRoute(.PUT, "/2022-07-01/telemetry") == .telemetry)
        #expect(ExtensionRoute(.PUT, "/2020-08-15/logs") == .olderLogs)
        #expect(ExtensionRoute(.GET, "/2020-01-01/extension/register") == nil)
    }

    @Test(
        "anything else is no call",
        arguments: ["/", "/2018-06-01/", "/2018-06-01/runtime/invocation/next/", "/2019-01-01/runtime/invocation/next"]
    )
    func unknown(path: String) {
        #expect(RuntimeRoute(.GET, path) == nil)
        #expect(RuntimeRoute(.DELETE, path) == nil)
    }
}
