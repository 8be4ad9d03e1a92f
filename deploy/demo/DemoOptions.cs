using System.Globalization;

namespace MeshProxy.Demo;

/// <summary>The command line of the demonstration.</summary>
internal sealed record DemoOptions(TimeSpan Duration, int Rate, bool Json, bool Keep, string? ExecutablesDirectory)
{
    public const string Help =
        """
        Starts a payment system as real processes on loopback, each application behind its own sidecar, and pays through it
        while a route changes, an instance is killed and the control plane goes away.

        Usage: dotnet run -c Release --project deploy/demo -- [options]

          --duration SECONDS  how long payments are sent (5 to 3600, default 40)
          --rate N            payments a second (1 to 2000, default 50)
          --json              one JSON object on standard output at the end, progress on standard error
          --keep              stay up after the run, keep the state directory, and say where everything listens
          --bin DIR           run the published executables in DIR instead of building them

        Exit status: 0 when nothing was lost, nothing was booked twice and every figure is as it should be;
        1 when not, or when the demonstration could not run; 2 for a wrong command line; 130 when interrupted.
        """;

    private const string DurationOption = "--duration";
    private const string RateOption = "--rate";
    private const string DirectoryOption = "--bin";

    /// <exception cref="FormatException">The command line is wrong; the message says where.</exception>
    public static DemoOptions Parse(ReadOnlySpan<string> args)
    {
        var options = new DemoOptions(TimeSpan.FromSeconds(40), 50, Json: false, Keep: false, ExecutablesDirectory: null);
        for (var i = 0; i < args.Length; i++)
        {
            var name = args[i];
            switch (name)
            {
                case "--json":
                    options = options with { Json = true };
                    break;
                case "--keep":
                    options = options with { Keep = true };
                    break;
                case DurationOption or RateOption or DirectoryOption when i + 1 == args.Length:
                    throw new FormatException($"{name} needs a value");
                case DurationOption:
                    options = options with { Duration = TimeSpan.FromSeconds(Number(name, args[++i], 5, 3600)) };
                    break;
                case RateOption:
                    options = options with { Rate = Number(name, args[++i], 1, 2000) };
                    break;
                case DirectoryOption:
                    options = options with { ExecutablesDirectory = args[++i] };
                    break;
                default:
                    throw new FormatException($"unknown option {name}");
            }
        }

        return options;
    }

    private static int Number(string option, string text, int lowest, int highest) =>
        int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var value) && value >= lowest && value <= highest
            ? value
            : throw new FormatException($"{option} takes a whole number from {lowest} to {highest}, not '{text}'");
}
