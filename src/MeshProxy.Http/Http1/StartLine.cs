namespace MeshProxy.Http.Http1;

/// <summary>What request lines and status lines share.</summary>
internal static class StartLine
{
    public const int VersionLength = 8;

    /// <summary>Reads "HTTP/d.d" at the start of <paramref name="input"/>.</summary>
    /// <param name="input">The bytes.</param>
    /// <param name="version">1.0 or 1.1; a higher minor version is read as 1.1 (RFC 9110 section 2.5).</param>
    /// <param name="isKnown">False for a well-formed version of another major version.</param>
    public static Http1ParseStatus ReadVersion(ReadOnlySpan<byte> input, out HttpProtocolVersion version, out bool isKnown)
    {
        version = HttpProtocolVersion.Http11;
        isKnown = true;
        if (input.Length >= VersionLength)
        {
            if (input[..VersionLength].SequenceEqual("HTTP/1.1"u8))
            {
                return Http1ParseStatus.Done;
            }

            if (input[..VersionLength].SequenceEqual("HTTP/1.0"u8))
            {
                version = HttpProtocolVersion.Http10;
                return Http1ParseStatus.Done;
            }
        }

        // Byte by byte, so that a wrong one is refused when it comes.
        isKnown = false;
        var prefix = "HTTP/"u8;
        for (var i = 0; i < Math.Min(input.Length, VersionLength); i++)
        {
            var isRight = i < prefix.Length ? input[i] == prefix[i] : i == 6 ? input[i] == '.' : Http1Syntax.IsDigit(input[i]);
            if (!isRight)
            {
                return Http1ParseStatus.Failed;
            }
        }

        if (input.Length < VersionLength)
        {
            return Http1ParseStatus.NeedMore;
        }

        isKnown = input[prefix.Length] == '1';
        return Http1ParseStatus.Done;
    }
}
