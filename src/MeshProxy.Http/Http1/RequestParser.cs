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

        if (!BodyFraming.TryForRequest(_head, Limits, out var framing, out var error))
        {
            Fail(error);
            return false;
        }

        Framing = framing;
        Connection = ConnectionOptionsReader.Read(_head.Fields);
        if (_head.Version == HttpProtocolVersion.Http11)
        {
            if (framing.Kind != BodyKind.None && _head.Fields.TryGet(KnownField.Expect, out var expectation))
            {
                ExpectsContinue = Ascii.EqualsIgnoreCase(expectation, "100-continue"u8);
            }

            if ((Connection & ConnectionOptions.Upgrade) != 0)
            {
                ReadUpgrade();
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

        if (!Ascii.EqualsIgnoreCase(target[..prefix], _scheme))
        {
            Fail(400, "target_scheme_differs");
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

    // RFC 9110 section 7.8. h2c (RFC 9113 section 3.1 has withdrawn it) is passed over: the request is served as HTTP/1.1.
    private void ReadUpgrade()
    {
        for (var i = 0; i < _head.Fields.Count; i++)
        {
            var line = _head.Fields[i];
            if (line.Known != KnownField.Upgrade)
            {
                continue;
            }

            var rest = line.Value;
            while (!rest.IsEmpty)
            {
                var protocol = Http1Syntax.NextElement(ref rest);
                if (!protocol.IsEmpty && !Ascii.EqualsIgnoreCase(protocol, "h2c"u8))
                {
                    _head.SetProtocol(protocol);
                    return;
                }
            }
        }
    }
}
