// SPDX-License-Identifier: Apache-2.0
import FnProtocol
import Settings
import Testing

@testable import Gateway

@Suite("Lambda's API")
struct LambdaTests {
    @Test("a qualifier may be in either place, and in both it must be the same one")
    func qualifiers() throws {
        #expect(try FunctionReference("f:a").checked(nil).qualifier == "a")
        #expect(try FunctionReference("f").checked("prod").arn.hasSuffix(":function:f:prod"))
        #expect(try FunctionReference("f:3").checked("3").qualifier == "3")
        #expect(try FunctionReference("f").checked("$LATEST").arn.hasSuffix(":f:$LATEST"))
        let error = #expect(throws: LambdaError.self) { try FunctionReference("f:a").checked("b") }
        #expect(
            error?.message
                == "The derived qualifier from the function name does not match the specified qualifier."
        )
        #expect(throws: LambdaError.self) { try FunctionReference("f").checked("a b") }
    }

    @Test("what is said of a function as a whole takes no version of it")
    func unqualified() throws {
        #expect(try FunctionReference("f").unqualified(nil) == "f")
        #expect(try FunctionReference("f").unqualified("$LATEST") == "f")
        #expect(throws: LambdaError.self) { try FunctionReference("f").unqualified("1") }
        #expect(throws: LambdaError.self) { try FunctionReference("f:prod").unqualified(nil) }
    }

    @Test("versions, aliases, provisioned concurrency and layers have Lambda's paths")
    func routes() {
        let functions = "/2015-03-31/functions/f"
        #expect(Route(.POST, "\(functions)/versions") == .lambda(.publishVersion, "f"))
        #expect(Route(.GET, "\(functions)/versions") == .lambda(.listVersions, "f"))
        #expect(Route(.PUT, "\(functions)/aliases/prod") == .lambda(.updateAlias("prod"), "f"))
        let provisioned = "/2019-09-30/functions/f/provisioned-concurrency"
        #expect(Route(.PUT, provisioned) == .lambda(.putProvisioned, "f"))
        #expect(Route(.GET, "/2018-10-31/layers") == .lambda(.listLayers, ""))
        #expect(Route(.DELETE, "/2018-10-31/layers/l/versions/2") == .lambda(.deleteLayer("2"), "l"))
        #expect(Route(.GET, "/v1/layers/l/2/code") == .layerCode("l", "2"))
    }

    @Test(
        "everything else below one of Lambda's dates is told to be not offered",
        arguments: [
            "/2015-03-31/event-source-mappings", "/2020-06-30/functions/f/code-signing-config", "/2099-01-01/x",
        ]
    )
    func notOffered(path: String) {
        #expect(Route(.GET, path) == .lambda(.notOffered, "GET \(path)"))
        #expect(Route(.GET, "/2015-3-31/x") == nil && Route(.GET, "/abcd-ef-gh/x") == nil)
    }

    @Test("a layer is known by its name, its ARN, and the ARN of a version")
    func layers() throws {
        let arn = "arn:aws:lambda:us-east-1:000000000000:layer:l"
        #expect(try LayerReference.checkName("l") == "l" && LayerReference.checkName(arn) == "l")
        #expect(try LayerReference(arn: "\(arn):7") == LayerReference(name: "l", version: 7))
        #expect(LayerReference(name: "l", version: 7).description == "\(arn):7")
        for wrong in ["l:7", arn, "\(arn):0", "\(arn):x", "arn:aws:lambda:us-east-1:000000000000:function:l:7"] {
            #expect(throws: LambdaError.self, "\(wrong)") { try LayerReference(arn: wrong) }
        }
        #expect(throws: LambdaError.self) { try LayerReference.checkName("../l") }
        #expect(throws: LambdaError.self) { try LayerReference("l", version: "latest") }
    }

    @Test(
        "members that mean something which is not offered are refused by name",
        arguments: [
            (#"{"PackageType":"Image"}"#, "images"), (#"{"Code":{"ImageUri":"x"}}"#, "images"),
            (#"{"ImageConfig":{"Command":["x"]}}"#, "images"), (#"{"Code":{"S3Bucket":"x"}}"#, "S3"),
            (#"{"S3Key":"x"}"#, "S3"), (#"{"VpcConfig":{"SubnetIds":["x"]}}"#, "VpcConfig"),
            (#"{"FileSystemConfigs":[{"Arn":"x"}]}"#, "FileSystemConfigs"), (#"{"KMSKeyArn":"x"}"#, "KMSKeyArn"),
            (#"{"SnapStart":{"ApplyOn":"PublishedVersions"}}"#, "SnapStart"),
            (#"{"CodeSigningConfigArn":"x"}"#, "CodeSigningConfigArn"), (#"{"Architectures":["z80"]}"#, "z80"),
            (#"{"DurableConfig":{}}"#, "DurableConfig"), (#"{"TenancyConfig":{}}"#, "TenancyConfig"),
            (#"{"PublishTo":"LATEST_PUBLISHED"}"#, "PublishTo"), (#"{"PackageType":"Tape"}"#, "packageType"),
        ]
    )
    func refused(json: String, word: String) throws {
        let members = try JSONText.decode(RefusedMembers.self, from: json.utf8)
        let error = #expect(throws: LambdaError.self) { try members.check() }
        #expect(error?.status == .badRequest && error?.message.contains(word) == true, "\(String(describing: error))")
    }

    @Test("harmless members are taken")
    func harmless() throws {
        let json = """
            {"PackageType":"Zip","VpcConfig":{"SubnetIds":[],"SecurityGroupIds":[]},"SnapStart":{"ApplyOn":"None"},
             "KMSKeyArn":"","FileSystemConfigs":[],"Architectures":["\(RefusedMembers.architecture)"],"Unheard":{"Of":1}}
            """
        try JSONText.decode(RefusedMembers.self, from: json.utf8).check()
    }

    @Test(
        "ranges are told in the words of Lambda's validation",
        arguments: [
            (#"{"MemorySize":64}"#, "Value '64' at 'memorySize'", "greater than or equal to 128"),
            (#"{"MemorySize":99999}"#, "Value '99999' at 'memorySize'", "less than or equal to 10240"),
            (#"{"Timeout":0}"#, "Value '0' at 'timeout'", "greater than or equal to 1"),
            (#"{"Timeout":901}"#, "Value '901' at 'timeout'", "less than or equal to 900"),
            (#"{"EphemeralStorage":{"Size":1}}"#, "'ephemeralStorage.size'", "greater than or equal to 512"),
            (#"{"TracingConfig":{"Mode":"Loud"}}"#, "'tracingConfig.mode'", "enum value set: [Active, PassThrough]"),
        ]
    )
    func ranges(json: String, subject: String, constraint: String) throws {
        let members = try JSONText.decode(FunctionMembers.self, from: json.utf8)
        var limits = Settings().limits
        (limits.memory, limits.timeout) = (.gib(10), .seconds(900))
        let error = #expect(throws: LambdaError.self) { try members.checkRanges(limits) }
        #expect(error?.type == "ValidationException")
        #expect(error?.message.contains(subject) == true && error?.message.contains(constraint) == true)
    }
}
