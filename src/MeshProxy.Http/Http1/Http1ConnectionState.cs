namespace MeshProxy.Http.Http1;

/// <summary>Where a server connection stands.</summary>
internal enum Http1ConnectionState : byte
{
    /// <summary>Between messages.</summary>
    Idle,

    /// <summary>In a head.</summary>
    Head,

    /// <summary>A handler is at work.</summary>
    Exchange,

    /// <summary>The response is complete; what the peer still sends of the request is thrown away, within bounds.</summary>
    Draining,

    /// <summary>No further request is read; the last output is on its way.</summary>
    Closing,

    /// <summary>Our direction is closed; what the peer still sends is thrown away, within bounds, so that it can read our last response.</summary>
    Lingering,

    /// <summary>Over.</summary>
    Closed,
}

/// <summary>What moves a server connection.</summary>
internal enum Http1ConnectionEvent : byte
{
    /// <summary>The first byte of a head is there, and not all of it.</summary>
    HeadBegun,

    /// <summary>A request is handed to the handler.</summary>
    HeadComplete,

    /// <summary>The response is complete, and nothing of the request is left.</summary>
    MessagesComplete,

    /// <summary>The response is complete, and the connection could live on if the rest of the request were gone.</summary>
    ResponseComplete,

    /// <summary>The rest of the request was thrown away.</summary>
    RequestDrained,

    /// <summary>The connection ends: refused, asked for, timed out, broken, drained.</summary>
    End,

    /// <summary>The last output is with the transport, or will never be.</summary>
    OutputSent,

    /// <summary>The peer has closed, sent too much, or waited too long; or there was no reason to wait for it.</summary>
    PeerDone,
}

/// <summary>
/// The life of a server connection (RFC 9112 section 9). Moved by the connection's head loop alone; read by its tick.
/// <code>
/// Idle -HeadBegun-> Head -HeadComplete-> Exchange -MessagesComplete-> Idle        Idle -HeadComplete-> Exchange (a head that came whole)
/// Exchange -ResponseComplete-> Draining -RequestDrained-> Idle
/// Idle, Head, Exchange, Draining -End-> Closing -OutputSent-> Lingering -PeerDone-> Closed
/// </code>
/// Any other pair is a bug of the connection, and throws.
/// </summary>
internal sealed class Http1ConnectionLife
{
    private volatile Http1ConnectionState _state;
    private volatile int _stamp;

    /// <summary>Where it stands.</summary>
    public Http1ConnectionState State => _state;

    /// <summary>Changes with every move; never negative. Tells the tick since when the state has lasted.</summary>
    public int Stamp => _stamp;

    /// <summary>Where <paramref name="happened"/> leads from <paramref name="state"/>.</summary>
    public static Http1ConnectionState Next(Http1ConnectionState state, Http1ConnectionEvent happened) => (state, happened) switch
    {
        (Http1ConnectionState.Idle, Http1ConnectionEvent.HeadBegun) => Http1ConnectionState.Head,
        (Http1ConnectionState.Idle or Http1ConnectionState.Head, Http1ConnectionEvent.HeadComplete) => Http1ConnectionState.Exchange,
        (Http1ConnectionState.Exchange, Http1ConnectionEvent.MessagesComplete) => Http1ConnectionState.Idle,
        (Http1ConnectionState.Exchange, Http1ConnectionEvent.ResponseComplete) => Http1ConnectionState.Draining,
        (Http1ConnectionState.Draining, Http1ConnectionEvent.RequestDrained) => Http1ConnectionState.Idle,
        (<= Http1ConnectionState.Draining, Http1ConnectionEvent.End) => Http1ConnectionState.Closing,
        (Http1ConnectionState.Closing, Http1ConnectionEvent.OutputSent) => Http1ConnectionState.Lingering,
        (Http1ConnectionState.Lingering, Http1ConnectionEvent.PeerDone) => Http1ConnectionState.Closed,
        _ => throw new InvalidOperationException($"{happened} in {state}"),
    };

    /// <summary>Moves.</summary>
    public void On(Http1ConnectionEvent happened)
    {
        _state = Next(_state, happened);
        _stamp = (_stamp + 1) & int.MaxValue;
    }
}
