using System.Buffers;
using MeshProxy.DataPlane.Transport;
using MeshProxy.Fuzz.Oracles;

namespace MeshProxy.Fuzz.Targets;

/// <summary>The ClientHello parser.</summary>
internal sealed class ClientHelloTarget : FuzzTarget
{
    public override string Name => "client-hello";

    public override IReadOnlyList<string> Tokens { get; } =
    [
        "\\x16\\x03\\x01\\x00\\x05", "\\x16\\x03\\x03\\x00\\x00", "\\x01\\x00\\x00\\x00", "\\x00\\x00\\x00\\x08\\x00\\x06\\x00\\x00\\x03a.b", "\\x00\\x10\\x00\\x05\\x00\\x03\\x02h2", "\\x00\\x00", "\\x00\\x01", "\\xff\\xff", "\\x40\\x00", "\\x40\\x01",
    ];

    public override string Run(byte[] input)
    {
        var whole = Read(new ReadOnlySequence<byte>(input));
        Same(Read(Segment.Join(input.Chunk(2))), whole, "in segments it is understood differently");
        Same(whole, ClientHelloReading.Read(input), "the oracle says otherwise");

        // Asked again with more: what was judged on fewer bytes must not change its mind.
        var judged = "incomplete";
        for (var length = 0; length <= input.Length; length += 1 + (length / 16))
        {
            var now = Read(new ReadOnlySequence<byte>(input, 0, length));
            Must(judged == "incomplete" || now == judged, $"after {length} bytes: {now}, before {judged}");
            judged = now;
        }

        return Http1Judgement.Outcome(whole);
    }

    private static string Read(in ReadOnlySequence<byte> bytes) => ClientHello.TryParse(bytes, out var name, out var protocols) switch
    {
        ClientHelloResult.Complete => $"{name ?? "-"} [{string.Join(' ', protocols)}]",
        ClientHelloResult.Incomplete => "incomplete",
        _ => "invalid",
    };
}
