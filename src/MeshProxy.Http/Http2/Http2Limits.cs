namespace MeshProxy.Http.Http2;

/// <summary>Every bound of one HTTP/2 connection. Zero never means unlimited. What the peer sees stands at each.</summary>
public sealed record Http2Limits
{
    /// <summary>For connections inside the mesh.</summary>
    public static Http2Limits Mesh { get; } = new();

    /// <summary>For connections from outside: 100 streams, as RFC 9113 section 6.5.2 recommends at least.</summary>
    public static Http2Limits Edge { get; } = new() { MaxConcurrentStreams = 100 };

    /// <summary>Streams the peer may have open at once. Default 1024 (Envoy's circuit breakers). Peer: SETTINGS, then REFUSED_STREAM.</summary>
    public int MaxConcurrentStreams { get; init; } = 1024;

    /// <summary>Decoded size of one field block, bytes, counted as RFC 9113 section 6.5.2 does. Default 60 KiB (Envoy). Peer: 431 on the stream,
    /// or for trailers and responses a stream error; above four times this GOAWAY ENHANCE_YOUR_CALM.</summary>
    public int MaxFieldListBytes { get; init; } = 60 * 1024;

    /// <summary>Field lines of one message; cookie crumbs count as one. Default 100 (Envoy). Peer: as <see cref="MaxFieldListBytes"/>.</summary>
    public int MaxFieldCount { get; init; } = 100;

    /// <summary>Dynamic table of our decoder, and the most our encoder uses, bytes. Default 4096 (RFC 9113). Peer: COMPRESSION_ERROR beyond.</summary>
    public int MaxHpackTableBytes { get; init; } = 4096;

    /// <summary>Largest payload of a frame we take, bytes. Default 16,384 (the protocol's minimum: fairness between streams). Peer: FRAME_SIZE_ERROR.</summary>
    public int MaxFrameBytes { get; init; } = 16_384;

    /// <summary>First window of a stream, bytes. Default 65,535 (the protocol's: no peer can be early for it). Peer: FLOW_CONTROL_ERROR on the stream.</summary>
    public int InitialStreamWindowBytes { get; init; } = 65_535;

    /// <summary>What a stream's window may grow to, by measured bandwidth-delay product, bytes. Default 1 MiB (Linkerd's connection window).</summary>
    public int MaxStreamWindowBytes { get; init; } = 1024 * 1024;

    /// <summary>The connection's window, bytes. Given back on arrival, so it bounds what is on the wire, not what is kept. Default 4 MiB.
    /// Peer: GOAWAY FLOW_CONTROL_ERROR.</summary>
    public int ConnectionWindowBytes { get; init; } = 4 * 1024 * 1024;

    /// <summary>Received and not yet read on all streams, bytes, above which windows stop growing; new streams that bring a body are refused when it is also more than
    /// the first windows of the open streams. Default 4 MiB. Peer: REFUSED_STREAM.</summary>
    public int MaxUnreadBytes { get; init; } = 4 * 1024 * 1024;

    /// <summary>Buffered and not yet sent, bytes, above which writers wait. Default 256 KiB (four 64 KiB socket writes).</summary>
    public int MaxUnsentBytes { get; init; } = 256 * 1024;

    /// <summary>Acknowledgements, resets and windows that are kept for a peer that asks and does not read, frames. Default 1000 (Envoy's outbound control frames;
    /// CVE-2019-9512, where each PING comes with DATA that pays for it). Peer: GOAWAY ENHANCE_YOUR_CALM.</summary>
    public int MaxUnsentReplies { get; init; } = 1000;

    /// <summary>CONTINUATION frames of one block. Default 32 (four times 60 KiB in whole frames, twice over; CVE-2024-27316).
    /// Peer: GOAWAY ENHANCE_YOUR_CALM.</summary>
    public int MaxContinuationFrames { get; init; } = 32;

    /// <summary>Informational heads of one response. Default 16. Peer: stream error ENHANCE_YOUR_CALM.</summary>
    public int MaxInformationalHeads { get; init; } = 16;

    /// <summary>Streams that the peer resets beyond those that complete: this many at once, and a thirtieth of it each second. Default 1000 (nghttp2: 1000,
    /// 33 a second; CVE-2023-44487). Peer: GOAWAY ENHANCE_YOUR_CALM.</summary>
    public int MaxPeerResets { get; init; } = 1000;

    /// <summary>Streams that the peer makes us reset: this many at once, and a thirtieth of it each second. Default 300 (CVE-2025-8671).
    /// Peer: GOAWAY ENHANCE_YOUR_CALM.</summary>
    public int MaxProvokedResets { get; init; } = 300;

    /// <summary>PING frames beyond those that come with HEADERS or DATA: this many at once, and a thirtieth each second. Default 1000.
    /// Peer: GOAWAY ENHANCE_YOUR_CALM.</summary>
    public int MaxPings { get; init; } = 1000;

    /// <summary>Settings of one SETTINGS frame. Default 32 (nghttp2): each change of the initial window touches every stream.
    /// Peer: GOAWAY ENHANCE_YOUR_CALM.</summary>
    public int MaxSettingsPerFrame { get; init; } = 32;

    /// <summary>SETTINGS frames, and acknowledgements that nobody asked for, likewise. Default 100.</summary>
    public int MaxSettingsFrames { get; init; } = 100;

    /// <summary>PRIORITY, GOAWAY, unknown and late frames (for closed streams), likewise. Default 1000.</summary>
    public int MaxIgnoredFrames { get; init; } = 1000;

    /// <summary>DATA frames that carry neither bytes nor END_STREAM, likewise. Default 100.</summary>
    public int MaxEmptyFrames { get; init; } = 100;

    /// <summary>WINDOW_UPDATE frames beyond ten for each DATA frame we send (Envoy's ratio), likewise. Default 1000.</summary>
    public int MaxWindowUpdates { get; init; } = 1000;

    /// <summary>DATA frames below 128 bytes that a small window forces on us while more is waiting, likewise. Default 2000.</summary>
    public int MaxTinyDataFrames { get; init; } = 2000;

    /// <summary>For a peer that lets us write: within it a stream with waiting DATA must be able to send <see cref="MinReadBytes"/>, and a flush must end. Default
    /// 5 min (Envoy's stream idle timeout). Peer: RST_STREAM ENHANCE_YOUR_CALM, or the transport is closed.</summary>
    public TimeSpan StallTimeout { get; init; } = TimeSpan.FromMinutes(5);

    /// <summary>What a peer must take of a stream's waiting DATA within <see cref="StallTimeout"/>, bytes. Default 1024: a window of one byte now and then is
    /// no progress.</summary>
    public int MinReadBytes { get; init; } = 1024;

    /// <summary>For the preface and the first SETTINGS, and for a field block from its first to its last frame. Default 10 s.
    /// Peer: GOAWAY PROTOCOL_ERROR, close reason head timeout.</summary>
    public TimeSpan HeadTimeout { get; init; } = TimeSpan.FromSeconds(10);

    /// <summary>For the acknowledgement of our SETTINGS. Default 10 s. Peer: GOAWAY SETTINGS_TIMEOUT.</summary>
    public TimeSpan SettingsTimeout { get; init; } = TimeSpan.FromSeconds(10);

    /// <summary>Without an open stream. Default 5 min (Envoy). Peer: GOAWAY NO_ERROR.</summary>
    public TimeSpan IdleTimeout { get; init; } = TimeSpan.FromMinutes(5);

    /// <summary>For the peer to take our last frames after the connection has ended, the rest of the responses among them. Default 30 s: a slow line takes
    /// <see cref="MaxUnsentBytes"/> in it. Peer: the transport is closed.</summary>
    public TimeSpan LastFlushTimeout { get; init; } = TimeSpan.FromSeconds(30);

    /// <summary>How long the peer may be silent without closing when our last frames and our FIN are sent: what it sends after our close makes a reset, which costs
    /// it the responses that it has not read. On the client side, how long the peer may be silent when our output has failed and answers may still come. Default 10 s
    /// (nginx 5 s): longer than a peer stands still that lives. Peer: the transport is closed.</summary>
    public TimeSpan LingerTimeout { get; init; } = TimeSpan.FromSeconds(10);

    /// <summary>The longest of these waits, however much the peer says meanwhile. Default 5 min, as for one that is idle: a slow line takes so long for the
    /// responses in the kernel's buffer. Peer: the transport is closed.</summary>
    public TimeSpan LongestLinger { get; init; } = TimeSpan.FromMinutes(5);

    /// <summary>What is read and thrown away meanwhile, bytes. Default 8 MiB: a connection window that was on its way, and as much again for what is not DATA.
    /// Peer: the transport is closed.</summary>
    public int MaxLingerBytes { get; init; } = 8 * 1024 * 1024;

    /// <summary>The longest wait for the PING between the two GOAWAY frames of a drain. Default 10 s (gRPC Java): a peer that has not read the first yet is served
    /// on, and loses nothing.</summary>
    public TimeSpan DrainPingTimeout { get; init; } = TimeSpan.FromSeconds(10);
}
