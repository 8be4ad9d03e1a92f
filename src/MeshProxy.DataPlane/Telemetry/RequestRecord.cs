using System.Text;
using MeshProxy.DataPlane.Failures;
using MeshProxy.Http;

namespace MeshProxy.DataPlane.Telemetry;

/// <summary>
/// What is known about one exchange, for the access log and the meters. One for each exchange object, reused; filled by the forwarder, handed to
/// <see cref="ProxyTelemetry.Complete(RequestRecord)"/> exactly once. Path and authority are copied at <see cref="Begin"/>, so that the log shows
/// what the caller asked for even when a route rewrites the head.
/// </summary>
internal sealed class RequestRecord
{
    /// <summary>Bytes of the path that are kept; the query is never kept: payment data hides there.</summary>
    public const int MaxPathBytes = 1024;

    /// <summary>Bytes of the authority that are kept.</summary>
    public const int MaxAuthorityBytes = 256;

    /// <summary>The longest text of an IP address, with a scope.</summary>
    private const int MaxClientBytes = 64;

    private readonly byte[] _client = new byte[MaxClientBytes];
    private byte[] _text = new byte[128];
    private int _pathLength;
    private int _authorityLength;
    private int _clientLength;
    private bool? _clientIsHttps;

    /// <summary>Which way it goes.</summary>
    public Direction Direction { get; private set; }

    /// <summary>The request's head; valid until completion.</summary>
    public RequestHead? Head { get; private set; }

    /// <summary>The connection it came on.</summary>
    public ConnectionInfo? Connection { get; private set; }

    /// <summary>When the head was complete, as the clock's timestamp.</summary>
    public long StartTimestamp { get; private set; }

    /// <summary>True between <see cref="Begin"/> and completion.</summary>
    public bool IsOpen { get; private set; }

    /// <summary>Where it is counted; null when no route was found (then it counts under the direction's unrouted series).</summary>
    public RouteMeters? Meters { get; set; }

    /// <summary>"namespace/name" of the route, or empty.</summary>
    public string Route { get; set; } = "";

    /// <summary>"namespace/name:port" of the cluster, or empty.</summary>
    public string Cluster { get; set; } = "";

    /// <summary>"namespace/name" of the service, or empty.</summary>
    public string Service { get; set; } = "";

    /// <summary>"address:port" of the last endpoint tried; kept as the endpoint's own string, never made per request.</summary>
    public string? Endpoint { get; set; }

    /// <summary>How many attempts were made.</summary>
    public int Attempts { get; set; }

    /// <summary>The status sent downstream; 0 when none was.</summary>
    public int Status { get; set; }

    /// <summary>The grpc-status sent downstream; -1 when it is no gRPC exchange.</summary>
    public int GrpcStatus { get; set; } = -1;

    /// <summary>What went wrong, if anything did.</summary>
    public Failure Failure { get; set; }

    /// <summary>The flag for the log and the meters.</summary>
    public ResponseFlag Flag { get; set; }

    /// <summary>Body bytes from the downstream.</summary>
    public long BytesReceived { get; set; }

    /// <summary>Body bytes to the downstream.</summary>
    public long BytesSent { get; set; }

    /// <summary>Messages of a gRPC call from the downstream.</summary>
    public long GrpcMessagesReceived { get; set; }

    /// <summary>Messages of a gRPC call to the downstream.</summary>
    public long GrpcMessagesSent { get; set; }

    /// <summary>The path as received, without query.</summary>
    public ReadOnlySpan<byte> Path => _text.AsSpan(0, _pathLength);

    /// <summary>The authority as received.</summary>
    public ReadOnlySpan<byte> Authority => _text.AsSpan(_pathLength, _authorityLength);

    /// <summary>The client's address where trusted proxies told it; empty: the connection's source is the client.</summary>
    public ReadOnlySpan<byte> Client => _client.AsSpan(0, _clientLength);

    /// <summary>The scheme that the client used, where trusted proxies told it; empty: it is the connection's.</summary>
    public ReadOnlySpan<byte> ClientScheme => _clientIsHttps switch
    {
        true => "https"u8,
        false => "http"u8,
        null => default,
    };

    /// <summary>Takes the client's scheme; what is neither of HTTP's (in any case, RFC 3986 section 3.1) is none.</summary>
    public void SetClientScheme(ReadOnlySpan<byte> scheme) =>
        _clientIsHttps = Ascii.EqualsIgnoreCase(scheme, "https"u8) ? true : Ascii.EqualsIgnoreCase(scheme, "http"u8) ? false : null;

    /// <summary>Takes the client's address; one that is longer than any address is none.</summary>
    public void SetClient(ReadOnlySpan<byte> address)
    {
        _clientLength = address.Length <= MaxClientBytes ? address.Length : 0;
        address[.._clientLength].CopyTo(_client);
    }

    /// <summary>Opens the record for one exchange.</summary>
    /// <param name="direction">Which way it goes.</param>
    /// <param name="head">The request; must stay valid until completion.</param>
    /// <param name="connection">The connection it came on.</param>
    /// <param name="startTimestamp">When the head was complete, from the clock's GetTimestamp.</param>
    public void Begin(Direction direction, RequestHead head, ConnectionInfo connection, long startTimestamp)
    {
        Direction = direction;
        Head = head;
        Connection = connection;
        StartTimestamp = startTimestamp;
        Meters = null;
        Route = Cluster = Service = "";
        Endpoint = null;
        Attempts = 0;
        Status = 0;
        GrpcStatus = -1;
        Failure = default;
        Flag = ResponseFlag.None;
        BytesReceived = BytesSent = 0;
        GrpcMessagesReceived = GrpcMessagesSent = 0;
        _clientLength = 0;
        _clientIsHttps = null;
        IsOpen = true;

        var path = head.Path;
        var query = path.IndexOf((byte)'?');
        path = query >= 0 ? path[..query] : path;
        path = path.Length > MaxPathBytes ? path[..MaxPathBytes] : path;
        var authority = head.Authority;
        authority = authority.Length > MaxAuthorityBytes ? authority[..MaxAuthorityBytes] : authority;
        if (_text.Length < path.Length + authority.Length)
        {
            _text = new byte[path.Length + authority.Length];
        }

        path.CopyTo(_text);
        authority.CopyTo(_text.AsSpan(path.Length));
        _pathLength = path.Length;
        _authorityLength = authority.Length;
    }

    /// <summary>Closes the record.</summary>
    /// <returns>False when it was closed before: the caller has a bug, and nothing is counted twice.</returns>
    public bool TryClose()
    {
        var wasOpen = IsOpen;
        IsOpen = false;
        return wasOpen;
    }

    /// <summary>Lets go of what belongs to the exchange.</summary>
    public void Release()
    {
        Head = null;
        Connection = null;
        Meters = null;
    }
}
