// swift-tools-version: 6.2
// Ebb: a function runtime whose sandboxes are resized live through cgroup v2.
import PackageDescription

/// Faults on order are compiled into debug builds alone: see Sources/CLinux/failpoint.c.
let failpoints = SwiftSetting.define("EBB_FAILPOINTS", .when(configuration: .debug))

/// Swift 6 with every check on; each crossing into memory-unsafe territory spells `unsafe`.
let strict: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .strictMemorySafety(),
    .treatAllWarnings(as: .error),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
    failpoints,
]
let strictC: [CSetting] = [
    .treatAllWarnings(as: .error), .enableWarning("all"), .enableWarning("extra"),
    .define("_GNU_SOURCE"), .define("EBB_FAILPOINTS", .when(configuration: .debug)),
]

let nio: [Target.Dependency] = [
    .product(name: "NIOCore", package: "swift-nio"),
    .product(name: "NIOPosix", package: "swift-nio"),
    .product(name: "NIOHTTP1", package: "swift-nio"),
]
let tls = Target.Dependency.product(name: "NIOSSL", package: "swift-nio-ssl")
let logging = Target.Dependency.product(name: "Logging", package: "swift-log")
let collections = Target.Dependency.product(name: "Collections", package: "swift-collections")
let crypto = Target.Dependency.product(name: "Crypto", package: "swift-crypto")
let yams = Target.Dependency.product(name: "Yams", package: "Yams")
let grdb = Target.Dependency.product(name: "GRDB", package: "GRDB.swift")
let arguments = Target.Dependency.product(name: "ArgumentParser", package: "swift-argument-parser")

func library(_ name: String, _ dependencies: [Target.Dependency] = [], embedding files: [String] = []) -> Target {
    .target(
        name: name,
        dependencies: dependencies,
        resources: files.isEmpty ? nil : files.map { .embedInCode($0) },
        swiftSettings: strict
    )
}
func tests(_ name: String, _ dependencies: [Target.Dependency] = []) -> Target {
    .testTarget(name: "\(name)Tests", dependencies: [.byName(name: name)] + dependencies, swiftSettings: strict)
}

let package = Package(
    name: "ebb",
    products: [
        .executable(name: "fn", targets: ["fn"]),
        .executable(name: "fnd", targets: ["fnd"]),
        .library(name: "Cgroup", targets: ["Cgroup"]),
        .library(name: "Sandbox", targets: ["Sandbox"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
        .package(url: "https://github.com/apple/swift-nio-ssl", from: "2.37.6"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
        .package(url: "https://github.com/apple/swift-collections", from: "1.6.0"),
        .package(url: "https://github.com/apple/swift-crypto", from: "4.5.2"),
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/jpsim/Yams", from: "6.2.2"),
        .package(url: "https://github.com/groue/GRDB.swift", from: "7.10.0"),
    ],
    targets: [
        // The kernel, from C upwards.
        .target(name: "CLinux", cSettings: strictC),
        .systemLibrary(name: "CSeccomp", pkgConfig: "libseccomp", providers: [.apt(["libseccomp-dev"])]),
        .systemLibrary(name: "CCap", pkgConfig: "libcap", providers: [.apt(["libcap-dev"])]),
        .systemLibrary(name: "CArchive", pkgConfig: "libarchive", providers: [.apt(["libarchive-dev"])]),
        library("Units"),
        library("Linux", ["CLinux", "Units"]),
        library("Cgroup", ["Linux", "CLinux", "Units"]),
        library("Sandbox", ["Cgroup", "Linux", "CLinux", "CSeccomp", "CCap", "Units"]),

        // What a request passes through.
        library("HTTP", nio + [tls]),
        library("Access", ["HTTP", "Settings", "Linux", crypto, yams] + nio),
        library("Tracing", ["HTTP", "Settings", "Linux", "Units", collections, logging] + nio + [tls]),
        library("RuntimeAPI", ["HTTP", "Units"] + nio),
        library("Policy", ["Units", collections]),
        library("Simulation", ["Policy", "Units"]),
        library("Reclaim", ["Policy", "Cgroup", "Linux", "CLinux", "Units", logging]),
        library("Pool", ["Policy", "Reclaim", "RuntimeAPI", "Sandbox", "Cgroup", "Linux", "Units", logging] + nio),
        library(
            "Dispatching",
            [
                "Pool", "Policy", "HTTP", "RuntimeAPI", "Sandbox", "Cgroup", "Linux", "Functions", "Settings",
                "Telemetry", "Tracing", "Reclaim",
                "Units", logging,
            ] + nio
        ),
        library(
            "Gateway",
            [
                "Dispatching", "Pool", "Policy", "HTTP", "Access", "Functions", "Settings", "FnProtocol", "Telemetry",
                "Tracing", "Units", "Linux", logging,
            ] + nio,
            embedding: ["Page/page.html", "Page/page.css", "Page/page.js", "API/openapi.yaml"]
        ),

        // What is deployed, configured and told.
        library("Functions", ["CArchive", "CLinux", "Linux", "Units", grdb, crypto, yams]),
        library("Settings", ["Linux", "Units", yams]),
        library("Telemetry", ["Policy", "Linux", "Units", logging]),
        library("FnProtocol", ["Units"]),
        library("FnClient", ["FnProtocol", "Units"]),
        library(
            "Daemon",
            [
                "Gateway", "Dispatching", "Pool", "Policy", "Reclaim", "RuntimeAPI", "Sandbox", "Cgroup", "Linux",
                "CLinux",
                "Functions",
                "Settings",
                "Telemetry", "Tracing", "HTTP", "Access", "FnProtocol", "Units", logging,
            ] + nio + [tls]
        ),
        .executableTarget(
            name: "fnd",
            dependencies: ["Daemon", "Functions", "Gateway", "Settings", arguments],
            swiftSettings: strict
        ),
        .executableTarget(
            name: "fn",
            dependencies: ["FnClient", "FnProtocol", "Simulation", "Policy", "Linux", "Units", arguments],
            swiftSettings: strict,
            linkerSettings: [.unsafeFlags(["-static-executable"], .when(configuration: .release))]
        ),

        // What a call is compared with: see Tests/Bench.
        .executableTarget(name: "nio-echo", dependencies: nio, path: "Tests/Bench/NIOEcho", swiftSettings: strict),
        .executableTarget(
            name: "launch-bench",
            dependencies: ["Sandbox", "Cgroup", "Linux", "Units"],
            path: "Tests/Bench/Launch",
            swiftSettings: strict
        ),

        tests("Units"), tests("Linux"), tests("Cgroup", ["Linux", "Units", "Reclaim", "Policy"]),
        tests("HTTP", nio + [.product(name: "NIOEmbedded", package: "swift-nio")]), tests("RuntimeAPI", ["HTTP"] + nio),
        tests("Policy", ["Units", collections]),
        tests("Simulation", ["Policy", "Units"]),
        tests("Settings", ["Units"]), tests("Functions", ["Linux", "Units", grdb]),
        tests("Access", ["HTTP", "Settings", crypto] + nio),
        tests("Telemetry", ["Linux", "Units", logging]), tests("Tracing", ["HTTP", "Settings", logging] + nio),
        tests("Pool", ["Linux"]), tests("Gateway", ["HTTP", "FnProtocol", "Settings", "Units"] + nio),
        tests("FnClient", ["FnProtocol"]),
        tests("fn", ["FnProtocol", "Linux"]), tests("Sandbox", ["CSeccomp", "Units"]),
        tests("Dispatching", ["Functions", "Settings", "Policy", "Pool", "Reclaim", "Tracing", "Units"] + nio),
    ],
    cLanguageStandard: .gnu17
)
