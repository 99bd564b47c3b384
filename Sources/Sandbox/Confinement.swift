// SPDX-License-Identifier: Apache-2.0
import CLinux

/// Masks and landlock in C's form.
@safe final class Confinement {
    // SAFETY: allocated here, freed in deinit, never written after init; the strings live as long.
    private let masks: UnsafeMutableBufferPointer<clinux_mask>
    private let rules: UnsafeMutableBufferPointer<clinux_path_rule>
    private let landlock: UnsafeMutablePointer<clinux_landlock>?
    private let paths: CStrings

    init(_ masked: [MaskedPath], _ domain: Landlock?) {
        let allowed = domain?.rules ?? []
        paths = CStrings(masked.map(\.path) + allowed.map(\.path))
        unsafe masks = .allocate(capacity: masked.count)
        for (index, mask) in masked.enumerated() {
            unsafe masks.initializeElement(
                at: index,
                to: clinux_mask(path: paths[index], kind: mask.cover.rawValue)
            )
        }
        unsafe rules = .allocate(capacity: allowed.count)
        for (index, rule) in allowed.enumerated() {
            unsafe rules.initializeElement(
                at: index,
                to: clinux_path_rule(path: paths[masked.count + index], allowed: rule.allowed)
            )
        }
        guard let domain else {
            unsafe landlock = nil
            return
        }
        let description = UnsafeMutablePointer<clinux_landlock>.allocate(capacity: 1)
        unsafe description.initialize(
            to: clinux_landlock(
                handled: domain.handled,
                scoped: domain.scoped,
                rules: rules.baseAddress,
                rule_count: rules.count
            )
        )
        unsafe landlock = unsafe description
    }

    /// Fills its part of a plan, which may be used as long as this object lives.
    func describe(_ plan: inout clinux_plan) {
        unsafe plan.masks = UnsafePointer(masks.baseAddress)
        unsafe plan.mask_count = masks.count
        unsafe plan.landlock = UnsafePointer(landlock)
    }

    deinit {
        unsafe masks.deallocate()
        unsafe rules.deallocate()
        unsafe landlock?.deallocate()
    }
}
