namespace MeshProxy.Http.Http2;

/// <summary>The states of RFC 9113 section 5.1 without the reserved ones: there is no push.</summary>
internal enum StreamPhase : byte
{
    Idle,
    Open,
    HalfClosedLocal,
    HalfClosedRemote,
    Closed,
}

/// <summary>What an event means for the stream and the connection.</summary>
internal enum StreamVerdict : byte
{
    /// <summary>The event is legal and was applied.</summary>
    Ok,

    /// <summary>Legal but without meaning any more.</summary>
    Ignored,

    /// <summary>A stream error STREAM_CLOSED.</summary>
    StreamClosed,

    /// <summary>A connection error PROTOCOL_ERROR.</summary>
    ConnectionError,
}

/// <summary>
/// One stream's life (RFC 9113 section 5.1), the same on both sides. Every transition is a method named by its event; nothing else changes it.
/// <code>
///                    HeadersSent / HeadersReceived
///            Idle ----------------------------------> Open
///                                              EndSent /   \ EndReceived
///                                    HalfClosedLocal        HalfClosedRemote
///                                       EndReceived \      / EndSent
///                                                    Closed   &lt;---- ResetSent / ResetReceived from every state but Idle
/// </code>
/// Owned by the connection's lock (<see cref="ConnectionWriter.Gate"/>).
/// </summary>
internal struct StreamState
{
    public StreamPhase Phase { get; private set; }

    /// <summary>True while we may send HEADERS and DATA.</summary>
    public readonly bool CanSend => Phase is StreamPhase.Open or StreamPhase.HalfClosedRemote;

    /// <summary>True while the peer may send HEADERS and DATA.</summary>
    public readonly bool CanReceive => Phase is StreamPhase.Open or StreamPhase.HalfClosedLocal;

    public readonly bool IsClosed => Phase == StreamPhase.Closed;

    /// <summary>HEADERS from the peer: opens an idle stream (server side), continues one that the peer has not ended.</summary>
    public StreamVerdict OnHeadersReceived(bool endStream)
    {
        if (Phase == StreamPhase.Idle)
        {
            Phase = StreamPhase.Open;
        }

        if (!CanReceive)
        {
            return StreamVerdict.StreamClosed;
        }

        EndReceived(endStream);
        return StreamVerdict.Ok;
    }

    /// <summary>DATA from the peer.</summary>
    public StreamVerdict OnDataReceived(bool endStream)
    {
        if (Phase == StreamPhase.Idle)
        {
            return StreamVerdict.ConnectionError;
        }

        if (!CanReceive)
        {
            return StreamVerdict.StreamClosed;
        }

        EndReceived(endStream);
        return StreamVerdict.Ok;
    }

    /// <summary>RST_STREAM from the peer.</summary>
    public StreamVerdict OnResetReceived()
    {
        switch (Phase)
        {
            case StreamPhase.Idle:
                return StreamVerdict.ConnectionError;
            case StreamPhase.Closed:
                return StreamVerdict.Ignored;
            default:
                Phase = StreamPhase.Closed;
                return StreamVerdict.Ok;
        }
    }

    /// <summary>WINDOW_UPDATE from the peer: legal also on streams that it has ended, for a while also on closed ones.</summary>
    public readonly StreamVerdict OnWindowUpdateReceived() => Phase switch
    {
        StreamPhase.Idle => StreamVerdict.ConnectionError,
        StreamPhase.Closed or StreamPhase.HalfClosedLocal => StreamVerdict.Ignored,
        _ => StreamVerdict.Ok,
    };

    /// <summary>HEADERS from us.</summary>
    /// <returns>False when we may not send any more.</returns>
    public bool OnHeadersSent(bool endStream)
    {
        if (Phase == StreamPhase.Idle)
        {
            Phase = StreamPhase.Open;
        }

        return OnDataSent(endStream);
    }

    /// <summary>DATA from us.</summary>
    /// <returns>False when we may not send any more.</returns>
    public bool OnDataSent(bool endStream)
    {
        if (!CanSend)
        {
            return false;
        }

        if (endStream)
        {
            Phase = Phase == StreamPhase.Open ? StreamPhase.HalfClosedLocal : StreamPhase.Closed;
        }

        return true;
    }

    /// <summary>RST_STREAM from us, or the end of the connection.</summary>
    /// <returns>False when there is nothing to reset: idle or closed already.</returns>
    public bool OnResetSent()
    {
        if (Phase is StreamPhase.Idle or StreamPhase.Closed)
        {
            return false;
        }

        Phase = StreamPhase.Closed;
        return true;
    }

    /// <summary>Ready for the next stream on the same object.</summary>
    public void Renew() => Phase = StreamPhase.Idle;

    private void EndReceived(bool endStream)
    {
        if (endStream)
        {
            Phase = Phase == StreamPhase.Open ? StreamPhase.HalfClosedRemote : StreamPhase.Closed;
        }
    }
}
