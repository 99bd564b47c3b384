// SPDX-License-Identifier: Apache-2.0
import Testing

@testable import HTTP

@Suite("Percent-encoding")
struct PercentEncodingTests {
    @Test("escapes are decoded, plus signs are kept")
    func decodes() {
        #expect(PercentEncoding.decode("arn%3Aaws%3alambda") == "arn:aws:lambda")
        #expect(PercentEncoding.decode("%24LATEST") == "$LATEST")
        #expect(PercentEncoding.decode("a+b") == "a+b")
    }

    @Test("broken escapes and broken UTF-8 give nothing", arguments: ["%", "%4", "%zz", "%ff%fe"])
    func refuses(text: String) { #expect(PercentEncoding.decode(text) == nil) }
}
