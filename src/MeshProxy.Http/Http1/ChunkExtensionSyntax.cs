namespace MeshProxy.Http.Http1;

/// <summary>
/// The grammar of chunk extensions (RFC 9112 section 7.1.1), byte by byte, from behind the first semicolon: <c>BWS name [ BWS "=" BWS value ]</c>, and
/// so on behind the next one. They are thrown away, but what is none is refused: a reader that is lax here and another one that is not can be made to
/// disagree about where the line ends.
/// </summary>
internal struct ChunkExtensionSyntax
{
    private Phase _phase;

    private enum Phase : byte
    {
        BeforeName,
        Name,
        BehindName,
        BeforeValue,
        Value,
        Quoted,
        QuotedPair,
        BehindQuoted,
        BehindValue,
    }

    /// <summary>Whether the line may end here.</summary>
    public readonly bool MayEnd => _phase is Phase.Name or Phase.Value or Phase.BehindQuoted;

    /// <summary>Takes the next byte of the line.</summary>
    /// <returns>False when no extension has it there.</returns>
    public bool TryStep(byte b)
    {
        Phase? next = (_phase, b) switch
        {
            (Phase.Quoted, (byte)'"') => Phase.BehindQuoted,
            (Phase.Quoted, (byte)'\\') => Phase.QuotedPair,
            (Phase.Quoted or Phase.QuotedPair, (byte)'\t' or (>= (byte)' ' and not 0x7F)) => Phase.Quoted,
            (Phase.Quoted or Phase.QuotedPair, _) => null,
            (Phase.BeforeName or Phase.BehindName or Phase.BeforeValue or Phase.BehindValue, (byte)' ' or (byte)'\t') => _phase,
            (Phase.Name, (byte)' ' or (byte)'\t') => Phase.BehindName,
            (Phase.Value or Phase.BehindQuoted, (byte)' ' or (byte)'\t') => Phase.BehindValue,
            (Phase.Name or Phase.BehindName, (byte)'=') => Phase.BeforeValue,
            (Phase.BeforeValue, (byte)'"') => Phase.Quoted,
            (Phase.Name or Phase.BehindName or Phase.Value or Phase.BehindQuoted or Phase.BehindValue, (byte)';') => Phase.BeforeName,
            (Phase.BeforeName or Phase.Name, _) when Http1Syntax.Token.Contains(b) => Phase.Name,
            (Phase.BeforeValue or Phase.Value, _) when Http1Syntax.Token.Contains(b) => Phase.Value,
            _ => null,
        };
        _phase = next ?? _phase;
        return next is not null;
    }
}
