// SPDX-License-Identifier: Apache-2.0
import ArgumentParser

struct Completion: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Print a completion script.",
        discussion: """
            source <(fn completion bash)
            fn completion zsh > ~/.zsh/completions/_fn
            fn completion fish > ~/.config/fish/completions/fn.fish
            """
    )
    enum Shell: String, ExpressibleByArgument, CaseIterable { case bash, zsh, fish }
    @Argument(help: "bash, zsh or fish.") var shell: Shell

    func run() {
        let wanted: CompletionShell =
            switch shell {
            case .bash: .bash
            case .zsh: .zsh
            case .fish: .fish
            }
        var script = Fn.completionScript(for: wanted)
        if shell == .bash {
            // Names of functions are no files, although a directory of that name is often there.
            let names = #"__fn_add_completions -W "$(eval 'fn ls"#
            script = script.replacing(names, with: "compopt +o filenames; \(names)")
        }
        Console.print(script)
    }
}

extension CompletionKind {
    /// The names of deployed functions, asked for as the key is pressed.
    static var functions: CompletionKind { .shellCommand("fn ls -q 2>/dev/null") }
    static var runtimes: CompletionKind { .custom { _, _, _ in Siblings.templates } }
}
