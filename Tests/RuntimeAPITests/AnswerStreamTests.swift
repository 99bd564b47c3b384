// SPDX-License-Identifier: Apache-2.0
import NIOCore
import NIOHTTP1
import Testing

@testable import RuntimeAPI

@Suite("An answer in pieces")
struct AnswerStreamTests {
    @Test("is asked for by a header, whose other words are refused")
    func modes() {
        func mode(_ word: String?) -> ResponseMode? {
            ResponseMode(word.map { ["Lambda-Runtime-Function-Response-Mode": $0] } ?? [:])
        }
        #expect(mode(nil) == .buffered)
        #expect(mode("buffered") == .buffered)
        #expect(mode("streaming") == .streaming)
        #expect(mode("Streaming") == .streaming)
        #expect(mode("other") == nil)
        #expect(mode("") == nil)
    }

    @Test("tells in its trailers what went wrong after its first byte")
    func trailers() {
        #expect(MidstreamError([:]) == nil)
        #expect(MidstreamError(["X": "y"]) == nil)
        let full = MidstreamError([
            "Lambda-Runtime-Function-Error-Type": "Oops", "lambda-runtime-function-error-body": "eyJhIjoxfQ==",
        ])
        #expect(full?.type == "Oops")
        #expect(full?.document == ByteBuffer(string: #"{"a":1}"#))
    }

    @Test("has an error document even where its trailers hold none that can be read", arguments: ["", "not base64!"])
    func unreadable(body: String) {
        let error = MidstreamError([
            "Lambda-Runtime-Function-Error-Type": #"O"ops"#, "Lambda-Runtime-Function-Error-Body": body,
        ])
        let document =
            #"{"errorMessage":"the function failed after it had begun to answer","errorType":"Oops"}"#
        #expect(error.map { String(buffer: $0.document) } == document)
    }
}
