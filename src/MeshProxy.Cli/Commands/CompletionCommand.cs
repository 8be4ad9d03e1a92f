using System.CommandLine;

namespace MeshProxy.Cli.Commands;

/// <summary>`meshctl completion`: scripts that ask meshctl itself (its [suggest] directive) what may come next.</summary>
internal static class CompletionCommand
{
    private const string Bash =
        """
        _meshctl() {
            local IFS=$'\n' word="${COMP_WORDS[COMP_CWORD]}"
            COMPREPLY=($(compgen -W "$(meshctl "[suggest:${COMP_POINT}]" "${COMP_LINE}" 2>/dev/null)" -- "$word"))
        }
        complete -o default -F _meshctl meshctl
        """;

    private const string Zsh =
        """
        #compdef meshctl
        _meshctl() {
            local -a words_found
            words_found=("${(@f)$(meshctl "[suggest:${CURSOR}]" "${BUFFER}" 2>/dev/null)}")
            compadd -- $words_found
            _files
        }
        compdef _meshctl meshctl
        """;

    private const string Fish =
        """
        complete -c meshctl -a '(meshctl "[suggest:"(commandline -C)"]" (commandline -cp) 2>/dev/null)'
        """;

    public static Command Create()
    {
        var shell = new Argument<string>("SHELL") { Description = "bash, zsh or fish." };
        shell.AcceptOnlyFromAmong("bash", "zsh", "fish");
        var command = new VerbCommand(
            "completion",
            "Print a completion script.",
            ("source <(meshctl completion bash)", "in ~/.bashrc"),
            ("source <(meshctl completion zsh)", "in ~/.zshrc"),
            ("meshctl completion fish | source", "in ~/.config/fish/config.fish")) { shell };
        command.Run(async (result, _) =>
        {
            var script = result.GetRequiredValue(shell) switch
            {
                "bash" => Bash,
                "zsh" => Zsh,
                _ => Fish,
            };
            await result.InvocationConfiguration.Output.WriteLineAsync(script);
            return ExitStatus.Done;
        });
        return command;
    }
}
