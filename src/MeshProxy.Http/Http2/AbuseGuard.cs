namespace MeshProxy.Http.Http2;

/// <summary>What a peer can do too often, or too much of, without breaking the protocol.</summary>
internal enum AbuseKind : byte
{
    // Buckets of the guard, in the order of its limits.
    PeerReset,
    ProvokedReset,
    Ping,
    Settings,
    IgnoredFrame,
    EmptyFrame,
    WindowUpdate,
    TinyData,

    // Bounds of one thing.
    Continuation,
    FieldBlock,
    SettingsList,
    Backlog,
    StreamLimit,
    UnreadBytes,
    StalledStream,
    StalledConnection,
}

/// <summary>The names of what <see cref="Http2Options.OnAbuse"/> tells.</summary>
public static class Http2AbuseKinds
{
    /// <summary>All of them: a closed set, fit for a label.</summary>
    public static IReadOnlyList<string> All { get; } = [.. Enum.GetValues<AbuseKind>().Select(AbuseGuard.Detail)];
}

/// <summary>
/// Counts what a peer does that costs us more than it costs the peer, apart from the protocol's own rules. Each kind is a leaking bucket: its limit
/// at once, a thirtieth of it each second. Frames that carry a message (HEADERS, DATA with bytes) pay for the cheap ones that come with them, so
/// a busy connection is never near a limit. Owned by the connection's lock.
/// </summary>
internal sealed class AbuseGuard(Http2Limits limits)
{
    private const int Kinds = 8;
    private const long LeakPeriodMilliseconds = 30_000;
    private const int WindowUpdatesPerDataFrame = 10;

    private readonly long[] _level = new long[Kinds];
    private readonly int[] _limit =
    [
        limits.MaxPeerResets, limits.MaxProvokedResets, limits.MaxPings, limits.MaxSettingsFrames,
        limits.MaxIgnoredFrames, limits.MaxEmptyFrames, limits.MaxWindowUpdates, limits.MaxTinyDataFrames,
    ];

    private long _lastLeak = -1;

    /// <summary>Notes one event.</summary>
    /// <returns>False when the peer has gone too far: the connection is to end with ENHANCE_YOUR_CALM.</returns>
    public bool Charge(AbuseKind kind) => ++_level[(int)kind] <= _limit[(int)kind];

    /// <summary>A frame that carries part of a message came in.</summary>
    public void OnProductiveFrame()
    {
        Pay(AbuseKind.Ping, 1);
        Pay(AbuseKind.EmptyFrame, 1);
        Pay(AbuseKind.IgnoredFrame, 1);
    }

    /// <summary>A response went out whole: pays for one that the peer gives up (hedged requests are given up all the time).</summary>
    public void OnStreamCompleted() => Pay(AbuseKind.PeerReset, 1);

    /// <summary>We sent DATA: the peer may answer with window updates, and measure with PING.</summary>
    public void OnDataSent()
    {
        Pay(AbuseKind.WindowUpdate, WindowUpdatesPerDataFrame);
        Pay(AbuseKind.Ping, 1);
    }

    /// <summary>Lets the buckets leak.</summary>
    public void OnTick(long nowMilliseconds)
    {
        if (_lastLeak < 0)
        {
            _lastLeak = nowMilliseconds;
            return;
        }

        var elapsed = nowMilliseconds - _lastLeak;
        if (elapsed < 1000)
        {
            return;
        }

        _lastLeak = nowMilliseconds;
        for (var i = 0; i < _level.Length; i++)
        {
            _level[i] = Math.Max(0, _level[i] - Math.Max(1, _limit[i] * elapsed / LeakPeriodMilliseconds));
        }
    }

    /// <summary>A kind's name, for logs and metrics.</summary>
    public static string Detail(AbuseKind kind) => kind switch
    {
        AbuseKind.PeerReset => "rapid_reset",
        AbuseKind.ProvokedReset => "provoked_resets",
        AbuseKind.Ping => "ping_flood",
        AbuseKind.Settings => "settings_flood",
        AbuseKind.IgnoredFrame => "ignored_frame_flood",
        AbuseKind.EmptyFrame => "empty_frame_flood",
        AbuseKind.WindowUpdate => "window_update_flood",
        AbuseKind.TinyData => "tiny_data_frames",
        AbuseKind.Continuation => "continuation_flood",
        AbuseKind.FieldBlock => "field_block_too_large",
        AbuseKind.SettingsList => "settings_list_too_long",
        AbuseKind.Backlog => "unsent_flood",
        AbuseKind.StreamLimit => "too_many_streams",
        AbuseKind.UnreadBytes => "too_much_unread",
        AbuseKind.StalledStream => "stream_stalled",
        _ => "connection_stalled",
    };

    private void Pay(AbuseKind kind, int count)
    {
        ref var level = ref _level[(int)kind];
        level = level > count ? level - count : 0;
    }
}
