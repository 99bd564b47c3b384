// SPDX-License-Identifier: Apache-2.0
import Functions
import Policy
import Units

/// The name that may have been meant by one that is not there. In our own answers; Lambda's keep Lambda's words.
extension GatewayContext {
    /// `; did you mean 'NAME'?`, or nothing.
    @Sendable func hint(_ name: String) -> String {
        let function = PlanName.function(name)
        let names = catalog.all.map(\.name).filter { $0 != function }
        return Spelling.nearest(function, among: names).map { "; did you mean '\($0)'?" } ?? ""
    }

    func hint(_ error: FunctionsError) -> String {
        if case .notFound(let name) = error { hint(name) } else { "" }
    }
}
