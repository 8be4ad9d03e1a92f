namespace MeshProxy.DataPlane.Transport;

/// <summary>
/// What is under a <see cref="ChannelReader"/> and a <see cref="ChannelWriter"/>: a socket, or TLS over another connection. One receive and one send at
/// a time each; the two are independent. A channel pulls: it asks the reader for memory only when there is something to put into it.
/// </summary>
internal abstract class ByteChannel
{
    /// <summary>The answer of <see cref="Receive"/> when nothing is at hand: the reader is told later.</summary>
    public const int Pending = -1;

    /// <summary>The answer of <see cref="Receive"/> when the connection failed; see <see cref="Failure"/>.</summary>
    public const int Failed = -2;

    /// <summary>Why it failed: a ConnectionResetException (the peer, the network) or a ConnectionAbortedException (we).</summary>
    public Exception? Failure { get; protected set; }

    /// <summary>Receives into <see cref="ChannelReader.Destination"/>. Called with the reader's lock held.</summary>
    /// <returns>The count; 0 at the orderly end, or for a wait without memory; or <see cref="Pending"/>, then <see cref="ChannelReader.OnReady"/> or
    /// <see cref="ChannelReader.OnReceived"/> follows; or <see cref="Failed"/>.</returns>
    public abstract int Receive(ChannelReader reader);

    /// <summary>Whether bytes can go from here to a channel of the same kind by <see cref="Splice"/>.</summary>
    public virtual bool CanSplice => false;

    /// <summary>Takes at most <paramref name="most"/> bytes into a splice. Called with the reader's lock held.</summary>
    /// <returns>As <see cref="Receive"/>, but nobody is told when bytes come after <see cref="Pending"/>: a receive without memory waits for them.</returns>
    public virtual int Splice(SocketSplice splice, int most) => throw new NotSupportedException();

    /// <summary>Sends what <see cref="ChannelWriter.Gather"/> gives, or what is in <see cref="ChannelWriter.Splice"/>, until nothing is left. It may end before this returns, or later on another thread.</summary>
    /// <returns>True when it is over already; false: it may be.</returns>
    public abstract bool Send(ChannelWriter writer);
}
