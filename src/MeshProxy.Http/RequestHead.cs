using System.Text;
using MeshProxy.Http.Fields;

namespace MeshProxy.Http;

/// <summary>
/// A request's control data and fields (RFC 9110 section 3.9), the same for every HTTP version. Reused from exchange to exchange: everything it
/// returns is valid until <see cref="Clear"/>. Host is never among <see cref="Fields"/>: it is <see cref="Authority"/>.
/// Upgrade and HTTP2-Settings are consumed by the codec, which says what they ask for in <see cref="Protocol"/>; other hop-by-hop fields are still there until
/// <see cref="HopByHopFields"/> removes them.
/// </summary>
public sealed class RequestHead
{
    private FieldSlice _method;
    private FieldSlice _scheme;
    private FieldSlice _authority;
    private FieldSlice _path;
    private FieldSlice _protocol;

    /// <summary>The method, when it is a registered one.</summary>
    public RequestMethod Method { get; private set; }

    /// <summary>The method's token.</summary>
    public ReadOnlySpan<byte> MethodToken => Method == RequestMethod.Other ? Fields.Slice(_method) : RequestMethods.Token(Method);

    /// <summary>"http" or "https".</summary>
    public ReadOnlySpan<byte> Scheme => Fields.Slice(_scheme);

    /// <summary>The authority: <c>:authority</c>, or Host. Empty when an HTTP/1.0 request had none.</summary>
    public ReadOnlySpan<byte> Authority => Fields.Slice(_authority);

    /// <summary>Path and query as received or rewritten ("/a/b?c=d"), "*" for OPTIONS *, empty for CONNECT.</summary>
    public ReadOnlySpan<byte> Path => Fields.Slice(_path);

    /// <summary>
    /// What the client asks to switch to ("websocket"): the Upgrade token in HTTP/1.1, or the <c>:protocol</c> of an extended CONNECT (RFC 8441), which the codec
    /// hands on with the method GET, so that both versions look alike. Empty otherwise. Such a request has <see cref="EndsStream"/> false and no body of its own:
    /// nothing can be read until a head with <see cref="ResponseHead.IsTunnel"/> was written.
    /// </summary>
    public ReadOnlySpan<byte> Protocol => Fields.Slice(_protocol);

    /// <summary>True for a request that asks for a tunnel: <see cref="Protocol"/>, or a plain CONNECT.</summary>
    public bool AsksForTunnel => _protocol.Length > 0 || Method == RequestMethod.Connect;

    /// <summary>The version it arrived in.</summary>
    public HttpProtocolVersion Version { get; set; }

    /// <summary>True when no body follows.</summary>
    public bool EndsStream { get; set; }

    /// <summary>The declared length of the body in bytes, or -1 when it is not declared. Content-Length stands in <see cref="Fields"/> too.</summary>
    public long ContentLength { get; set; } = -1;

    /// <summary>Whether a body follows that its sender may be keeping back until it hears 100 (RFC 9110 section 10.1.1; from HTTP/1.0 it means nothing).</summary>
    public bool ExpectsContinue => !EndsStream && Version != HttpProtocolVersion.Http10
        && Fields.TryGet(KnownField.Expect, out var expectation) && Ascii.EqualsIgnoreCase(expectation, "100-continue"u8);

    /// <summary>Which of the control data came never-indexed, a bit for each pseudo-field: whoever passes them on in HPACK must encode them so as well
    /// (RFC 7541 section 6.2.3).</summary>
    internal byte NeverIndexed { get; set; }

    /// <summary>The fields, in order of arrival.</summary>
    public FieldMap Fields { get; } = new();

    /// <summary>Sets the method from its token.</summary>
    public void SetMethod(ReadOnlySpan<byte> token)
    {
        Method = RequestMethods.Parse(token);
        _method = Method == RequestMethod.Other ? Fields.Store(token) : default;
    }

    /// <summary>Sets <see cref="Scheme"/>.</summary>
    public void SetScheme(ReadOnlySpan<byte> scheme) => _scheme = Fields.Store(scheme);

    /// <summary>Sets <see cref="Authority"/>.</summary>
    public void SetAuthority(ReadOnlySpan<byte> authority) => _authority = Fields.Store(authority);

    /// <summary>Sets <see cref="Path"/>.</summary>
    public void SetPath(ReadOnlySpan<byte> path) => _path = Fields.Store(path);

    /// <summary>Sets <see cref="Protocol"/>.</summary>
    public void SetProtocol(ReadOnlySpan<byte> protocol) => _protocol = Fields.Store(protocol);

    /// <summary>The bytes of <see cref="Path"/>, to be changed where they lie.</summary>
    internal Span<byte> PathBytes => Fields.MutableSlice(_path);

    /// <summary>Cuts <see cref="Path"/> off.</summary>
    internal void ShortenPath(int length) => _path = _path with { Length = length };

    /// <summary>Makes this a copy of <paramref name="other"/>.</summary>
    public void CopyFrom(RequestHead other)
    {
        Clear();
        SetMethod(other.MethodToken);
        SetScheme(other.Scheme);
        SetAuthority(other.Authority);
        SetPath(other.Path);
        SetProtocol(other.Protocol);
        Version = other.Version;
        EndsStream = other.EndsStream;
        ContentLength = other.ContentLength;
        NeverIndexed = other.NeverIndexed;
        Fields.AddAll(other.Fields);
    }

    /// <summary>Empties the head for the next request; buffers are kept.</summary>
    public void Clear()
    {
        Fields.Clear();
        Method = RequestMethod.Other;
        _method = _scheme = _authority = _path = _protocol = default;
        Version = HttpProtocolVersion.Http11;
        EndsStream = false;
        ContentLength = -1;
        NeverIndexed = 0;
    }
}
