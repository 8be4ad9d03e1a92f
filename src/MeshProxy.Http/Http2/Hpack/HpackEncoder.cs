using System.Buffers.Binary;
using MeshProxy.Http.Fields;

namespace MeshProxy.Http.Http2.Hpack;

/// <summary>
/// Encodes field blocks into a span whose size the caller bounds with <see cref="Bound"/>. Owned by the connection's write lock: blocks must be
/// sent in the order in which they were encoded.
/// A line enters the dynamic table when it is seen the second time: values that never repeat (request ids, paths) then never push out those that do.
/// Strings are not Huffman-coded: of what the table does not hold (a path, a request id, a traceparent) it would save 34 of 122 bytes for 0.2 µs, and the peer
/// would have to take it off again.
/// </summary>
internal sealed class HpackEncoder
{
    /// <summary>Bytes for the size updates that may stand in front of a block.</summary>
    private const int SizeUpdateBound = 12;

    /// <summary>The most that a line's representation adds to its name and value; <see cref="FieldMap.ListSize"/> counts 32.</summary>
    private const int LineOverhead = 12;

    private const int Buckets = 64;
    private const int LargestIndexedValue = 512;

    private readonly HpackDynamicTable _table;
    private readonly long[] _newest = new long[Buckets];
    private readonly Link[] _links;
    private readonly uint[] _seenOnce = new uint[256];
    private int _smallestPendingSize = -1;
    private int _pendingSize = -1;

    /// <param name="maxTableSize">The most memory to use for the table, whatever the peer allows, in bytes.</param>
    public HpackEncoder(int maxTableSize)
    {
        _table = new HpackDynamicTable(maxTableSize);
        _table.SetMaxSize(Math.Min(maxTableSize, HpackDynamicTable.InitialSize));
        _links = new Link[Math.Max(1, maxTableSize / HpackDynamicTable.EntryOverhead)];
    }

    /// <summary>Takes the peer's SETTINGS_HEADER_TABLE_SIZE; the next block begins with the update (RFC 7541 section 4.2).</summary>
    public void OnPeerTableSize(uint size)
    {
        var wanted = (int)Math.Min(size, (uint)_table.Limit);
        if (wanted == _table.MaxSize && _pendingSize < 0)
        {
            return;
        }

        _smallestPendingSize = _pendingSize < 0 ? wanted : Math.Min(_smallestPendingSize, wanted);
        _pendingSize = wanted;
    }

    /// <summary>The most bytes that a block of these parts takes.</summary>
    public static int Bound(FieldMap fields, int pseudoBytes) => SizeUpdateBound + fields.ListSize + pseudoBytes + (6 * LineOverhead);

    /// <summary>Encodes a request's pseudo-fields and fields.</summary>
    public int EncodeRequest(RequestHead head, Span<byte> target)
    {
        var written = BeginBlock(target);
        var protocol = head.Protocol;
        var never = head.NeverIndexed;
        var method = protocol.IsEmpty ? head.MethodToken : "CONNECT"u8;
        written += IsNever(never, PseudoField.Method) ? WriteNeverIndexed(target[written..], 2, method)
            : head.Method switch
            {
                RequestMethod.Get when protocol.IsEmpty => WriteIndexed(target[written..], 2),
                RequestMethod.Post when protocol.IsEmpty => WriteIndexed(target[written..], 3),
                _ => WriteLine(target[written..], 2, PseudoField.Method, ":method"u8, method),
            };
        if (head.Method != RequestMethod.Connect || !protocol.IsEmpty)
        {
            var scheme = head.Scheme.IsEmpty ? "http"u8 : head.Scheme;
            written += IsNever(never, PseudoField.Scheme) ? WriteNeverIndexed(target[written..], 6, scheme)
                : scheme.SequenceEqual("https"u8) ? WriteIndexed(target[written..], 7)
                : scheme.SequenceEqual("http"u8) ? WriteIndexed(target[written..], 6)
                : WriteLine(target[written..], 6, PseudoField.Scheme, ":scheme"u8, scheme);
            var path = head.Path;
            written += IsNever(never, PseudoField.Path) ? WriteNeverIndexed(target[written..], 4, path)
                : path.Length == 1 && path[0] == (byte)'/' ? WriteIndexed(target[written..], 4)
                : WriteLiteral(target[written..], 0x00, 4, 4, default, path);
            if (!protocol.IsEmpty)
            {
                written += WriteLiteral(target[written..], IsNever(never, PseudoField.Protocol) ? (byte)0x10 : (byte)0x00, 4, 0, ":protocol"u8, protocol);
            }
        }

        if (!head.Authority.IsEmpty)
        {
            written += IsNever(never, PseudoField.Authority) ? WriteNeverIndexed(target[written..], 1, head.Authority)
                : WriteLine(target[written..], 1, PseudoField.Authority, ":authority"u8, head.Authority);
        }

        return written + EncodeFields(head.Fields, target[written..], head.AsksForTunnel);
    }

    /// <summary>Encodes a response's status and fields.</summary>
    public int EncodeResponse(int status, FieldMap fields, Span<byte> target, bool isTunnel = false)
    {
        var written = BeginBlock(target);
        var index = status switch { 200 => 8, 204 => 9, 206 => 10, 304 => 11, 400 => 12, 404 => 13, 500 => 14, _ => 0 };
        if (index != 0)
        {
            written += WriteIndexed(target[written..], index);
        }
        else
        {
            ReadOnlySpan<byte> digits = [(byte)('0' + (status / 100)), (byte)('0' + (status / 10 % 10)), (byte)('0' + (status % 10))];
            written += WriteLine(target[written..], 8, PseudoField.Status, ":status"u8, digits);
        }

        return written + EncodeFields(fields, target[written..], isTunnel);
    }

    /// <summary>Encodes trailer fields.</summary>
    public int EncodeTrailers(FieldMap fields, Span<byte> target)
    {
        var written = BeginBlock(target);
        return written + EncodeFields(fields, target[written..], isTunnel: false);
    }

    private int EncodeFields(FieldMap fields, Span<byte> target, bool isTunnel)
    {
        var written = 0;
        for (var i = 0; i < fields.Count; i++)
        {
            var line = fields[i];
            if (isTunnel && IsOfHandshake(line))
            {
                continue;
            }

            var nameIndex = line.Known == KnownField.Other ? 0 : HpackStaticTable.IndexOf(line.Known);
            if (line.IsSensitive)
            {
                // Never indexed, here and by every hop after (RFC 7541 section 7.1.3).
                written += WriteLiteral(target[written..], 0x10, 4, nameIndex, line.Name, line.Value);
            }
            else if (!MayRepeat(line.Known) || line.Value.Length > LargestIndexedValue)
            {
                written += WriteLiteral(target[written..], 0x00, 4, nameIndex, line.Name, line.Value);
            }
            else
            {
                written += WriteIndexable(target[written..], nameIndex, new HpackName(PseudoField.None, line.Known), line.Name, line.Value);
            }
        }

        return written;
    }

    private int WriteLine(Span<byte> target, int nameIndex, PseudoField pseudo, ReadOnlySpan<byte> name, ReadOnlySpan<byte> value) =>
        value.Length > LargestIndexedValue
            ? WriteLiteral(target, 0x00, 4, nameIndex, name, value)
            : WriteIndexable(target, nameIndex, new HpackName(pseudo, KnownField.Other), name, value);

    private int WriteIndexable(Span<byte> target, int nameIndex, HpackName classified, ReadOnlySpan<byte> name, ReadOnlySpan<byte> value)
    {
        var seed = classified.Known != KnownField.Other ? (uint)classified.Known
            : classified.Pseudo != PseudoField.None ? 64u + (uint)classified.Pseudo
            : Hash(128, name);
        var hash = Hash(seed, value);
        var oldest = _table.Inserted - _table.Count;
        for (var number = _newest[hash % Buckets]; number > oldest; number = _links[(int)(number % _links.Length)].Previous)
        {
            ref readonly var link = ref _links[(int)(number % _links.Length)];
            var index = (int)(_table.Inserted - number);
            if (link.Hash == hash && _table.Value(index).SequenceEqual(value) && _table.Name(index).SequenceEqual(name))
            {
                return WriteIndexed(target, HpackStaticTable.Count + 1 + index);
            }
        }

        ref var seen = ref _seenOnce[(hash >> 8) % (uint)_seenOnce.Length];
        if (seen != hash)
        {
            seen = hash;
            return WriteLiteral(target, 0x00, 4, nameIndex, name, value);
        }

        var written = WriteLiteral(target, 0x40, 6, nameIndex, name, value);
        if (_table.Insert(classified, name, value))
        {
            var number = _table.Inserted;
            _links[(int)(number % _links.Length)] = new Link(hash, _newest[hash % Buckets]);
            _newest[hash % Buckets] = number;
        }

        return written;
    }

    private int BeginBlock(Span<byte> target)
    {
        if (_pendingSize < 0)
        {
            return 0;
        }

        // Both the smallest size in between and the last one must be told (RFC 7541 section 4.2).
        var written = 0;
        if (_smallestPendingSize < _pendingSize)
        {
            _table.SetMaxSize(_smallestPendingSize);
            written += HpackInteger.Write(target, 0x20, 5, _smallestPendingSize);
        }

        _table.SetMaxSize(_pendingSize);
        written += HpackInteger.Write(target[written..], 0x20, 5, _pendingSize);
        _pendingSize = _smallestPendingSize = -1;
        return written;
    }

    private static bool IsNever(byte never, PseudoField pseudo) => (never & (1 << (int)pseudo)) != 0;

    private static int WriteNeverIndexed(Span<byte> target, int nameIndex, ReadOnlySpan<byte> value) => WriteLiteral(target, 0x10, 4, nameIndex, default, value);

    private static int WriteIndexed(Span<byte> target, int index) => HpackInteger.Write(target, 0x80, 7, index);

    private static int WriteLiteral(Span<byte> target, byte pattern, int prefixBits, int nameIndex, ReadOnlySpan<byte> name, ReadOnlySpan<byte> value)
    {
        var written = HpackInteger.Write(target, pattern, prefixBits, nameIndex);
        if (nameIndex == 0)
        {
            written += HpackInteger.Write(target[written..], 0, 7, name.Length);
            name.CopyTo(target[written..]);
            written += name.Length;
        }

        written += HpackInteger.Write(target[written..], 0, 7, value.Length);
        value.CopyTo(target[written..]);
        return written + value.Length;
    }

    // What makes a tunnel in HTTP/1.1 has no place in HTTP/2, where the stream itself is the tunnel (RFC 8441 section 5, RFC 9113 section 8.2.2).
    private static bool IsOfHandshake(in FieldLine line) => line.Known is KnownField.Connection or KnownField.Upgrade or KnownField.KeepAlive
        or KnownField.ProxyConnection or KnownField.TransferEncoding or KnownField.ContentLength or KnownField.SecWebSocketKey or KnownField.SecWebSocketAccept;

    private static bool MayRepeat(KnownField field) => field is not (KnownField.ContentLength or KnownField.ETag or KnownField.IfNoneMatch
        or KnownField.IfModifiedSince or KnownField.LastModified or KnownField.Location or KnownField.TraceParent or KnownField.TraceState
        or KnownField.XRequestId or KnownField.XRequestTimeout or KnownField.GrpcTimeout or KnownField.Baggage);

    private static uint Hash(uint seed, ReadOnlySpan<byte> bytes)
    {
        const ulong Multiplier = 0x9E3779B97F4A7C15;
        var hash = (seed + 1) * Multiplier;
        while (bytes.Length >= 8)
        {
            hash = (hash ^ BinaryPrimitives.ReadUInt64LittleEndian(bytes)) * Multiplier;
            hash ^= hash >> 29;
            bytes = bytes[8..];
        }

        ulong tail = (uint)bytes.Length;
        foreach (var b in bytes)
        {
            tail = (tail << 8) | b;
        }

        hash = (hash ^ tail) * Multiplier;
        return (uint)(hash >> 32) ^ (uint)hash;
    }

    private readonly record struct Link(uint Hash, long Previous);
}
