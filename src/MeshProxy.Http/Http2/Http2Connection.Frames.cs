using System.Buffers;
using System.Buffers.Binary;
using MeshProxy.Http.Http2.Frames;
using MeshProxy.Http.Http2.Hpack;

namespace MeshProxy.Http.Http2;

// The frame types, one method each (RFC 9113 section 6), and whole field blocks. Called by the read loop, outside the lock.
internal sealed partial class Http2Connection
{
    private bool OnData(FrameHeader header, ReadOnlySequence<byte> payload)
    {
        if (header.StreamId == 0)
        {
            return Fail(Http2ErrorCode.ProtocolError, "data_on_stream_0");
        }

        if (FramePayload.StripPadding(header, ref payload) is var error and not Http2ErrorCode.NoError)
        {
            return Fail(error, "invalid_padding");
        }

        var endStream = header.Has(FrameFlags.EndStream);
        var length = (int)payload.Length;
        Http2Stream? readable = null;
        BodyChunk chunk = default;
        Deferred deferred;
        lock (Gate)
        {
            if (!_window.OnReceived(header.Length))
            {
                return Fail(Http2ErrorCode.FlowControlError, "connection_window_exceeded");
            }

            // Given back on arrival: only a stream's own window holds a stream's reader to account.
            var increment = _window.OnConsumed(header.Length, Limits.ConnectionWindowBytes);
            if (increment > 0)
            {
                Writer.WriteWindowUpdate(0, increment);
            }

            if (length > 0)
            {
                Guard.OnProductiveFrame();
                _bandwidth.OnReceived(length);
            }
            else if (!endStream && !Guard.Charge(AbuseKind.EmptyFrame))
            {
                return Abuse(AbuseKind.EmptyFrame);
            }

            if (!_streams.TryGetValue(header.StreamId, out var stream))
            {
                return OnLateFrame(header.StreamId);
            }

            // The message's own rules come before the state: an error must not look like an end (RFC 9113 section 8.1.1).
            if (stream.State.CanReceive)
            {
                stream.ReceivedLength += length;
                if (!stream.HasReceivedHead)
                {
                    return FailStream(stream, Http2ErrorCode.ProtocolError, "data_before_head");
                }

                if (stream.ExpectedLength >= 0
                    && (stream.ReceivedLength > stream.ExpectedLength || (endStream && stream.ReceivedLength != stream.ExpectedLength)))
                {
                    return FailStream(stream, Http2ErrorCode.ProtocolError, "content_length_mismatch");
                }

                if (!stream.ReceiveWindow.OnReceived(header.Length))
                {
                    return FailStream(stream, Http2ErrorCode.FlowControlError, "stream_window_exceeded");
                }
            }

            if (stream.State.OnDataReceived(endStream) != StreamVerdict.Ok)
            {
                return FailStream(stream, Http2ErrorCode.StreamClosed, "data_after_end");
            }

            var padding = header.Length - length;
            if (padding > 0 && !endStream)
            {
                GiveBack(stream, padding);
            }

            if (stream.DiscardsBody)
            {
                GiveBack(stream, length);
            }
            else if (length > 0)
            {
                stream.Received.Append(in payload);
                _unread += length;
            }

            if (endStream)
            {
                OnEndReceived(stream);
            }

            if (stream.Body.TryTakeWaiting(out chunk))
            {
                readable = stream;
            }

            deferred = Writer.TakeDeferred();
        }

        readable?.Body.Signal.Complete(chunk);
        Run(deferred);
        return true;
    }

    private bool OnHeaders(FrameHeader header, ReadOnlySpan<byte> payload)
    {
        if (header.StreamId == 0)
        {
            return Fail(Http2ErrorCode.ProtocolError, "headers_on_stream_0");
        }

        if (FramePayload.ReadHeaders(header, ref payload, out var dependency) is var error and not Http2ErrorCode.NoError)
        {
            return Fail(error, "invalid_padding");
        }

        if (dependency == header.StreamId)
        {
            // A stream error (RFC 7540 section 5.3.1), but the block must be decoded.
            Fields.Condemn("stream_depends_on_itself");
        }

        lock (Gate)
        {
            Guard.OnProductiveFrame();
        }

        var endStream = header.Has(FrameFlags.EndStream);
        if (header.Has(FrameFlags.EndHeaders))
        {
            return _role.OnFieldBlock(header.StreamId, endStream, payload);
        }

        return _block.TryBegin(header.StreamId, endStream, payload, _framesSeen) || Abuse(AbuseKind.FieldBlock);
    }

    private bool OnContinuation(FrameHeader header, ReadOnlySpan<byte> payload)
    {
        if (!_block.IsOpen)
        {
            return Fail(Http2ErrorCode.ProtocolError, "unexpected_continuation");
        }

        if (!_block.TryContinue(payload, out var kind))
        {
            return Abuse(kind);
        }

        if (!header.Has(FrameFlags.EndHeaders))
        {
            return true;
        }

        var block = _block.Take(out var endStream);
        return _role.OnFieldBlock(header.StreamId, endStream, block);
    }

    private bool OnWindowUpdate(FrameHeader header, ReadOnlySpan<byte> payload)
    {
        if (payload.Length != 4)
        {
            return Fail(Http2ErrorCode.FrameSizeError, "window_update_size");
        }

        var increment = FramePayload.ReadUInt31(payload);
        Deferred deferred;
        lock (Gate)
        {
            if (!Guard.Charge(AbuseKind.WindowUpdate))
            {
                return Abuse(AbuseKind.WindowUpdate);
            }

            if (header.StreamId == 0)
            {
                if (increment == 0)
                {
                    return Fail(Http2ErrorCode.ProtocolError, "window_update_0");
                }

                if (!Writer.AddConnectionWindow(increment))
                {
                    return Fail(Http2ErrorCode.FlowControlError, "connection_window_overflow");
                }
            }
            else if (!_streams.TryGetValue(header.StreamId, out var stream))
            {
                return !IsIdle(header.StreamId) || Fail(Http2ErrorCode.ProtocolError, "window_update_on_idle_stream");
            }
            else if (increment == 0)
            {
                return FailStream(stream, Http2ErrorCode.ProtocolError, "window_update_0");
            }
            else if (stream.State.OnWindowUpdateReceived() == StreamVerdict.Ok && !Writer.AddStreamWindow(stream, increment))
            {
                return FailStream(stream, Http2ErrorCode.FlowControlError, "stream_window_overflow");
            }

            Writer.Pump();
            deferred = Writer.TakeDeferred();
        }

        Run(deferred);
        return true;
    }

    private bool OnResetStream(FrameHeader header, ReadOnlySpan<byte> payload)
    {
        if (payload.Length != 4)
        {
            return Fail(Http2ErrorCode.FrameSizeError, "rst_stream_size");
        }

        var code = FramePayload.ReadUInt32(payload);
        Deferred deferred;
        lock (Gate)
        {
            if (IsIdle(header.StreamId))
            {
                return Fail(Http2ErrorCode.ProtocolError, "rst_stream_on_idle_stream");
            }

            if (!_streams.TryGetValue(header.StreamId, out var stream))
            {
                return Guard.Charge(AbuseKind.IgnoredFrame) || Abuse(AbuseKind.IgnoredFrame);
            }

            if (_role.IsServer && !Guard.Charge(AbuseKind.PeerReset))
            {
                return Abuse(AbuseKind.PeerReset);
            }

            if (stream.State.OnResetReceived() == StreamVerdict.Ok)
            {
                var reason = code == (uint)Http2ErrorCode.RefusedStream && !stream.HasReceivedHead
                    ? StreamResetReason.PeerRefused
                    : StreamResetReason.PeerReset;
                CloseStream(stream);
                EndStream(stream, new StreamEnd(reason, Initiator.Peer, code));
            }

            deferred = Writer.TakeDeferred();
        }

        Run(deferred);
        return true;
    }

    private bool OnPing(FrameHeader header, ReadOnlySpan<byte> payload)
    {
        if (header.StreamId != 0)
        {
            return Fail(Http2ErrorCode.ProtocolError, "ping_on_stream");
        }

        if (payload.Length != 8)
        {
            return Fail(Http2ErrorCode.FrameSizeError, "ping_size");
        }

        var opaque = BinaryPrimitives.ReadUInt64BigEndian(payload);
        var drainAnswered = false;
        lock (Gate)
        {
            if (!Guard.Charge(AbuseKind.Ping))
            {
                return Abuse(AbuseKind.Ping);
            }

            if (!header.Has(FrameFlags.Ack))
            {
                Writer.WritePing(opaque, isAck: true);
                return true;
            }

            switch (opaque)
            {
                case PingBandwidth:
                    _bandwidth.OnAnswer(Options.TimeProvider.GetTimestamp(), HasRoomToGrow);
                    break;
                case PingDrain:
                    drainAnswered = _drainPingOutstanding;
                    _drainPingOutstanding = false;
                    break;
            }
        }

        if (drainAnswered)
        {
            _role.OnDrainPingAnswered();
        }

        return true;
    }

    private bool OnGoAway(FrameHeader header, ReadOnlySpan<byte> payload)
    {
        if (header.StreamId != 0)
        {
            return Fail(Http2ErrorCode.ProtocolError, "goaway_on_stream");
        }

        if (payload.Length < 8)
        {
            return Fail(Http2ErrorCode.FrameSizeError, "goaway_size");
        }

        if (!OnIgnored())
        {
            return false;
        }

        _role.OnGoAway(FramePayload.ReadUInt31(payload), (Http2ErrorCode)FramePayload.ReadUInt32(payload[4..]));
        return true;
    }

    private bool OnPriority(FrameHeader header, ReadOnlySpan<byte> payload)
    {
        if (header.StreamId == 0)
        {
            return Fail(Http2ErrorCode.ProtocolError, "priority_on_stream_0");
        }

        Http2ErrorCode code;
        string detail;
        if (payload.Length != 5)
        {
            (code, detail) = (Http2ErrorCode.FrameSizeError, "priority_size");
        }
        else if (FramePayload.ReadUInt31(payload) == header.StreamId)
        {
            (code, detail) = (Http2ErrorCode.ProtocolError, "stream_depends_on_itself");
        }
        else
        {
            return OnIgnored();
        }

        Deferred deferred;
        lock (Gate)
        {
            if (!_streams.TryGetValue(header.StreamId, out var stream))
            {
                // RST_STREAM must not name an idle stream; nothing is lost by ending the connection of a peer that gets this wrong.
                return Fail(code, detail);
            }

            if (!FailStreamLocked(stream, code, detail))
            {
                return false;
            }

            deferred = Writer.TakeDeferred();
        }

        Run(deferred);
        return true;
    }

    private bool OnIgnored()
    {
        lock (Gate)
        {
            return Guard.Charge(AbuseKind.IgnoredFrame) || Abuse(AbuseKind.IgnoredFrame);
        }
    }

    // ---- Field blocks, for the roles ----

    /// <summary>Decodes a block into what was begun on <see cref="Fields"/>.</summary>
    /// <returns>False when the connection was failed.</returns>
    public bool TryDecode(ReadOnlySpan<byte> block) => _decoder.Decode(block, Fields) switch
    {
        HpackVerdict.Ok => true,
        HpackVerdict.Malformed => Fail(Http2ErrorCode.CompressionError, "invalid_field_block"),
        _ => Abuse(AbuseKind.FieldBlock),
    };

    /// <summary>A block for a stream that is not open any more: keeps HPACK in step; an error unless we reset the stream ourselves.</summary>
    public bool OnLateFieldBlock(int streamId, ReadOnlySpan<byte> block)
    {
        Fields.BeginDiscard();
        if (!TryDecode(block))
        {
            return false;
        }

        lock (Gate)
        {
            if (!_past.WasReset(streamId))
            {
                return _past.WasSkipped(streamId)
                    ? Fail(Http2ErrorCode.ProtocolError, "lower_stream_number")
                    : Fail(Http2ErrorCode.StreamClosed, "headers_on_closed_stream");
            }

            return Guard.Charge(AbuseKind.IgnoredFrame) || Abuse(AbuseKind.IgnoredFrame);
        }
    }

    /// <summary>Trailers of an open stream.</summary>
    public bool OnTrailers(Http2Stream stream, bool endStream, ReadOnlySpan<byte> block)
    {
        // The caller holds the stream: its owner may give it up while its trailers are being filled. A second trailer section must not be: somebody may be reading
        // the first, and has judged it. Only this loop sets HasReceivedEnd.
        if (stream.HasReceivedEnd)
        {
            Fields.BeginDiscard();
        }
        else
        {
            Fields.BeginTrailers(stream.Trailers);
        }

        if (!TryDecode(block))
        {
            return false;
        }

        var verdict = Fields.End();
        Deferred deferred;
        BodyChunk chunk = default;
        var readable = false;
        lock (Gate)
        {
            if (stream.HasEnded || stream.State.IsClosed)
            {
                Release(stream);
                return true;
            }

            var (code, detail) = JudgeTrailers(stream, endStream, verdict);
            if (detail is null)
            {
                stream.State.OnHeadersReceived(endStream);
                OnEndReceived(stream);
                readable = stream.Body.TryTakeWaiting(out chunk);
            }
            else if (!FailStreamLocked(stream, code, detail))
            {
                Release(stream);
                return false;
            }

            Release(stream);
            deferred = Writer.TakeDeferred();
        }

        if (readable)
        {
            stream.Body.Signal.Complete(chunk);
        }

        Run(deferred);
        return true;
    }

    /// <summary>What is wrong with trailers; no detail when nothing is. Under the lock.</summary>
    private (Http2ErrorCode Code, string? Detail) JudgeTrailers(Http2Stream stream, bool endStream, FieldBlockVerdict verdict) =>
        !stream.State.CanReceive ? (Http2ErrorCode.StreamClosed, "headers_after_end")
        : stream.IsTunnel ? (Http2ErrorCode.ProtocolError, "headers_in_tunnel")
        : !endStream ? (Http2ErrorCode.ProtocolError, "trailers_without_end")
        : verdict == FieldBlockVerdict.Malformed ? (Http2ErrorCode.ProtocolError, Fields.Detail)
        : verdict == FieldBlockVerdict.TooLarge ? (Http2ErrorCode.EnhanceYourCalm, "trailers_too_large")
        : stream.ExpectedLength >= 0 && stream.ReceivedLength != stream.ExpectedLength ? (Http2ErrorCode.ProtocolError, "content_length_mismatch")
        : (Http2ErrorCode.NoError, null);
}
