// SPDX-License-Identifier: Apache-2.0
import Functions
import Glibc
import Settings

/// Where the operator lets functions send records: a function's author must not reach into the host through the daemon.
struct DestinationRules {
    let settings: Settings

    /// Why a destination is not allowed; `nil` when it is.
    func problem(_ destination: Destination) -> String? {
        switch destination {
        case .function: nil
        case .file(let path):
            path.hasPrefix("\(directory)/")
                ? nil : "\(path) is not below \(directory) (storage.destinations in fn.yaml)"
        case .http(let place): problem(place)
        }
    }

    /// Without a slash at its end.
    var directory: String {
        let storage = settings.storage
        var named = storage.destinations == "auto" ? "\(storage.state)/destinations" : storage.destinations
        if !named.hasPrefix("/"), let here = unsafe getcwd(nil, 0) {
            named = unsafe "\(String(cString: here))/\(named)"
            unsafe free(here)
        }
        return "/" + named.split(separator: "/").joined(separator: "/")
    }

    private func problem(_ place: Destination.HTTPPlace) -> String? {
        if isLoopback(place.host), settings.http.listen.hasSuffix(":\(place.port)") {
            return "\(place.authority) is this daemon itself: name the function"
        }
        let entries = settings.limits.destinationHosts.split(separator: ",")
            .map { $0.filter { $0 != " " }.lowercased() }
        let isListed = entries.contains { entry in
            if entry == "loopback" { return isLoopback(place.host) }
            guard let (host, port) = Destination.HTTPPlace.split(entry) else { return false }
            let namesPort = entry.hasSuffix(":\(port)")
            return host == place.host && (!namesPort || port == place.port)
        }
        return isListed ? nil : "the host \(place.authority) is not one of limits.destination_hosts in fn.yaml"
    }

    /// Only what says so in the usual form: `getaddrinfo` also knows 127.1 and 0x7f000001.
    private func isLoopback(_ host: String) -> Bool {
        if host == "localhost" || host == "::1" { return true }
        var address = in_addr()
        return unsafe inet_pton(AF_INET, host, &address) == 1 && address.s_addr & 0xFF == 127
    }
}
