namespace MeshProxy.Http.Http2;

// Timeouts, keep-alive and stalls, judged by the owner's coarse tick.
internal sealed partial class Http2Connection
{
    private const ulong PingKeepAlive = 0x6d70_6b65_6570_0001;
    private const ulong PingBandwidth = 0x6d70_6b65_6570_0002;
    private const ulong PingDrain = 0x6d70_6b65_6570_0003;

    // The coarse clock: events set a flag, the next tick dates them.
    private volatile bool _receivedSinceTick = true;
    private bool _openedSinceTick = true;
    private long _now;
    private long _lastReceived;
    private long _lastBusy;
    private long _pingSentAt = -1;
    private long _waitingSince = -1;
    private long _waitingFor;
    private long _unacknowledgedSince = -1;
    private long _closedAt = -1;
    private long _lingersSince = -1;
    private long _drainPingAt = -1;
    private bool _drainPingOutstanding;
    private bool _isPingDue;
    private long _stallsJudgedAt = -1;
    private long _flushProgress = -1;
    private long _flushStalledSince;

    /// <summary>Sends the PING between the two GOAWAY frames of a drain. Under the lock.</summary>
    public void SendDrainPing()
    {
        _drainPingOutstanding = true;
        _drainPingAt = -1;
        Writer.WritePing(PingDrain, isAck: false);
    }

    // Whether the first request after a pause is about to be sent. Under the lock.
    private bool IsReusedAfterPause => _streams.Count == 0 && _pingSentAt < 0 && Options.PingOnReuseAfter is { } pause && !_receivedSinceTick && !_openedSinceTick
        && _now - _lastReceived >= pause.TotalMilliseconds;

    /// <summary>After the head of a new stream was written. Under the lock.</summary>
    public void PingIfReused()
    {
        if (_isPingDue)
        {
            _isPingDue = false;
            SendKeepAlivePing();
        }
    }

    private void SendKeepAlivePing()
    {
        _pingSentAt = _now;
        Writer.WritePing(PingKeepAlive, isAck: false);
    }

    /// <summary>Judges timeouts. Any thread.</summary>
    public void OnTick(long now)
    {
        ConnectionCloseReason reason = ConnectionCloseReason.None;
        var code = Http2ErrorCode.NoError;
        string? detail = null;
        var ping = false;
        var drainPingLate = false;
        Deferred deferred = default;
        lock (Gate)
        {
            if (_isLingering)
            {
                // The peer does not close.
                reason = HasLingered(now) ? CloseReason : reason;
            }
            else if (IsClosed)
            {
                _closedAt = _closedAt < 0 ? now : _closedAt;
                if (now - _closedAt >= Limits.LastFlushTimeout.TotalMilliseconds)
                {
                    // The peer does not read our last words.
                    reason = CloseReason;
                }
            }
            else if (_isOutputBroken)
            {
                Guard.OnTick(now);
                reason = HasLingered(now) ? ConnectionCloseReason.TransportError : reason;
            }
            else
            {
                Judge(now, ref reason, ref code, ref detail, ref ping, ref drainPingLate);
                if (reason == ConnectionCloseReason.None)
                {
                    ping |= JudgeStalls(now, ref reason, ref code, ref detail);
                }

                deferred = Writer.TakeDeferred();
            }
        }

        Run(deferred);
        if (reason != ConnectionCloseReason.None)
        {
            // Who does not answer, or does not read, is not waited for; who is late with SETTINGS is told.
            Stop(reason, code, detail, cancelFlush: IsClosed || (reason == ConnectionCloseReason.KeepAliveTimeout && code != Http2ErrorCode.SettingsTimeout));
        }
        else if (drainPingLate)
        {
            _role.OnDrainPingAnswered();
        }

        if (ping)
        {
            FlushBatch.Request(Writer);
        }
    }

    // Whether the peer, which we have nothing to say to any more, has been silent for too long, or talks for too long. Under the lock.
    private bool HasLingered(long now)
    {
        _lingersSince = _lingersSince < 0 ? now : _lingersSince;
        _lastReceived = _lingersSince == now || _receivedSinceTick ? now : _lastReceived;
        _receivedSinceTick = false;
        return now - _lastReceived >= Limits.LingerTimeout.TotalMilliseconds || now - _lingersSince >= Limits.LongestLinger.TotalMilliseconds;
    }

    // Peers that do not take what is written for them (slow readers, windows that stay shut). A tenth of the timeout is precise enough, and keeps the walk over
    // all streams rare. Under the lock.
    private bool JudgeStalls(long now, ref ConnectionCloseReason reason, ref Http2ErrorCode code, ref string? detail)
    {
        var timeout = (long)Limits.StallTimeout.TotalMilliseconds;
        if (_stallsJudgedAt >= 0 && now - _stallsJudgedAt < timeout / 10)
        {
            return false;
        }

        _stallsJudgedAt = now;
        var progress = Writer.FlushProgress;
        if (progress < 0 || progress != _flushProgress)
        {
            _flushProgress = progress;
            _flushStalledSince = now;
        }
        else if (now - _flushStalledSince >= timeout)
        {
            TellAbuse(AbuseKind.StalledConnection);
            (reason, code, detail) = (ConnectionCloseReason.KeepAliveTimeout, Http2ErrorCode.EnhanceYourCalm, AbuseGuard.Detail(AbuseKind.StalledConnection));
            return false;
        }

        var anyEnded = false;
        foreach (var stream in _streams.Values)
        {
            if (!stream.HasPendingWrite)
            {
                stream.StalledSince = -1;
            }
            else if (stream.StalledSince < 0 || stream.SentBytes - stream.SentBytesThen >= Limits.MinReadBytes)
            {
                stream.StalledSince = now;
                stream.SentBytesThen = stream.SentBytes;
            }
            else if (now - stream.StalledSince >= timeout)
            {
                // Removing the stream at hand leaves the walk valid.
                TellAbuse(AbuseKind.StalledStream);
                const Http2ErrorCode Code = Http2ErrorCode.EnhanceYourCalm;
                ResetStream(stream, Code, new StreamEnd(StreamResetReason.TimedOut, Initiator.Peer, (uint)Code, AbuseGuard.Detail(AbuseKind.StalledStream)));
                anyEnded = true;
            }
        }

        return anyEnded;
    }

    // Under the lock.
    private void Judge(
        long now, ref ConnectionCloseReason reason, ref Http2ErrorCode code, ref string? detail, ref bool ping, ref bool drainPingLate)
    {
        Guard.OnTick(now);
        _now = now;
        if (_receivedSinceTick)
        {
            _receivedSinceTick = false;
            _lastReceived = now;
            _pingSentAt = -1;
        }

        if (_openedSinceTick || _streams.Count > 0)
        {
            _openedSinceTick = false;
            _lastBusy = now;
        }

        // One thing at most is waited for: the preface and SETTINGS, or the rest of a field block or of a frame.
        var waitingFor = !_settingsSeen ? -1
            : _block.IsOpen ? (_block.BeganAt * 2) + 1
            : _isFramePartial ? (_framesSeen * 2) + 2
            : 0;
        if (waitingFor != _waitingFor)
        {
            _waitingFor = waitingFor;
            _waitingSince = now;
        }
        else if (waitingFor != 0 && now - _waitingSince >= Limits.HeadTimeout.TotalMilliseconds)
        {
            (reason, code, detail) = (ConnectionCloseReason.HeadTimeout, Http2ErrorCode.ProtocolError, "head_timeout");
        }

        // The acknowledgement of our SETTINGS, whatever else comes meanwhile: until then streams beyond the limit are the peer's good right.
        _unacknowledgedSince = _settingsUnacknowledged == 0 ? -1 : _unacknowledgedSince < 0 ? now : _unacknowledgedSince;
        if (reason == ConnectionCloseReason.None && _unacknowledgedSince >= 0 && now - _unacknowledgedSince >= Limits.SettingsTimeout.TotalMilliseconds)
        {
            (reason, code, detail) = (ConnectionCloseReason.KeepAliveTimeout, Http2ErrorCode.SettingsTimeout, "settings_timeout");
        }

        if (reason == ConnectionCloseReason.None && _streams.Count == 0 && now - _lastBusy >= Limits.IdleTimeout.TotalMilliseconds)
        {
            reason = ConnectionCloseReason.IdleTimeout;
        }

        if (reason == ConnectionCloseReason.None && _pingSentAt >= 0)
        {
            if (now - _pingSentAt >= Options.PingTimeout.TotalMilliseconds)
            {
                (reason, detail) = (ConnectionCloseReason.KeepAliveTimeout, "ping_timeout");
            }
        }
        else if (reason == ConnectionCloseReason.None && _streams.Count > 0 && Options.PingAfterSilence is { } silence && now - _lastReceived >= silence.TotalMilliseconds)
        {
            SendKeepAlivePing();
            ping = true;
        }

        if (_drainPingOutstanding)
        {
            _drainPingAt = _drainPingAt < 0 ? now : _drainPingAt;
            drainPingLate = now - _drainPingAt >= Limits.DrainPingTimeout.TotalMilliseconds;
            _drainPingOutstanding = !drainPingLate;
        }
    }
}
