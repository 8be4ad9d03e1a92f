namespace MeshProxy.Http.Http2;

/// <summary>What differs between the server and the client side of <see cref="Http2Connection"/>. Called by its read loop, outside the lock, unless said otherwise.</summary>
internal interface IHttp2Role
{
    /// <summary>True on the server side.</summary>
    bool IsServer { get; }

    /// <summary>A whole field block for a stream.</summary>
    /// <returns>False when the connection was failed.</returns>
    bool OnFieldBlock(int streamId, bool endStream, ReadOnlySpan<byte> block);

    /// <summary>The peer's SETTINGS were applied.</summary>
    void OnPeerSettings();

    /// <summary>GOAWAY.</summary>
    void OnGoAway(int lastStreamId, Http2ErrorCode code);

    /// <summary>Streams were closed, on any thread.</summary>
    void OnStreamsClosed(int count);

    /// <summary>The output has failed, and what there still is to read is read. On the client side only.</summary>
    void OnOutputBroken();

    /// <summary>The answer to the PING of a drain came.</summary>
    void OnDrainPingAnswered();
}
