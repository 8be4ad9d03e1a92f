using MeshProxy.Http.Fields;

namespace MeshProxy.Http.Http2.Hpack;

/// <summary>Pseudo-fields (RFC 9113 section 8.3, RFC 8441 section 4).</summary>
internal enum PseudoField : byte
{
    /// <summary>An ordinary field.</summary>
    None,
    Authority,
    Method,
    Path,
    Scheme,
    Status,
    Protocol,

    /// <summary>A name that begins with a colon and is none of the above: malformed.</summary>
    Unknown,
}

/// <summary>A field name as the tables keep it, classified once.</summary>
internal readonly record struct HpackName(PseudoField Pseudo, KnownField Known)
{
    public static HpackName Classify(ReadOnlySpan<byte> name)
    {
        if (name.IsEmpty || name[0] != (byte)':')
        {
            return new HpackName(PseudoField.None, KnownFields.Parse(name));
        }

        var pseudo = name.Length switch
        {
            5 when name.SequenceEqual(":path"u8) => PseudoField.Path,
            7 when name.SequenceEqual(":method"u8) => PseudoField.Method,
            7 when name.SequenceEqual(":scheme"u8) => PseudoField.Scheme,
            7 when name.SequenceEqual(":status"u8) => PseudoField.Status,
            9 when name.SequenceEqual(":protocol"u8) => PseudoField.Protocol,
            10 when name.SequenceEqual(":authority"u8) => PseudoField.Authority,
            _ => PseudoField.Unknown,
        };
        return new HpackName(pseudo, KnownField.Other);
    }
}
