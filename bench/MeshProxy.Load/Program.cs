using MeshProxy.Load;

if (args.Length == 0 || args.Contains("--help"))
{
    Console.Out.WriteLine(LoadOptions.Usage);
    return args.Length == 0 ? 2 : 0;
}

var options = LoadOptions.Parse(args, out var error);
if (options is null)
{
    Console.Error.WriteLine($"meshproxy-load: {error}");
    return 2;
}

using var generator = new Generator(options);
var result = generator.Run();
using (var output = Console.OpenStandardOutput())
{
    result.WriteJson(output);
    output.Write("\n"u8);
}

return result.AllRequests > 0 && result.Fatal is null ? 0 : 1;
