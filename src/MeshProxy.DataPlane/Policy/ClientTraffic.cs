using System.Text;
using MeshProxy.DataPlane.Failures;
using MeshProxy.DataPlane.Telemetry;
using MeshProxy.Http;
using MeshProxy.Http.Fields;
using MeshProxy.Model.Config;

namespace MeshProxy.DataPlane.Policy;

/// <summary>
/// How clients are treated on one listener, compiled: what a request must look like before it is routed, and the bounds of the connection. Immutable; part of
/// the snapshot, made by <see cref="ClientTrafficCompiler"/>.
/// </summary>
internal sealed class ClientTraffic
{
    private readonly PathRules _path;
    private readonly UnderscorePolicy _underscores;
    private readonly ForwardedFields? _forwarded;
    private readonly byte[][] _upgrades;

    public ClientTraffic(ClientTrafficConfig config, Direction direction, ServerCodecOptions codecs)
    {
        var path = config.Path;
        _path = new PathRules(
            path.MergesSlashes,
            (path.AllowsEncodedSlash ? PathAllowance.EncodedSlash : 0) | (path.AllowsBackslash ? PathAllowance.Backslash : 0) | (path.AllowsEncodedNull ? PathAllowance.EncodedNull : 0));
        _underscores = config.Underscores;
        var forwarded = config.Forwarded ?? new ForwardedConfig(direction == Direction.Gateway ? ForwardedMode.Replace : ForwardedMode.Pass);
        _forwarded = forwarded is { Mode: ForwardedMode.Pass, TrustedHops: 0 } ? null : new ForwardedFields(forwarded);
        _upgrades = [.. config.UpgradeProtocols.Select(Encoding.ASCII.GetBytes)];
        AddsVia = config.AddsVia;
        BelievesDeadlines = config.BelievesDeadlines ?? direction != Direction.Gateway;
        StreamIdleTimeout = config.Timeouts.StreamIdle;
        HandshakeTimeout = config.Timeouts.TlsHandshake;
        FirstByteTimeout = config.Timeouts.RequestHead;
        MaxConnectionAge = config.Timeouts.MaxConnectionAge;
        MaxRequestBodyBytes = config.MaxRequestBodyBytes ?? long.MaxValue;
        Codecs = codecs;
    }

    /// <summary>What its connections' codecs are made with.</summary>
    public ServerCodecOptions Codecs { get; }

    /// <summary>Whether messages name this proxy in Via.</summary>
    public bool AddsVia { get; }

    /// <summary>Whether grpc-timeout and x-request-timeout are believed. Where not, they are removed: a client outside of the mesh does not decide how long the mesh
    /// may work, nor that an endpoint looks slow.</summary>
    public bool BelievesDeadlines { get; }

    /// <summary>Without a byte in either direction; null: the default of all.</summary>
    public TimeSpan? StreamIdleTimeout { get; }

    /// <summary>For a TLS handshake; null: the default of all.</summary>
    public TimeSpan? HandshakeTimeout { get; }

    /// <summary>For the first bytes; null: the default of all.</summary>
    public TimeSpan? FirstByteTimeout { get; }

    /// <summary>When a connection is asked to end; null: never for its age.</summary>
    public TimeSpan? MaxConnectionAge { get; }

    /// <summary>Largest request body.</summary>
    public long MaxRequestBodyBytes { get; }

    /// <summary>Whether Upgrade or extended CONNECT may ask for this protocol; case does not matter (RFC 9110 section 7.8).</summary>
    public bool AllowsUpgrade(ReadOnlySpan<byte> protocol)
    {
        foreach (var allowed in _upgrades)
        {
            if (Ascii.EqualsIgnoreCase(protocol, allowed))
            {
                return true;
            }
        }

        return false;
    }

    /// <summary>
    /// Brings a request into the shape in which it is matched, judged and forwarded; once, when it is known where it is going and before a route is looked for.
    /// Allocates nothing but for a refusal.
    /// </summary>
    /// <returns>Why it is refused, if it is.</returns>
    public Failure Admit(RequestHead request, RequestRecord record)
    {
        if (PathNormalizer.Normalize(request, _path) is var fault and not PathFault.None)
        {
            return Refuse(FailureCause.PathRefused, DetailOf(fault));
        }

        if (!request.Protocol.IsEmpty && !AllowsUpgrade(request.Protocol))
        {
            if (request.Version == HttpProtocolVersion.Http2)
            {
                // An extended CONNECT can not be served as anything else (RFC 8441 section 4; 501 as RFC 9220 section 3 has it).
                return Refuse(FailureCause.UpgradeRefused, "upgrade_not_allowed: this listener lets nobody ask for that :protocol");
            }

            // RFC 9110 section 7.8: an Upgrade may be passed over, and the request is served as it stands.
            request.SetProtocol(default);
            request.EndsStream = true;
        }

        if (request is { Method: RequestMethod.Trace, EndsStream: false })
        {
            // It would come back to whoever asked (RFC 9110 section 9.3.8). The HTTP/1.1 codec has refused it already.
            return Refuse(FailureCause.DownstreamProtocolError, "trace_with_body: TRACE has no content");
        }

        if (request.ContentLength > MaxRequestBodyBytes)
        {
            return BodyTooLarge();
        }

        var fields = request.Fields;
        HopByHopFields.Remove(fields);
        EdgeFields.Remove(fields);
        if (_underscores != UnderscorePolicy.Allow && !UnderscoreFields.Admit(fields, _underscores))
        {
            return Refuse(FailureCause.FieldRefused, "underscore_in_field_name: names with underscores are refused here, because applications may take them for others");
        }

        if (!BelievesDeadlines)
        {
            fields.Remove(KnownField.GrpcTimeout);
            fields.Remove(KnownField.XRequestTimeout);
        }

        _forwarded?.Apply(request, record);
        if (AddsVia)
        {
            ViaField.Add(fields, request.Version);
        }

        return default;
    }

    /// <summary>The request's body is longer than allowed.</summary>
    public Failure BodyTooLarge() => Refuse(FailureCause.BodyTooLarge, $"request_body_too_large: more than {MaxRequestBodyBytes} bytes are not taken here");

    /// <summary>Removes from a request's trailer section what only fields may say, and what only this proxy may.</summary>
    public void AdmitTrailers(FieldMap trailers)
    {
        TrailerFields.Remove(trailers);
        if (_underscores != UnderscorePolicy.Allow)
        {
            UnderscoreFields.Admit(trailers, UnderscorePolicy.Drop);
        }
    }

    private static Failure Refuse(FailureCause cause, string detail) => new(cause, FailureStage.Policy, RetrySafety.Never, Initiator.Peer, detail);

    private static string DetailOf(PathFault fault) => fault switch
    {
        PathFault.NotAbsolute => "path_not_absolute: a request target begins with /",
        PathFault.InvalidEncoding => "path_encoding: a % without two hexadecimal digits behind it",
        PathFault.EncodedSlash => "path_encoded_slash: %2F in a path is refused unless the listener allows it",
        PathFault.Backslash => "path_backslash: a backslash, or %5C, in a path is refused unless the listener allows it",
        PathFault.EncodedNull => "path_encoded_null: %00 in a path is refused unless the listener allows it",
        PathFault.HiddenDotSegment => "path_hidden_dot_segment: . or .. beside an encoded slash or a backslash",
        _ => "path_character: a character that no path and no query may have",
    };
}
