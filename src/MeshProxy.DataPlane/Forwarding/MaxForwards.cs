using System.Buffers.Text;
using MeshProxy.Http;
using MeshProxy.Http.Fields;

namespace MeshProxy.DataPlane.Forwarding;

/// <summary>How far a request may still go.</summary>
internal enum MaxForwardsVerdict
{
    /// <summary>On; the field tells one forward less.</summary>
    GoesOn,

    /// <summary>No further: we are its last recipient.</summary>
    EndsHere,

    /// <summary>Nobody can tell.</summary>
    Malformed,
}

/// <summary>
/// Max-Forwards in TRACE and OPTIONS (RFC 9110 section 7.6.2): each intermediary counts down, and the one that receives 0 answers itself. Every data plane of ours on the way is one.
/// In other methods the field may be ignored, and is. The grammar is digits alone, once; what else stands there is refused (Apache answers 400 too): a bound on a chain of
/// proxies that each of them reads in its own way is none.
/// </summary>
internal static class MaxForwards
{
    // "A recipient's maximum supported value": what is larger goes on as this.
    private const int MaxDigits = 9;
    private const int MaxValue = 999_999_999;

    private static ReadOnlySpan<byte> Name => "max-forwards"u8;

    /// <summary>Counts a forward down.</summary>
    public static MaxForwardsVerdict Step(FieldMap fields)
    {
        var at = fields.IndexOf(Name, 0);
        if (at < 0)
        {
            return MaxForwardsVerdict.GoesOn;
        }

        var digits = fields[at].Value;
        if (digits.IsEmpty || digits.IndexOfAnyExceptInRange((byte)'0', (byte)'9') >= 0 || fields.IndexOf(Name, at + 1) >= 0)
        {
            return MaxForwardsVerdict.Malformed;
        }

        digits = digits.TrimStart((byte)'0');
        if (digits.IsEmpty)
        {
            return MaxForwardsVerdict.EndsHere;
        }

        var left = digits.Length <= MaxDigits && Utf8Parser.TryParse(digits, out int value, out _) ? value - 1 : MaxValue;

        Span<byte> text = stackalloc byte[MaxDigits];
        Utf8Formatter.TryFormat(left, text, out var length);
        fields.RemoveAt(at);
        fields.Add(Name, text[..length]);
        return MaxForwardsVerdict.GoesOn;
    }

    /// <summary>
    /// What the last recipient answers. A TRACE gets back what tells its way, and nothing else (RFC 9110 section 9.3.8 wants no field there that may hold a secret): request line
    /// without query, Host, Via, Max-Forwards. What else a request carries may be somebody's credential by whatever name, so the list names what is told, not what is left out.
    /// </summary>
    public static byte[] Answer(RequestHead request, FieldMap answer)
    {
        if (request.Method != RequestMethod.Trace)
        {
            answer.Add(KnownField.ContentType, "text/plain; charset=utf-8"u8);
            return "max_forwards: this proxy answers itself, because the request was to go no further\n"u8.ToArray();
        }

        answer.Add(KnownField.ContentType, "message/http"u8);
        var body = new MemoryStream();
        var path = request.Path;
        var query = path.IndexOf((byte)'?');
        body.Write("TRACE "u8);
        body.Write(query < 0 ? path : path[..query]);
        body.Write(request.Version switch
        {
            HttpProtocolVersion.Http10 => " HTTP/1.0\r\n"u8,
            HttpProtocolVersion.Http11 => " HTTP/1.1\r\n"u8,
            _ => " HTTP/2.0\r\n"u8,
        });
        Write(body, "host"u8, request.Authority);
        for (var i = 0; i < request.Fields.Count; i++)
        {
            var line = request.Fields[i];
            if (line.Known == KnownField.Via || line.Name.SequenceEqual(Name))
            {
                Write(body, line.Name, line.Value);
            }
        }

        body.Write("\r\n"u8);
        return body.ToArray();
    }

    private static void Write(MemoryStream body, ReadOnlySpan<byte> name, ReadOnlySpan<byte> value)
    {
        body.Write(name);
        body.Write(": "u8);
        body.Write(value);
        body.Write("\r\n"u8);
    }
}
