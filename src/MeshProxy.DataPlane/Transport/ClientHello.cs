using System.Buffers;
using System.Buffers.Binary;
using System.Text;

namespace MeshProxy.DataPlane.Transport;

/// <summary>Whether a TLS ClientHello could be read.</summary>
internal enum ClientHelloResult
{
    /// <summary>It was.</summary>
    Complete,

    /// <summary>So far good, more bytes are needed.</summary>
    Incomplete,

    /// <summary>It is none, it is broken, or longer than <see cref="ClientHello.LongestBytes"/>.</summary>
    Invalid,
}

/// <summary>Reads server name (RFC 6066 section 3) and ALPN (RFC 7301) from a ClientHello (RFC 8446 section 4.1.2) that someone else answers.
/// Bounded; may be asked again with more bytes; trusts no length.</summary>
internal static class ClientHello
{
    /// <summary>The longest hello that is looked at, records included.</summary>
    public const int LongestBytes = 16 * 1024;

    private const int RecordHeader = 5;
    private const int MessageHeader = 4;
    private const int LongestRecord = 16 * 1024;

    /// <summary>Reads the first flight of a client.</summary>
    /// <param name="buffer">What came so far.</param>
    /// <param name="serverName">The server name, lower case; null when there is none.</param>
    /// <param name="applicationProtocols">The offered protocols in the client's order; empty when there are none.</param>
    public static ClientHelloResult TryParse(in ReadOnlySequence<byte> buffer, out string? serverName, out IReadOnlyList<string> applicationProtocols)
    {
        serverName = null;
        applicationProtocols = [];
        if (Foresee(buffer) is { } foreseen)
        {
            return foreseen;
        }

        var length = (int)Math.Min(buffer.Length, LongestBytes);
        var rented = ArrayPool<byte>.Shared.Rent(Math.Max(1, length) * 2);
        try
        {
            var flat = rented.AsSpan(0, length);
            buffer.Slice(0, length).CopyTo(flat);
            var message = rented.AsSpan(length, length);
            var result = Join(flat, message, out var written);
            if (result == ClientHelloResult.Complete)
            {
                return Read(message[..written], out serverName, out applicationProtocols) ? ClientHelloResult.Complete : ClientHelloResult.Invalid;
            }

            return result == ClientHelloResult.Incomplete && buffer.Length >= LongestBytes ? ClientHelloResult.Invalid : result;
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(rented);
        }
    }

    // The usual hello is one record whose first nine bytes tell its length: until all of it is there nothing is copied, so that a client that sends byte by
    // byte costs no more than its packets do. Null: look closer.
    private static ClientHelloResult? Foresee(in ReadOnlySequence<byte> buffer)
    {
        Span<byte> start = stackalloc byte[RecordHeader + MessageHeader];
        if (buffer.Length < start.Length)
        {
            return null;
        }

        buffer.Slice(0, start.Length).CopyTo(start);
        var record = BinaryPrimitives.ReadUInt16BigEndian(start[3..]);
        var message = MessageHeader + ((start[6] << 16) | (start[7] << 8) | start[8]);
        return start[0] == 0x16 && start[1] == 3 && start[5] == 1 && message <= record && record <= LongestBytes - RecordHeader && buffer.Length < RecordHeader + message
            ? ClientHelloResult.Incomplete
            : null;
    }

    // A hello may be spread over several records.
    private static ClientHelloResult Join(ReadOnlySpan<byte> records, Span<byte> message, out int written)
    {
        written = 0;
        while (true)
        {
            if (records.Length > 0 && records[0] != 0x16)
            {
                return ClientHelloResult.Invalid;
            }

            if (records.Length > 1 && records[1] != 3)
            {
                return ClientHelloResult.Invalid;
            }

            if (records.Length < RecordHeader)
            {
                return ClientHelloResult.Incomplete;
            }

            var length = BinaryPrimitives.ReadUInt16BigEndian(records[3..]);
            if (length is 0 or > LongestRecord)
            {
                return ClientHelloResult.Invalid;
            }

            var part = records.Slice(RecordHeader, Math.Min(length, records.Length - RecordHeader));
            part.CopyTo(message[written..]);
            written += part.Length;
            if (written > 0 && message[0] != 1)
            {
                return ClientHelloResult.Invalid;
            }

            if (written >= MessageHeader)
            {
                var wanted = MessageHeader + ((message[1] << 16) | (message[2] << 8) | message[3]);
                if (wanted > LongestBytes)
                {
                    return ClientHelloResult.Invalid;
                }

                if (written >= wanted)
                {
                    written = wanted;
                    return ClientHelloResult.Complete;
                }
            }

            if (records.Length < RecordHeader + length)
            {
                return ClientHelloResult.Incomplete;
            }

            records = records[(RecordHeader + length)..];
        }
    }

    private static bool Read(ReadOnlySpan<byte> message, out string? serverName, out IReadOnlyList<string> applicationProtocols)
    {
        serverName = null;
        applicationProtocols = [];
        var rest = message[MessageHeader..];
        // Version and random, then session id, cipher suites, compression methods.
        if (!TrySkip(ref rest, 34) || !TryTake8(ref rest, out var session) || session.Length > 32
            || !TryTake16(ref rest, out var suites) || suites.IsEmpty || suites.Length % 2 != 0
            || !TryTake8(ref rest, out var compressions) || compressions.IsEmpty)
        {
            return false;
        }

        if (rest.IsEmpty)
        {
            return true;
        }

        if (!TryTake16(ref rest, out var extensions) || !rest.IsEmpty)
        {
            return false;
        }

        while (!extensions.IsEmpty)
        {
            if (extensions.Length < 4)
            {
                return false;
            }

            var type = BinaryPrimitives.ReadUInt16BigEndian(extensions);
            extensions = extensions[2..];
            if (!TryTake16(ref extensions, out var body))
            {
                return false;
            }

            if (type == 0 && !TryReadServerName(body, ref serverName))
            {
                return false;
            }

            if (type == 16 && !TryReadProtocols(body, ref applicationProtocols))
            {
                return false;
            }
        }

        return true;
    }

    private static bool TryReadServerName(ReadOnlySpan<byte> body, ref string? serverName)
    {
        if (serverName is not null || !TryTake16(ref body, out var list) || !body.IsEmpty || list.IsEmpty || list[0] != 0)
        {
            return false;
        }

        // One name: a second one would leave open which of them the server answers to.
        list = list[1..];
        if (!TryTake16(ref list, out var name) || !list.IsEmpty || name.IsEmpty || name.Length > 255)
        {
            return false;
        }

        foreach (var octet in name)
        {
            if (octet is <= 0x20 or >= 0x7F)
            {
                return false;
            }
        }

        serverName = Encoding.ASCII.GetString(name).ToLowerInvariant();
        return true;
    }

    private static bool TryReadProtocols(ReadOnlySpan<byte> body, ref IReadOnlyList<string> protocols)
    {
        if (protocols.Count > 0 || !TryTake16(ref body, out var list) || !body.IsEmpty || list.IsEmpty)
        {
            return false;
        }

        var names = new List<string>(4);
        while (!list.IsEmpty)
        {
            if (!TryTake8(ref list, out var name) || name.IsEmpty)
            {
                return false;
            }

            names.Add(Encoding.Latin1.GetString(name));
        }

        protocols = names;
        return true;
    }

    private static bool TrySkip(ref ReadOnlySpan<byte> rest, int count)
    {
        if (rest.Length < count)
        {
            return false;
        }

        rest = rest[count..];
        return true;
    }

    private static bool TryTake8(ref ReadOnlySpan<byte> rest, out ReadOnlySpan<byte> body)
    {
        body = default;
        if (rest.IsEmpty || rest.Length < 1 + rest[0])
        {
            return false;
        }

        body = rest.Slice(1, rest[0]);
        rest = rest[(1 + body.Length)..];
        return true;
    }

    private static bool TryTake16(ref ReadOnlySpan<byte> rest, out ReadOnlySpan<byte> body)
    {
        body = default;
        if (rest.Length < 2)
        {
            return false;
        }

        var length = BinaryPrimitives.ReadUInt16BigEndian(rest);
        if (rest.Length < 2 + length)
        {
            return false;
        }

        body = rest.Slice(2, length);
        rest = rest[(2 + length)..];
        return true;
    }
}
