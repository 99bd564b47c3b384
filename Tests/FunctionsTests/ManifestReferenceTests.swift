// SPDX-License-Identifier: Apache-2.0
import Glibc
import Linux
import Testing

@testable import Functions

@Suite("The reference of function.yaml")
struct ManifestReferenceTests {
    @Test("the example is a manifest, and every key of the table is one that is read")
    func isTrue() throws {
        #expect(try Manifest(yaml: Manifest.example).schedules?.first?.name == "nightly")
        for key in Manifest.reference where !key.path.contains(".") {
            // Whatever is wrong with a mapping as its value, the key is known.
            do {
                _ = try Manifest(yaml: "\(key.path): {A: b}")
            } catch {
                #expect(!"\(error)".contains("unknown key"), "\(key.path)")
            }
        }
        #expect(Manifest.keys().suffix(2) == ["events", "schedules"])
        #expect(Manifest.keys(of: "events") == ["retries", "max_age", "on_success", "on_failure"])
        #expect(throws: FunctionsError.self) { try Manifest(yaml: "events.retries: 1") }
    }

    @Test("the reference page is what the table says")
    func referencePage() throws {
        let here = #filePath.split(separator: "/").dropLast(3).joined(separator: "/")
        let page = "/\(here)/docs/function-yaml.md"
        if unsafe getenv("EBB_UPDATE_DOCS") != nil {
            unsafe unlink(page)
            close(unsafe open(page, O_CREAT | O_WRONLY, 0o644))
            try KernelFile.write(page, Manifest.markdown)
        }
        #expect(try KernelFile.read(page) == Manifest.markdown, "run the tests with EBB_UPDATE_DOCS=1")
    }
}
