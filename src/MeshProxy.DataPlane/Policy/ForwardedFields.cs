using System.Buffers;
using System.Net;
using System.Runtime.CompilerServices;
using System.Text;
using MeshProxy.DataPlane.Telemetry;
using MeshProxy.Http;
using MeshProxy.Http.Fields;
using MeshProxy.Model.Config;

namespace MeshProxy.DataPlane.Policy;

/// <summary>
/// Where a request came from: X-Forwarded-For, -Proto and -Host, and Forwarded (RFC 7239). Every proxy adds its own peer at the right, so that only as many
/// elements from the right can be believed as there are proxies of ours in front; the leftmost of those is the client. A list that is shorter did not come
/// through all of them: nothing in it is believed. Where it is believed, so is the scheme that the same proxies tell: redirects are made with it.
/// </summary>
internal sealed class ForwardedFields(ForwardedConfig config)
{
    private const int OnStack = 1024;

    private readonly bool _writesXForwarded = config.Format != ForwardedFormat.Forwarded;
    private readonly bool _writesForwarded = config.Format != ForwardedFormat.XForwarded;

    // Which list tells the client: the one that our proxies write.
    private readonly KnownField _chain = config.Format == ForwardedFormat.Forwarded ? KnownField.Forwarded : KnownField.XForwardedFor;

    /// <summary>Removes everything of the kind.</summary>
    public static void RemoveAll(FieldMap fields)
    {
        fields.Remove(KnownField.Forwarded);
        fields.Remove(KnownField.XForwardedFor);
        fields.Remove(KnownField.XForwardedProto);
        fields.Remove(KnownField.XForwardedHost);
        RemoveOthers(fields);
    }

    /// <summary>Tells the record who the client is, and brings the fields into the shape that the listener wants.</summary>
    public void Apply(RequestHead request, RequestRecord record)
    {
        var fields = request.Fields;
        var isTrusted = false;
        if (config.TrustedHops > 0)
        {
            var count = Count(fields, _chain);
            isTrusted = count >= config.TrustedHops;
            if (isTrusted)
            {
                var client = Element(fields, _chain, count - config.TrustedHops);
                record.SetClient(AddressOf(client, _chain));
                record.SetClientScheme(SchemeOf(client, fields));
            }
        }

        switch (config.Mode)
        {
            case ForwardedMode.Pass:
                return;
            case ForwardedMode.Remove:
                RemoveAll(fields);
                return;
            case ForwardedMode.Replace when !isTrusted:
                RemoveOthers(fields);
                break;
        }

        var source = record.Connection!.SourceAddressText;
        if (_writesXForwarded)
        {
            Extend(request, KnownField.XForwardedFor, source);
            Settle(fields, KnownField.XForwardedProto, request.Scheme, isTrusted);
            Settle(fields, KnownField.XForwardedHost, request.Authority, isTrusted);
        }
        else
        {
            fields.Remove(KnownField.XForwardedFor);
            fields.Remove(KnownField.XForwardedProto);
            fields.Remove(KnownField.XForwardedHost);
        }

        if (_writesForwarded)
        {
            Extend(request, KnownField.Forwarded, source);
        }
        else
        {
            fields.Remove(KnownField.Forwarded);
        }
    }

    /// <summary>What else tells a client's address in the world, by names with hyphens or underscores.</summary>
    private static void RemoveOthers(FieldMap fields)
    {
        for (var i = fields.Count - 1; i >= 0; i--)
        {
            var line = fields[i];
            if (line.Known == KnownField.Other && line.Name[0] is (byte)'x' or (byte)'t'
                && (FieldNames.StartsWith(line.Name, "x-forwarded"u8) || FieldNames.AreEqual(line.Name, "x-real-ip"u8)
                    || FieldNames.AreEqual(line.Name, "x-client-ip"u8) || FieldNames.AreEqual(line.Name, "true-client-ip"u8)))
            {
                fields.RemoveAt(i);
            }
        }
    }

    /// <summary>One line of what is kept and our own element: recipients that read one line alone read all of it.</summary>
    [SkipLocalsInit]
    private void Extend(RequestHead request, KnownField list, ReadOnlySpan<byte> source)
    {
        var fields = request.Fields;
        var count = Count(fields, list);
        var kept = config.Mode == ForwardedMode.Append ? count : count >= config.TrustedHops ? config.TrustedHops : 0;
        var bound = source.Length + request.Authority.Length + request.Scheme.Length + 64;
        for (var i = 0; kept > 0 && i < fields.Count; i++)
        {
            bound += fields[i].Known == list ? fields[i].Value.Length + 2 : 0;
        }

        byte[]? rented = null;
        var text = bound <= OnStack ? stackalloc byte[OnStack] : rented = ArrayPool<byte>.Shared.Rent(bound);
        var writer = new ValueWriter(text);
        for (var i = count - kept; i < count; i++)
        {
            writer.Write(Element(fields, list, i));
            writer.Write(", "u8);
        }

        if (list == KnownField.XForwardedFor)
        {
            writer.Write(source);
        }
        else
        {
            WriteForwarded(ref writer, request, source);
        }

        fields.Set(list, writer.Written);
        if (rented is not null)
        {
            ArrayPool<byte>.Shared.Return(rented);
        }
    }

    // RFC 7239 section 4 and 6: an IPv6 address stands in brackets and quotes.
    private static void WriteForwarded(ref ValueWriter writer, RequestHead request, ReadOnlySpan<byte> source)
    {
        var isIPv6 = source.Contains((byte)':');
        writer.Write(isIPv6 ? "for=\"["u8 : "for="u8);
        writer.Write(source);
        writer.Write(isIPv6 ? "]\""u8 : default);
        if (!request.Authority.IsEmpty)
        {
            writer.Write(";host=\""u8);
            writer.Write(request.Authority);
            writer.Write("\""u8);
        }

        writer.Write(";proto="u8);
        writer.Write(request.Scheme);
    }

    // No list: what a proxy of ours said stays, otherwise it is what we see.
    private static void Settle(FieldMap fields, KnownField field, ReadOnlySpan<byte> seen, bool isTrusted)
    {
        if (isTrusted && fields.CountOf(field) == 1)
        {
            return;
        }

        fields.Remove(field);
        if (!seen.IsEmpty)
        {
            fields.Add(field, seen);
        }
    }

    private static int Count(FieldMap fields, KnownField list)
    {
        var count = 0;
        for (var i = 0; i < fields.Count && fields.Contains(list); i++)
        {
            if (fields[i].Known == list)
            {
                var rest = fields[i].Value;
                while (!rest.IsEmpty)
                {
                    count += NextElement(ref rest, list).IsEmpty ? 0 : 1;
                }
            }
        }

        return count;
    }

    private static ReadOnlySpan<byte> Element(FieldMap fields, KnownField list, int index)
    {
        for (var i = 0; i < fields.Count; i++)
        {
            if (fields[i].Known == list)
            {
                var rest = fields[i].Value;
                while (!rest.IsEmpty)
                {
                    var element = NextElement(ref rest, list);
                    if (!element.IsEmpty && index-- == 0)
                    {
                        return element;
                    }
                }
            }
        }

        return default;
    }

    // RFC 9110 section 5.6.1; in Forwarded a comma may stand in a quoted string (section 5.6.4). X-Forwarded-For has no quotes.
    private static ReadOnlySpan<byte> NextElement(scoped ref ReadOnlySpan<byte> rest, KnownField list) =>
        Next(ref rest, (byte)',', isQuoted: list == KnownField.Forwarded);

    private static ReadOnlySpan<byte> Next(scoped ref ReadOnlySpan<byte> rest, byte separator, bool isQuoted)
    {
        var inQuotes = false;
        for (var i = 0; i < rest.Length; i++)
        {
            var b = rest[i];
            if (isQuoted && b == (byte)'"')
            {
                inQuotes = !inQuotes;
            }
            else if (inQuotes && b == (byte)'\\')
            {
                i++;
            }
            else if (!inQuotes && b == separator)
            {
                var element = rest[..i].Trim(" \t"u8);
                rest = rest[(i + 1)..];
                return element;
            }
        }

        var last = rest.Trim(" \t"u8);
        rest = default;
        return last;
    }

    /// <summary>The IP address that an element names; empty when it names none ("unknown", an obfuscated name, nonsense).</summary>
    private static ReadOnlySpan<byte> AddressOf(ReadOnlySpan<byte> element, KnownField list)
    {
        var node = list == KnownField.Forwarded ? ParameterOf(element, "for"u8) : element;
        if (!node.IsEmpty && node[0] == (byte)'[')
        {
            var close = node.IndexOf((byte)']');
            node = close > 0 ? node[1..close] : default;
        }
        else if (node.Count((byte)':') == 1)
        {
            node = node[..node.IndexOf((byte)':')];
        }

        return IPAddress.IsValidUtf8(node) ? node : default;
    }

    /// <summary>What the proxy that met the client says it spoke; empty when it does not say, or says several things. X-Forwarded-Proto is no list: a proxy
    /// behind the first one hands on what came.</summary>
    private ReadOnlySpan<byte> SchemeOf(ReadOnlySpan<byte> client, FieldMap fields) =>
        _chain == KnownField.Forwarded ? ParameterOf(client, "proto"u8)
        : fields.CountOf(KnownField.XForwardedProto) == 1 && fields.TryGet(KnownField.XForwardedProto, out var told) ? told
        : default;

    private static ReadOnlySpan<byte> ParameterOf(ReadOnlySpan<byte> element, ReadOnlySpan<byte> name)
    {
        while (!element.IsEmpty)
        {
            var pair = Next(ref element, (byte)';', isQuoted: true);
            if (pair.Length > name.Length + 1 && pair[name.Length] == (byte)'=' && Ascii.EqualsIgnoreCase(pair[..name.Length], name))
            {
                var value = pair[(name.Length + 1)..];
                return value.Length > 1 && value[0] == (byte)'"' && value[^1] == (byte)'"' ? value[1..^1] : value;
            }
        }

        return default;
    }

    private ref struct ValueWriter(Span<byte> text)
    {
        private readonly Span<byte> _text = text;
        private int _length;

        public readonly ReadOnlySpan<byte> Written => _text[.._length];

        public void Write(ReadOnlySpan<byte> value)
        {
            value.CopyTo(_text[_length..]);
            _length += value.Length;
        }
    }
}
