using MeshProxy.DataPlane.Failures;

namespace MeshProxy.DataPlane.Telemetry;

/// <summary>The words for response flags, made once.</summary>
internal static class FlagNames
{
    private static readonly string[] Names = [.. Enum.GetValues<ResponseFlag>().Select(flag => flag == ResponseFlag.None ? "" : flag.ToString())];

    /// <summary>How many flags there are.</summary>
    public static int Count => Names.Length;

    /// <summary>The flag's letters; empty for none.</summary>
    public static string Of(ResponseFlag flag) => Names[(int)flag];
}
