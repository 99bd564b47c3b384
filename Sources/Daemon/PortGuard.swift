// SPDX-License-Identifier: Apache-2.0
import Access
import Linux
import NIOSSL
import Settings

/// What the port is guarded with, read at the start and again when the files change.
struct PortGuard: Sendable {
    let keys: LiveFiles<AccessKeys>?
    let identity: LiveFiles<NIOSSLContext>?
    let access: Authenticator?

    /// - Throws: what is wrong with the files that the settings name; a daemon without them would be open or closed to
    ///   everybody.
    init(_ settings: Settings) throws(SettingsErrors) {
        if let certificate = settings.http.tlsCertificate, let key = settings.http.tlsKey {
            identity = try LiveFiles([certificate, key]) { () throws(SettingsErrors) in
                try TLSIdentity.read(certificate: certificate, key: key)
            }
        } else {
            identity = nil
        }
        let (mode, path) = (settings.auth.mode, settings.auth.keys)
        guard mode != .none else {
            (keys, access) = (nil, nil)
            return
        }
        let keys = try LiveFiles([path]) { () throws(SettingsErrors) in try AccessKeys.read(path) }
        self.keys = keys
        access = Authenticator(mode: mode, keys: { keys.current }, clock: { WallClock.nowMs() })
    }

    /// Looks whether the files are others; tells what became of each that is. Blocking.
    func reloadIfChanged(_ tell: (_ what: String, _ problem: SettingsErrors?) -> Void) {
        for (what, reload) in [("keys", keys?.reloadIfChanged()), ("certificate", identity?.reloadIfChanged())] {
            switch reload {
            case .accepted: tell(what, nil)
            case .refused(let errors): tell(what, errors)
            case nil: break
            }
        }
    }

    /// Why a present file is not in force.
    var problems: [String] { [keys?.problem, identity?.problem].compactMap { $0?.description } }
}
