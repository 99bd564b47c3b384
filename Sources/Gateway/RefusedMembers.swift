// SPDX-License-Identifier: Apache-2.0
// Members are named as Lambda spells them.
// swift-format-ignore-file: AlwaysUseLowerCamelCase

/// Members that mean something which is not offered: refused by name, as leaving them out would be a lie.
///
/// Those that mean nothing here (an empty `VpcConfig`, a `Role`) are taken.
struct RefusedMembers: Decodable {
    struct Network: Decodable {
        var SubnetIds: [String]?
        var SecurityGroupIds: [String]?
    }
    struct CodePlace: Decodable {
        var ImageUri: String?
        var S3Bucket: String?
        var S3Key: String?
        var S3ObjectVersion: String?
        var SourceKMSKeyArn: String?
    }
    struct SnapStartMode: Decodable { var ApplyOn: String? }
    /// Anything but null: only that it is there counts.
    struct Given: Decodable { init(from decoder: any Decoder) {} }

    var Code: CodePlace?
    var ImageUri: String?
    var S3Bucket: String?
    var S3Key: String?
    var S3ObjectVersion: String?
    var SourceKMSKeyArn: String?
    var PackageType: String?
    var Architectures: [String]?
    var ImageConfig: Given?
    var VpcConfig: Network?
    var FileSystemConfigs: [Given]?
    var KMSKeyArn: String?
    var CodeSigningConfigArn: String?
    var SnapStart: SnapStartMode?
    var CapacityProviderConfig: Given?
    var DurableConfig: Given?
    var TenancyConfig: Given?
    var PublishTo: String?

    /// The machine that this was built for, as Lambda names it.
    static var architecture: String {
        #if arch(arm64)
        "arm64"
        #else
        "x86_64"
        #endif
    }

    func check() throws(LambdaError) {
        if PackageType == "Image" || has(ImageUri) || has(Code?.ImageUri) || ImageConfig != nil {
            throw .invalid(
                "Container images (PackageType Image, ImageUri, ImageConfig) are not offered: send Code.ZipFile"
            )
        }
        if let type = PackageType, type != "Zip" {
            throw .validation(type, "packageType", "satisfy enum value set: [Zip, Image]")
        }
        let bucket = [S3Bucket, S3Key, S3ObjectVersion, Code?.S3Bucket, Code?.S3Key, Code?.S3ObjectVersion]
        if bucket.contains(where: has) { throw .invalid("S3 is not offered: send the code as ZipFile") }
        if let others = Architectures, others != [Self.architecture] {
            throw .invalid(
                "Architectures [\(others.joined(separator: ", "))] cannot be run here: this machine is \(Self.architecture)"
            )
        }
        if let network = VpcConfig, !(network.SubnetIds ?? []).isEmpty || !(network.SecurityGroupIds ?? []).isEmpty {
            throw .invalid("VpcConfig is not offered: there are no subnets or security groups here")
        }
        if let mode = SnapStart?.ApplyOn, mode != "None" {
            throw .invalid("SnapStart \(mode) is not offered: idle sandboxes are frozen and woken by themselves")
        }
        let members: [(name: String, isGiven: Bool)] = [
            ("FileSystemConfigs", !(FileSystemConfigs ?? []).isEmpty), ("KMSKeyArn", has(KMSKeyArn)),
            ("SourceKMSKeyArn", has(SourceKMSKeyArn) || has(Code?.SourceKMSKeyArn)),
            ("CodeSigningConfigArn", has(CodeSigningConfigArn)),
            ("CapacityProviderConfig", CapacityProviderConfig != nil), ("DurableConfig", DurableConfig != nil),
            ("TenancyConfig", TenancyConfig != nil), ("PublishTo", has(PublishTo)),
        ]
        if let member = members.first(where: \.isGiven) {
            throw .invalid("\(member.name) is not offered: leave it out")
        }
    }

    private func has(_ text: String?) -> Bool { !(text ?? "").isEmpty }
}
