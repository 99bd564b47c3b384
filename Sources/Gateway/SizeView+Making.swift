// SPDX-License-Identifier: Apache-2.0
import Dispatching
import FnProtocol
import Policy

extension SizeView {
    init(_ function: DeployedFunction, _ profile: FunctionProfile?) {
        let advice = SizeAdvice(profile, memory: function.memory.value)
        self.init(
            function: function.name,
            calls: advice.calls,
            callsNeeded: Policy.callsToTrust,
            memory: advice.memory.count,
            verdict: advice.verdict.rawValue
        )
        peakP50 = advice.peaks?.half.count
        peakP99 = advice.peaks?.most.count
        peakHighest = advice.peaks?.highest.count
        suggestion = advice.suggestion?.count
        saving = advice.saving?.count
    }
}
