// SPDX-License-Identifier: Apache-2.0
import Testing
import Units

@Suite("What stands between a beginning and an end")
struct BetweenTests {
    @Test("is found by its bytes", arguments: [("/a/x/b", "x"), ("/a/é/y/b", "é/y"), ("/a//b/b", "/b")])
    func found(text: String, inside: String) { #expect(text.between("/a/", "/b").map(String.init) == inside) }

    @Test(
        "is nothing where one of them is missing or both overlap",
        arguments: ["/a//b", "/a/b", "/a/x/c", "/x/y/b", ""]
    )
    func missing(text: String) { #expect(text.between("/a/", "/b").map(String.init) == nil) }
}
