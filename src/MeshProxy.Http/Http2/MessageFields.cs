using System.Buffers.Text;
using MeshProxy.Http.Fields;
using MeshProxy.Http.Http1;
using MeshProxy.Http.Http2.Hpack;

namespace MeshProxy.Http.Http2;

/// <summary>What a decoded field block is.</summary>
internal enum FieldBlockVerdict : byte
{
    Ok,

    /// <summary>A stream error PROTOCOL_ERROR (RFC 9113 section 8.1.1); <see cref="MessageFields.Detail"/> says why.</summary>
    Malformed,

    /// <summary>Larger than our limits: 431.</summary>
    TooLarge,
}

/// <summary>
/// Receives the field lines of one block and makes a request, a response or trailers of them, by the rules of RFC 9113 sections 8.1 to 8.3.
/// It goes on after an error, so that HPACK stays in step, but keeps nothing more. Host becomes the authority, cookie crumbs become one line.
/// Owned by the connection's read loop.
/// </summary>
internal sealed class MessageFields(Http2Limits limits, bool allowExtendedConnect) : IFieldLineSink
{
    /// <summary>Above this many times the limit a block is not even decoded to its end.</summary>
    public const int HardLimitFactor = 4;

    private const int LineOverhead = 32;

    private RequestHead? _request;
    private ResponseHead? _response;
    private FieldMap? _fields;
    private FieldBlockVerdict _verdict;
    private long _size;
    private int _count;
    private uint _pseudoSeen;
    private bool _regularSeen;
    private bool _hostSeen;
    private string? _condemned;
    private bool _pathIsAsterisk;
    private long _contentLength;
    private byte[] _cookies = new byte[256];
    private int _cookieLength;
    private int _cookieCount;

    /// <summary>Why the block is malformed or too large; snake_case.</summary>
    public string Detail { get; private set; } = "";

    /// <summary>The Content-Length, or -1.</summary>
    public long ContentLength => _contentLength;

    public void BeginRequest(RequestHead head)
    {
        head.Clear();
        head.Version = HttpProtocolVersion.Http2;
        Begin(head, null, head.Fields);
    }

    public void BeginResponse(ResponseHead head)
    {
        head.Clear();
        head.Version = HttpProtocolVersion.Http2;
        Begin(null, head, head.Fields);
    }

    public void BeginTrailers(FieldMap trailers)
    {
        trailers.Clear();
        Begin(null, null, trailers);
    }

    /// <summary>For blocks that only have to keep HPACK in step.</summary>
    public void BeginDiscard() => Begin(null, null, null);

    /// <summary>Makes the next block malformed, whatever is in it.</summary>
    public void Condemn(string detail) => _condemned = detail;

    /// <summary>Judges the whole block.</summary>
    public FieldBlockVerdict End()
    {
        if (_fields is null || _verdict != FieldBlockVerdict.Ok)
        {
            return _verdict;
        }

        if (_cookieCount > 0)
        {
            _fields.Add(KnownField.Cookie, _cookies.AsSpan(0, _cookieLength));
        }

        if (_request is { } request)
        {
            request.ContentLength = _contentLength;
            EndRequest(request);
        }
        else if (_response is { } response)
        {
            response.ContentLength = _contentLength;
            if (response.Status == 0)
            {
                Malformed("missing_status");
            }
        }

        return _verdict;
    }

    /// <summary>Calls the block malformed.</summary>
    public FieldBlockVerdict Malformed(string detail)
    {
        Detail = detail;
        return _verdict = FieldBlockVerdict.Malformed;
    }

    bool IFieldLineSink.OnFieldLine(HpackName name, ReadOnlySpan<byte> nameBytes, ReadOnlySpan<byte> value, bool neverIndexed)
    {
        // Counted as on the wire, so that neither indexed lines (HPACK bombs) nor cookie crumbs are free.
        _size += nameBytes.Length + value.Length + LineOverhead;
        if (_size > (long)limits.MaxFieldListBytes * HardLimitFactor)
        {
            return false;
        }

        if (_fields is null || _verdict != FieldBlockVerdict.Ok)
        {
            return true;
        }

        if (_size > limits.MaxFieldListBytes)
        {
            _verdict = FieldBlockVerdict.TooLarge;
            Detail = "field_list_too_large";
            return true;
        }

        if (!IsValidValue(value))
        {
            Malformed("invalid_field_value");
            return true;
        }

        if (name.Pseudo != PseudoField.None)
        {
            OnPseudo(name.Pseudo, value, neverIndexed);
            return true;
        }

        _regularSeen = true;
        OnRegular(name.Known, nameBytes, value, neverIndexed);
        return true;
    }

    private void Begin(RequestHead? request, ResponseHead? response, FieldMap? fields)
    {
        _request = request;
        _response = response;
        _fields = fields;
        _verdict = FieldBlockVerdict.Ok;
        _size = 0;
        _count = 0;
        _pseudoSeen = 0;
        _regularSeen = false;
        _hostSeen = false;
        _pathIsAsterisk = false;
        _contentLength = -1;
        _cookieLength = 0;
        _cookieCount = 0;
        if (_condemned is { } detail)
        {
            Malformed(detail);
            _condemned = null;
        }
    }

    private void OnPseudo(PseudoField pseudo, ReadOnlySpan<byte> value, bool neverIndexed)
    {
        var bit = 1u << (int)pseudo;
        if (_regularSeen || (_pseudoSeen & bit) != 0)
        {
            Malformed(_regularSeen ? "pseudo_field_after_field" : "duplicate_pseudo_field");
            return;
        }

        _pseudoSeen |= bit;
        if (_request is { } request)
        {
            request.NeverIndexed |= (byte)(neverIndexed ? bit : 0);
            switch (pseudo)
            {
                case PseudoField.Method when FieldSyntax.IsToken(value):
                    request.SetMethod(value);
                    return;
                case PseudoField.Scheme when FieldSyntax.IsScheme(value):
                    request.SetScheme(value);
                    return;
                case PseudoField.Authority when AuthorityRules.IsValid(value):
                    request.SetAuthority(value);
                    return;
                case PseudoField.Path when FieldSyntax.IsPath(value):
                    _pathIsAsterisk = value.Length == 1 && value[0] == (byte)'*';
                    request.SetPath(value);
                    return;
                case PseudoField.Protocol when FieldSyntax.IsToken(value) && allowExtendedConnect:
                    request.SetProtocol(value);
                    return;
            }
        }
        else if (_response is { } response && pseudo == PseudoField.Status && value.Length == 3
            && Utf8Parser.TryParse(value, out int status, out var used) && used == 3 && status is >= 100 and <= 599 and not 101)
        {
            response.Status = status;
            return;
        }

        Malformed("invalid_pseudo_field");
    }

    private void OnRegular(KnownField known, ReadOnlySpan<byte> name, ReadOnlySpan<byte> value, bool neverIndexed)
    {
        switch (known)
        {
            case KnownField.Other:
                if (!FieldSyntax.IsLowerCaseToken(name))
                {
                    Malformed("invalid_field_name");
                    return;
                }

                break;
            case KnownField.Connection or KnownField.KeepAlive or KnownField.ProxyConnection or KnownField.TransferEncoding or KnownField.Upgrade:
            case KnownField.Te when !value.SequenceEqual("trailers"u8):
                // RFC 9113 section 8.2.2.
                Malformed("connection_specific_field");
                return;
            default:
                // A known name is matched in any case; in HTTP/2 only lower case is legal.
                if (!name.SequenceEqual(KnownFields.Name(known)))
                {
                    Malformed("invalid_field_name");
                    return;
                }

                break;
        }

        var fields = _fields!;
        if (_request is null && _response is null)
        {
            // Trailers: fields that frame or route the message have no say any more (RFC 9110 section 6.5.1).
            if (known is KnownField.ContentLength or KnownField.Host or KnownField.Trailer)
            {
                return;
            }
        }
        else if (known == KnownField.ContentLength)
        {
            if (!TryParseLength(value, out var length) || (_contentLength >= 0 && length != _contentLength))
            {
                Malformed("invalid_content_length");
                return;
            }

            if (_contentLength >= 0)
            {
                return;
            }

            _contentLength = length;
        }
        else if (_request is { } request)
        {
            if (known == KnownField.Host)
            {
                OnHost(request, value);
                return;
            }

            if (known == KnownField.Cookie)
            {
                OnCookie(value);
                return;
            }
        }

        if (!HasRoom())
        {
            return;
        }

        if (known == KnownField.Other)
        {
            fields.Add(name, value, neverIndexed);
        }
        else
        {
            fields.Add(known, value, neverIndexed);
        }
    }

    // RFC 9113 section 8.3.1: a Host that names something else than :authority makes the request malformed.
    private void OnHost(RequestHead request, ReadOnlySpan<byte> value)
    {
        if (_hostSeen || !AuthorityRules.IsValid(value) || (!request.Authority.IsEmpty && !AuthorityRules.AreEqual(request.Authority, value, request.Scheme)))
        {
            Malformed("host_disagrees_with_authority");
            return;
        }

        _hostSeen = true;
        if (request.Authority.IsEmpty)
        {
            request.SetAuthority(value);
        }
    }

    // RFC 9113 section 8.2.3.
    private void OnCookie(ReadOnlySpan<byte> crumb)
    {
        if (_cookieCount == 0 && !HasRoom())
        {
            return;
        }

        var separator = _cookieCount++ == 0 ? ""u8 : "; "u8;
        var needed = _cookieLength + separator.Length + crumb.Length;
        if (needed > _cookies.Length)
        {
            Array.Resize(ref _cookies, Math.Max(needed, _cookies.Length * 2));
        }

        separator.CopyTo(_cookies.AsSpan(_cookieLength));
        crumb.CopyTo(_cookies.AsSpan(_cookieLength + separator.Length));
        _cookieLength = needed;
    }

    private void EndRequest(RequestHead request)
    {
        const uint Method = 1u << (int)PseudoField.Method;
        const uint Scheme = 1u << (int)PseudoField.Scheme;
        const uint Path = 1u << (int)PseudoField.Path;
        const uint Authority = 1u << (int)PseudoField.Authority;
        const uint Protocol = 1u << (int)PseudoField.Protocol;

        var isConnect = request.Method == RequestMethod.Connect;
        var isExtended = (_pseudoSeen & Protocol) != 0;
        if ((_pseudoSeen & Method) == 0)
        {
            Malformed("missing_method");
        }
        else if (isExtended && !isConnect)
        {
            Malformed("protocol_without_connect");
        }
        else if (isConnect && _contentLength > 0)
        {
            // The bytes of a tunnel are no content (RFC 9110 section 9.3.6).
            Malformed("content_length_in_connect");
        }
        else if (isConnect && !isExtended)
        {
            // RFC 9113 section 8.5.
            if ((_pseudoSeen & (Scheme | Path)) != 0 || (_pseudoSeen & Authority) == 0 || !AuthorityRules.HasPort(request.Authority))
            {
                Malformed("invalid_connect");
            }
        }
        else if ((_pseudoSeen & (Scheme | Path)) != (Scheme | Path))
        {
            Malformed("missing_pseudo_field");
        }
        else if (request.Authority.IsEmpty)
        {
            Malformed("missing_authority");
        }
        else if (_pathIsAsterisk && request.Method != RequestMethod.Options)
        {
            Malformed("invalid_path");
        }

        if (isConnect && _verdict == FieldBlockVerdict.Ok)
        {
            EndConnect(request, isExtended);
        }
    }

    // An extended CONNECT looks to its reader like the Upgrade of HTTP/1.1 (see RequestHead.Protocol).
    private void EndConnect(RequestHead request, bool isExtended)
    {
        request.Fields.Remove(KnownField.ContentLength);
        request.ContentLength = _contentLength = -1;
        if (isExtended)
        {
            request.SetMethod("GET"u8);
        }
    }

    private bool HasRoom()
    {
        if (++_count <= limits.MaxFieldCount)
        {
            return true;
        }

        _verdict = FieldBlockVerdict.TooLarge;
        Detail = "too_many_fields";
        return false;
    }


    // RFC 9113 section 8.2.1, and control characters, which HTTP/1.1 could not carry either.
    private static bool IsValidValue(ReadOnlySpan<byte> value) => value.IsEmpty
        || (value[0] is not ((byte)' ' or (byte)'\t') && value[^1] is not ((byte)' ' or (byte)'\t') && !FieldSyntax.HasControls(value));

    private static bool TryParseLength(ReadOnlySpan<byte> value, out long length)
    {
        length = 0;
        if (value.IsEmpty || value.Length > 18)
        {
            return false;
        }

        foreach (var b in value)
        {
            if ((uint)(b - '0') > 9)
            {
                return false;
            }

            length = (length * 10) + (b - '0');
        }

        return true;
    }
}
