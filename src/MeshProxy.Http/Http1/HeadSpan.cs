using System.Buffers.Text;
using System.Runtime.CompilerServices;
using MeshProxy.Http.Fields;

namespace MeshProxy.Http.Http1;

/// <summary>Writes pieces of a head into a span that its caller made large enough.</summary>
internal ref struct HeadSpan
{
    private readonly Span<byte> _span;

    public HeadSpan(Span<byte> span) => _span = span;

    public int Length { get; private set; }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void Write(ReadOnlySpan<byte> bytes)
    {
        bytes.CopyTo(_span[Length..]);
        Length += bytes.Length;
    }

    public void WriteNumber(long number)
    {
        _ = Utf8Formatter.TryFormat(number, _span[Length..], out var written);
        Length += written;
    }

    /// <summary>Writes one line. Fields may come from HTTP/2 or from a rule: what would not be one line here is refused, whoever let it in.</summary>
    public bool TryWriteField(in FieldLine line)
    {
        var name = line.Name;
        if ((line.Known == KnownField.Other && !Http1Syntax.IsToken(name)) || line.Value.IndexOfAny(Http1Syntax.NotInValue) >= 0)
        {
            return false;
        }

        Write(name);
        Write(": "u8);
        Write(line.Value);
        Write("\r\n"u8);
        return true;
    }
}
