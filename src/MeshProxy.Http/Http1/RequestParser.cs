using System.Text;
using MeshProxy.Http.Fields;

namespace MeshProxy.Http.Http1;

/// <summary>
/// Bytes to a <see cref="RequestHead"/> (RFC 9112 sections 3 and 5). One empty line before the request line is skipped (section 2.2).
/// After <see cref="Http1ParseStatus.Done"/> the head's target, authority, version and body framing have been judged.
/// </summary>
public sealed class RequestParser : HeadParser
{
    private readonly RequestHead _head;
    private readonly byte[] _scheme;
    private bool _skippedEmptyLine;
    private bool _hasHost;
    private bool _isAbsolute;

    /// <summary>Fills <paramref name="head"/>; <paramref name="scheme"/> is what the connection speaks, "http" or "https".</summary>
    public RequestParser(RequestHead head, byte[] scheme, Http1Limits limits)
        : base(limits)
    {
        _head = head;
        _scheme = scheme;
    }

    /// <summary>How the body ends.</summary>
    public BodyFraming Framing { get; private set; }

    /// <summary>What Connection said.</summary>
    internal ConnectionOptions Connection { get; private set; }

    /// <summary>True when an HTTP/1.1 client waits for 100 before it sends the body (RFC 9110 section 10.1.1).</summary>
    public bool ExpectsContinue { get; private set; }

    /// <inheritdoc/>
    private protected override FieldMap Fields => _head.Fields;

    /// <inheritdoc/>
    public override void Reset()
    {
        base.Reset();
        _head.Clear();
        _skippedEmptyLine = false;
        _hasHost = false;
        _isAbsolute = false;
        Framing = default;
        Connection = default;
        ExpectsContinue = false;
    }

    private protected override Http1ParseStatus ParseStartLine(ReadOnlySpan<byte> input, out int consumed)
    {
        consumed = 0;
        if (input[0] == '\r')
        {
            if (_skippedEmptyLine)
            {
                return Fail(400, "invalid_method");
            }

            if (input.Length == 1)
            {
                return Http1ParseStatus.NeedMore;
            }

            if (input[1] != '\n')
            {
                return Fail(400, "bare_cr");
            }

            _skippedEmptyLine = true;
            consumed = 2;
            input = input[2..];
            if (input.IsEmpty)
            {
                return Http1ParseStatus.NeedMore;
            }
        }

        var isClipped = input.Length >= Limits.MaxStartLineBytes;
        var status = ParseRequestLine(isClipped ? input[..Limits.MaxStartLineBytes] : input, out var used);
        consumed += used;
        return status == Http1ParseStatus.NeedMore && isClipped ? Fail(414, "request_line_too_long") : status;
    }

    private protected override bool TakeField(KnownField name, ReadOnlySpan<byte> value)
    {
        if (name != KnownField.Host)
        {
            return false;
        }

        if (_hasHost)
        {
            Fail(400, "several_hosts");
        }
        else if (!AuthorityRules.IsValid(value))
        {
            Fail(400, "invalid_host");
        }

        _hasHost = true;
        _head.SetAuthority(value);
        return true;
    }

    private protected override bool Finish()
    {
        if (!_hasHost && _head.Version == HttpProtocolVersion.Http11)
        {
            Fail(400, "missing_host");
            return false;
        }

        _head.SetScheme(_scheme);
        if (!ResolveTarget())
        {
            return false;
        }

        if (!ConnectionOptionsReader.TryRead(_head.Fields, Limits.MaxFields, out var options))
        {
            Fail(431, "too_many_connection_options");
            return false;
        }

        // An HTTP/1.0 client that takes us for its proxy may have passed on a keep-alive that it does not understand itself (RFC 9112 section 9.3).
        Connection = _isAbsolute && _head.Version == HttpProtocolVersion.Http10 ? options & ~ConnectionOptions.KeepAlive : options;
        if (!ReadUpgrade())
        {
            return false;
        }

        if (!BodyFraming.TryForRequest(_head, Limits, out var framing, out var error))
        {
            Fail(error);
            return false;
        }

        Framing = framing;
        return _head.Version == HttpProtocolVersion.Http10 || !_head.Fields.Contains(KnownField.Expect) || ReadExpectations();
    }

    // RFC 9110 section 10.1.1: 100-continue means something only before content; HTTP/1.0 does not know it. Anything else would have to be understood by all
    // who pass it on, and is not by us.
    private bool ReadExpectations()
    {
        for (var i = 0; i < _head.Fields.Count; i++)
        {
            var line = _head.Fields[i];
            var rest = line.Known == KnownField.Expect ? line.Value : default;
            while (!rest.IsEmpty)
            {
                var expectation = Http1Syntax.NextElement(ref rest);
                if (Ascii.EqualsIgnoreCase(expectation, "100-continue"u8))
                {
                    ExpectsContinue = Framing.Kind is BodyKind.Length or BodyKind.Chunked;
                }
                else if (!expectation.IsEmpty)
                {
                    Fail(417, "unknown_expectation");
                    return false;
                }
            }
        }

        return true;
    }

    private Http1ParseStatus ParseRequestLine(ReadOnlySpan<byte> input, out int consumed)
    {
        consumed = 0;
        var methodEnd = input.IndexOfAnyExcept(Http1Syntax.Token);
        if (methodEnd < 0 ? input.Length > Limits.MaxMethodBytes : methodEnd > Limits.MaxMethodBytes)
        {
            return Fail(501, "method_too_long");
        }

        if (methodEnd < 0)
        {
            return Http1ParseStatus.NeedMore;
        }

        if (methodEnd == 0 || input[methodEnd] != ' ')
        {
            return Fail(400, "invalid_method");
        }

        var rest = input[(methodEnd + 1)..];
        var targetEnd = rest.IndexOfAnyExcept(Http1Syntax.Target);
        if (targetEnd < 0)
        {
            return Http1ParseStatus.NeedMore;
        }

        if (targetEnd == 0 || rest[targetEnd] != ' ')
        {
            return Fail(400, "invalid_target");
        }

        var version = rest[(targetEnd + 1)..];
        var status = StartLine.ReadVersion(version, out var parsed, out var isKnown);
        if (status != Http1ParseStatus.Done)
        {
            return status == Http1ParseStatus.NeedMore ? status : Fail(400, "invalid_version");
        }

        var end = version[StartLine.VersionLength..];
        if (end.IsEmpty || (end[0] == '\r' && end.Length == 1))
        {
            return Http1ParseStatus.NeedMore;
        }

        if (end[0] != '\r' || end[1] != '\n')
        {
            return Fail(400, end[0] == '\n' ? "bare_lf" : end[0] == '\r' ? "bare_cr" : "invalid_version");
        }

        if (!isKnown)
        {
            return Fail(505, "unsupported_version");
        }

        _head.SetMethod(input[..methodEnd]);
        _head.SetPath(rest[..targetEnd]);
        _head.Version = parsed;
        consumed = methodEnd + 1 + targetEnd + 1 + StartLine.VersionLength + 2;
        return Http1ParseStatus.Done;
    }

    // RFC 9112 section 3.2: which of the four forms it is; the authority of target and Host must be one.
    private bool ResolveTarget()
    {
        var target = _head.Path;
        if (_head.Method == RequestMethod.Connect)
        {
            // RFC 9110 section 9.3.6: an empty or invalid port must be refused.
            if (!AuthorityRules.IsValid(target) || !AuthorityRules.HasPort(target))
            {
                Fail(400, "invalid_target");
                return false;
            }

            return TakeAuthority(target, default);
        }

        if (target[0] == '/')
        {
            return true;
        }

        if (target.SequenceEqual("*"u8))
        {
            if (_head.Method == RequestMethod.Options)
            {
                return true;
            }

            Fail(400, "invalid_target");
            return false;
        }

        _isAbsolute = true;
        return ResolveAbsolute(target);
    }

    private bool ResolveAbsolute(ReadOnlySpan<byte> target)
    {
        var prefix = target.IndexOf("://"u8);
        if (prefix <= 0)
        {
            Fail(400, "invalid_target");
            return false;
        }

        var scheme = target[..prefix];
        if (!Ascii.EqualsIgnoreCase(scheme, _scheme))
        {
            // RFC 9112 section 3.3: the target's scheme is the request's. A resource of https is not served over a connection that is not secured, nor one of
            // http as if it were https (RFC 9110 sections 7.4 and 15.5.20). A TLS terminator before us sends origin-form, as to any gateway.
            var isMisdirected = Ascii.EqualsIgnoreCase(scheme, "http"u8) || Ascii.EqualsIgnoreCase(scheme, "https"u8);
            Fail(isMisdirected ? 421 : 400, isMisdirected ? "target_scheme_differs" : "unsupported_target_scheme");
            return false;
        }

        var rest = target[(prefix + 3)..];
        var authorityEnd = rest.IndexOfAny((byte)'/', (byte)'?');
        var authority = authorityEnd < 0 ? rest : rest[..authorityEnd];
        if (!AuthorityRules.IsValid(authority))
        {
            Fail(400, "invalid_target");
            return false;
        }

        var path = authorityEnd < 0 ? default : rest[authorityEnd..];
        if (path.IsEmpty)
        {
            path = _head.Method == RequestMethod.Options ? "*"u8 : "/"u8;
        }
        else if (path[0] == '?')
        {
            Span<byte> rooted = stackalloc byte[512];
            rooted = path.Length < rooted.Length ? rooted : new byte[path.Length + 1];
            rooted[0] = (byte)'/';
            path.CopyTo(rooted[1..]);
            return TakeAuthority(authority, rooted[..(path.Length + 1)]);
        }

        return TakeAuthority(authority, path);
    }

    private bool TakeAuthority(ReadOnlySpan<byte> authority, ReadOnlySpan<byte> path)
    {
        if (!_hasHost)
        {
            _head.SetAuthority(authority);
        }
        else if (!AuthorityRules.AreEqual(authority, _head.Authority, _scheme))
        {
            Fail(400, "target_differs_from_host");
            return false;
        }

        _head.SetPath(path);
        return true;
    }

    // RFC 9110 section 7.8: the first protocol that is offered and could be meant, in an HTTP/1.1 GET whose Connection names Upgrade. Everything else that
    // offers one is served as if it had not: HTTP/1.0, other methods (an HTTP/2 hop could not tell them), h2c (RFC 9113 section 3.1 withdrew it).
    // The offer itself is for this connection and goes no further.
    private bool ReadUpgrade()
    {
        if (!_head.Fields.Contains(KnownField.Upgrade) && !_head.Fields.Contains(KnownField.Http2Settings))
        {
            return true;
        }

        if (_head.Version == HttpProtocolVersion.Http11 && _head.Method == RequestMethod.Get && (Connection & ConnectionOptions.Upgrade) != 0)
        {
            SetProtocol();
        }

        _head.Fields.Remove(KnownField.Upgrade);
        _head.Fields.Remove(KnownField.Http2Settings);
        if (WebSocketHandshake.IsAskedFor(_head.Protocol) && !WebSocketHandshake.TryGetKey(_head.Fields, out _))
        {
            Fail(400, "invalid_websocket_key");
            return false;
        }

        return true;
    }

    private void SetProtocol()
    {
        for (var i = 0; i < _head.Fields.Count; i++)
        {
            var line = _head.Fields[i];
            var rest = line.Known == KnownField.Upgrade ? line.Value : default;
            while (!rest.IsEmpty)
            {
                var protocol = Http1Syntax.NextElement(ref rest);
                if (Http1Syntax.IsProtocol(protocol) && !Ascii.EqualsIgnoreCase(protocol, "h2c"u8))
                {
                    // One spelling for all who compare; HTTP/2 has only this one (RFC 8441 section 5).
                    _head.SetProtocol(WebSocketHandshake.IsAskedFor(protocol) ? "websocket"u8 : protocol);
                    return;
                }
            }
        }
    }
}
