using System.Buffers;
using System.Text;
using MeshProxy.DataPlane.Forwarding;
using MeshProxy.Http;
using MeshProxy.Http.Fields;

namespace MeshProxy.Fuzz.Targets;

/// <summary>The body of a gRPC-Web request in its text form. The first byte says how long the pieces are in which it comes. The oracle: each four characters by themselves.</summary>
internal sealed class GrpcWebTextTarget : FuzzTarget
{
    public override string Name => "grpc-web-text";

    public override IReadOnlyList<string> Tokens { get; } = ["AAAA", "AA==", "AAA=", "/+9z", "=", "==", "AB==", "AAB=", "\\r\\n", "-_", "A===", "AAAAAAIKAA=="];

    public override string Run(byte[] input)
    {
        if (input.Length == 0)
        {
            return "empty";
        }

        var text = input[1..];
        var ours = Read(text.Length == 0 ? [text] : [.. text.Chunk(1 + input[0])]);
        Same(ours, Decode(Text(text)), $"in pieces of {1 + input[0]}");
        Same(Read([text]), ours, "whole it is understood differently");
        return $"{ours[..5]} {Math.Min(ours.Length / 3, 12)}";
    }

    private static string Decode(string text)
    {
        var bytes = new StringBuilder();
        for (var at = 0; at < text.Length; at += 4)
        {
            var group = text[at..Math.Min(text.Length, at + 4)];
            var decoded = new byte[3];

            // Encoding it again must give the same: no white space, no missing padding, no bits left over.
            if (!Convert.TryFromBase64String(group, decoded, out var length) || Convert.ToBase64String(decoded, 0, length) != group)
            {
                return $"broken {bytes}";
            }

            bytes.Append(Text(decoded.AsSpan(0, length)));
        }

        return $"whole {bytes}";
    }

    private static string Read(byte[][] pieces)
    {
        var bytes = new StringBuilder();
        var reader = new Base64BodyReader();
        reader.Begin(new Pieces(pieces));
        try
        {
            while (true)
            {
                Must(reader.TryRead(out var chunk), "it waits although everything is there");
                if (chunk.IsBroken)
                {
                    return $"broken {bytes}";
                }

                // A byte at a time now and then: what is not consumed must be given again.
                var count = chunk.IsEnd ? chunk.Data.Length : Math.Min(chunk.Data.Length, 1 + (bytes.Length % 7));
                bytes.Append(Text(chunk.Data.Slice(0, count).ToArray()));
                reader.Advance(count);
                if (chunk.IsEnd)
                {
                    return $"whole {bytes}";
                }
            }
        }
        finally
        {
            reader.Release();
        }
    }

    private sealed class Pieces(byte[][] pieces) : HttpBodyReader
    {
        private int _piece;
        private int _at;

        public override FieldMap Trailers { get; } = new();

        public override bool TryRead(out BodyChunk chunk)
        {
            if (_at == pieces[_piece].Length && _piece + 1 < pieces.Length)
            {
                (_piece, _at) = (_piece + 1, 0);
            }

            chunk = new BodyChunk(new ReadOnlySequence<byte>(pieces[_piece], _at, pieces[_piece].Length - _at), _piece + 1 == pieces.Length, default);
            return true;
        }

        public override ValueTask<BodyChunk> ReadAsync() => TryRead(out var chunk) ? new ValueTask<BodyChunk>(chunk) : throw new InvalidOperationException();

        public override void Advance(long count) => _at += (int)count;
    }
}
