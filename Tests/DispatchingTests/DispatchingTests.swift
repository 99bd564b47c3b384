// SPDX-License-Identifier: Apache-2.0
import NIOCore
import Testing
import Units

@testable import Dispatching
@testable import Functions

@Suite("Dispatching")
struct DispatchingTests {
    @Test(
        "one JSON value is accepted",
        arguments: ["{}", "[1, 2]", "\"x\"", "null", " 3.5 ", "{\"a\": {\"b\": [true]}}"]
    )
    func json(text: String) { #expect(JSONCheck.problem(ByteBuffer(string: text)) == nil) }

    @Test("anything else is not", arguments: ["", "{", "{oops", "[1,]x", "{\"a\" 1}", "nul"])
    func notJSON(text: String) { #expect(JSONCheck.problem(ByteBuffer(string: text)) != nil) }

    @Test("the operator's word beats the developer's, which beats the default; nobody passes the ceiling")
    func effective() {
        func value(_ word: Int?, _ function: Int?) -> Effective<Int> {
            Effective(operator: word, function: function, default: 5, ceiling: 100)
        }
        #expect(value(1, 2).value == 1 && value(1, 2).origin == .operator)
        #expect(value(nil, 2).value == 2 && value(nil, 2).origin == .function)
        #expect(value(nil, nil).value == 5 && value(nil, nil).origin == .default)
        #expect(value(nil, 200).value == 100 && value(nil, 200).origin == .limit)
    }

    @Test("the qualifier of a request is the end of the ARN that its caller wrote")
    func qualifier() {
        func qualifier(_ arn: String) -> String? {
            InvocationRequest(function: "f", payload: ByteBuffer(), functionARN: arn).qualifier
        }
        #expect(qualifier("arn:aws:lambda:us-east-1:000000000000:function:f") == nil)
        #expect(qualifier("arn:aws:lambda:us-east-1:000000000000:function:f:prod") == "prod")
        #expect(qualifier("arn:aws:lambda:us-east-1:000000000000:function:f:$LATEST") == "$LATEST")
    }

    @Test(
        "what cannot be provisioned is refused: what is not published, twice the same version, more than is reserved",
        arguments: [
            ("latest", 1, "unpublished"), ("9", 1, "no such function: f:9"), ("2", 1, "pointed by"),
            ("twin", 1, "already Provisioned"), ("1", 8, "reservedConcurrentExecution"),
        ]
    )
    func provisioning(qualifier: String, count: Int, reason: String) throws {
        var spec = FunctionSpec(name: "f", runtime: "python")
        spec.concurrency = 8
        let record = FunctionRecord(
            spec: spec,
            revision: 1,
            revisionID: "",
            codeSHA256: "",
            codeSize: 0,
            codeGeneration: 1,
            lastModifiedMs: 0
        )
        func alias(_ name: String, _ version: String) -> AliasRecord {
            AliasRecord(function: "f", name: name, version: version)
        }
        func wish(_ qualifier: String, _ count: Int) -> ProvisionedRecord {
            ProvisionedRecord(function: "f", qualifier: qualifier, requested: count, modifiedMs: 0)
        }
        let function = RegisteredFunction(
            latest: record,
            versions: ["1": record, "2": record, "3": record],
            aliases: [
                "latest": alias("latest", "$LATEST"), "prod": alias("prod", "2"), "twin": alias("twin", "3"),
            ],
            provisioned: [wish("prod", 1), wish("3", 1)]
        )
        let error = #expect(throws: FunctionsError.self) {
            try Deployments.check(wish(qualifier, count), function, most: 100)
        }
        #expect(error?.description.contains(reason) == true, "\(String(describing: error))")
        try Deployments.check(wish("1", 6), function, most: 100)
    }

    @Test("the REPORT line is Lambda's, tabs included")
    func report() {
        var result = InvocationResult(requestID: "id", outcome: .success(ByteBuffer()))
        result.duration = .microseconds(3014)
        result.contract = .mib(128)
        result.peak = Bytes(36 << 20)
        result.initDuration = .microseconds(110_104)
        let line =
            "REPORT RequestId: id\tDuration: 3.01 ms\tBilled Duration: 4 ms\tMemory Size: 128 MB\tMax Memory Used: 36 MB\t"
        #expect(result.report(status: nil) == line + "Init Duration: 110.10 ms\t")
    }
}
