// SPDX-License-Identifier: Apache-2.0
import CLinux

/// Places where a test may order a fault: see `Sources/CLinux/failpoint.c`. In release builds there is nothing here.
package enum Failpoint {
    /// Throws the error that is ordered for this place, or ends the daemon or the thread.
    @inlinable @inline(__always)
    package static func fail(_ place: StaticString) throws(SyscallError) {
        #if EBB_FAILPOINTS
        let error = reach(place)
        if error > 0 { throw SyscallError("failpoint", "\(place)", error) }
        #endif
    }

    /// The same where nothing can be thrown.
    @inlinable @inline(__always)
    package static func pass(_ place: StaticString) {
        #if EBB_FAILPOINTS
        _ = reach(place)
        #endif
    }

    #if EBB_FAILPOINTS
    @usableFromInline
    package static func reach(_ place: StaticString) -> Int32 { unsafe clinux_failpoint("\(place)") }
    #endif
}
