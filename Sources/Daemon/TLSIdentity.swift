// SPDX-License-Identifier: Apache-2.0
import Linux
import NIOSSL
import Settings

/// What the port's TLS is made of: a certificate chain and its private key, as PEM files.
enum TLSIdentity {
    /// - Throws: which of the two files is wrong, and how.
    static func read(certificate: String, key: String) throws(SettingsErrors) -> NIOSSLContext {
        let chain = try problem(in: certificate, "the certificate") { try NIOSSLCertificate.fromPEMFile(certificate) }
        guard !chain.isEmpty else { throw error(certificate, "there is no certificate in it") }
        let text: String
        do throws(PrivateFileError) {
            text = try PrivateFile.read(key)
        } catch {
            throw Self.error(key, "the private key \(error)")
        }
        let secret = try problem(in: key, "the private key") {
            try NIOSSLPrivateKey(bytes: Array(text.utf8), format: .pem)
        }
        var configuration = TLSConfiguration.makeServerConfiguration(
            certificateChain: chain.map { .certificate($0) },
            privateKey: .privateKey(secret)
        )
        configuration.minimumTLSVersion = .tlsv12
        configuration.applicationProtocols = ["http/1.1"]
        return try problem(in: certificate, "the certificate with the key \(key)") {
            try NIOSSLContext(configuration: configuration)
        }
    }

    private static func problem<Value>(
        in file: String,
        _ what: String,
        _ body: () throws -> Value
    ) throws(SettingsErrors) -> Value {
        do { return try body() } catch { throw Self.error(file, "\(what) cannot be used: \(error)") }
    }

    private static func error(_ file: String, _ message: String) -> SettingsErrors {
        SettingsErrors(problems: [SettingsProblem(source: file, message: message)])
    }
}
