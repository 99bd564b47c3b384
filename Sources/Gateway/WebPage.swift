// SPDX-License-Identifier: Apache-2.0
import HTTP
import NIOCore
import NIOHTTP1

/// `GET /`: the page that shows sandboxes, ledger and decisions as they move. Three files, built into the program; it
/// asks nobody but this daemon.
enum WebPage {
    /// The files by their path.
    static func find(_ path: String) -> HTTPResponse? {
        switch path {
        case "": answer(PackageResources.page_html, "text/html; charset=utf-8")
        case "page.css": answer(PackageResources.page_css, "text/css; charset=utf-8")
        case "page.js": answer(PackageResources.page_js, "text/javascript; charset=utf-8")
        default: nil
        }
    }

    /// `GET /openapi.yaml`.
    static var specification: HTTPResponse {
        HTTPResponse(
            .ok,
            headers: ["Content-Type": "application/yaml", "X-Content-Type-Options": "nosniff"],
            body: ByteBuffer(bytes: PackageResources.openapi_yaml)
        )
    }

    private static func answer(_ bytes: [UInt8], _ type: String) -> HTTPResponse {
        let policy =
            "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
            + "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        return HTTPResponse(
            .ok,
            headers: [
                "Content-Type": type, "Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff",
                "Referrer-Policy": "no-referrer", "Cache-Control": "no-cache",
            ],
            body: ByteBuffer(bytes: bytes)
        )
    }
}
