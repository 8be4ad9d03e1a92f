using System.Globalization;

namespace MeshProxy.Demo.Apps;

/// <summary>What one application process of the demonstration is told: <c>app ROLE --name N --port P ...</c>.</summary>
internal sealed record AppOptions(string Role, string Name, string Version, int Port, int SidecarOutboundPort, string Database)
{
    public static AppOptions Parse(ReadOnlySpan<string> args)
    {
        var options = new AppOptions(args[0], args[0], "v1", 0, 0, "");
        for (var i = 1; i < args.Length; i += 2)
        {
            var value = args[i + 1];
            options = args[i] switch
            {
                "--name" => options with { Name = value },
                "--version" => options with { Version = value },
                "--port" => options with { Port = int.Parse(value, CultureInfo.InvariantCulture) },
                "--outbound" => options with { SidecarOutboundPort = int.Parse(value, CultureInfo.InvariantCulture) },
                "--database" => options with { Database = value },
                _ => throw new ArgumentException($"unknown application option {args[i]}"),
            };
        }

        return options;
    }
}
