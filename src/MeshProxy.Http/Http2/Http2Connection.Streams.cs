using System.Buffers.Text;
using MeshProxy.Http.Fields;
using MeshProxy.Http.Http2.FlowControl;

namespace MeshProxy.Http.Http2;

// The streams that are open, and how they end. Everything here is called under the lock, unless said otherwise.
internal sealed partial class Http2Connection
{
    public bool TryGetStream(int id, out Http2Stream stream) => _streams.TryGetValue(id, out stream!);

    /// <summary>A number was used, whatever became of its stream.</summary>
    public void NoteOpened(int id)
    {
        _past.NoteOpened(LastStreamId, id);
        LastStreamId = id;
    }

    public void AddStream(Http2Stream stream, int id)
    {
        _isPingDue = IsReusedAfterPause;
        stream.Id = id;
        stream.SendWindow = _peerInitialWindow;
        stream.ReceiveWindow = new ReceiveWindow(Limits.InitialStreamWindowBytes);
        NoteOpened(id);
        _openedSinceTick = true;
        _streams.Add(id, stream);
    }

    /// <summary>Our END_STREAM was written.</summary>
    public void OnEndSent(Http2Stream stream)
    {
        stream.State.OnDataSent(endStream: true);
        if (stream.State.IsClosed)
        {
            Guard.OnStreamCompleted();
            CloseStream(stream);
        }
    }

    public void OnEndReceived(Http2Stream stream)
    {
        stream.HasReceivedEnd = true;
        if (stream.State.IsClosed)
        {
            CloseStream(stream);
        }
    }

    /// <summary>Takes the stream off the connection; its unread bytes stay readable.</summary>
    public void CloseStream(Http2Stream stream)
    {
        if (_streams.Remove(stream.Id))
        {
            Writer.NoteClosed();
        }
    }

    /// <summary>Marks a stream as ended; its waiters and its owner are told outside the lock.</summary>
    public void EndStream(Http2Stream stream, StreamEnd end)
    {
        if (stream.IsEndNoted)
        {
            return;
        }

        stream.IsEndNoted = true;

        // A response that is whole stays whole, whatever happens to the rest of its request.
        if (_role.IsServer || !stream.HasReceivedEnd)
        {
            stream.End = end;
        }

        stream.State.OnResetSent();
        Writer.Forget(stream);

        // What was received stays in its blocks until the exchange is handed back: a chunk of it may be on its way into another connection.
        Writer.NoteEnded(stream);
    }

    /// <summary>Ends the streams that the peer has not seen (RFC 9113 section 6.8).</summary>
    public void EndStreamsBeyond(int lastStreamId, StreamEnd end)
    {
        // A rare event: the copy may allocate.
        foreach (var stream in _streams.Values.Where(stream => stream.Id > lastStreamId).ToArray())
        {
            _past.NoteReset(stream.Id);
            CloseStream(stream);
            EndStream(stream, end);
        }
    }

    /// <summary>The output has failed: ends the streams that were never sent, which need not wait for what there still is to read, and releases the writers of the
    /// others.</summary>
    public void EndUnsent()
    {
        // Removing the stream at hand leaves the walk valid.
        foreach (var stream in _streams.Values)
        {
            if (Writer.IsUnflushed(stream))
            {
                EndedAbruptly = true;
                CloseStream(stream);
                EndStream(stream, EndOf(ConnectionCloseReason.TransportError, Http2ErrorCode.NoError, null));
            }
            else
            {
                Writer.GiveUpWriting(stream);
            }
        }
    }

    /// <summary>Sends RST_STREAM for an open stream, and ends it.</summary>
    public void ResetStream(Http2Stream stream, Http2ErrorCode code, StreamEnd end)
    {
        if (stream.State.OnResetSent())
        {
            _past.NoteReset(stream.Id);
            Writer.WriteReset(stream.Id, code);
            CloseStream(stream);
        }

        EndStream(stream, end);
    }

    /// <summary>Answers a stream that was never opened here with RST_STREAM.</summary>
    public void RefuseStream(int id, Http2ErrorCode code)
    {
        _past.NoteReset(id);
        Writer.WriteReset(id, code);
    }

    /// <summary>Answers a stream that was never opened here, in full. A body that the windows do not allow at once is left out.</summary>
    public void WriteAnswer(int streamId, ResponseHead head, ReadOnlySpan<byte> body)
    {
        var hasBody = !body.IsEmpty && body.Length <= Math.Min(_peerInitialWindow, Math.Min(Writer.SendWindow, Writer.MaxFrameBytes));
        Span<byte> digits = stackalloc byte[11];
        Utf8Formatter.TryFormat(hasBody ? body.Length : 0, digits, out var length);
        head.Fields.Add(KnownField.ContentLength, digits[..length]);
        Writer.WriteResponseHead(streamId, head.Status, head.Fields, endStream: !hasBody);
        if (hasBody)
        {
            Writer.WriteLastData(streamId, body);
        }
    }

    /// <summary>A stream error that the peer caused.</summary>
    /// <returns>False when it has caused too many.</returns>
    public bool FailStreamLocked(Http2Stream stream, Http2ErrorCode code, string detail, StreamResetReason reason = StreamResetReason.ProtocolError)
    {
        ResetStream(stream, code, new StreamEnd(reason, Initiator.Peer, (uint)code, detail));
        return Guard.Charge(AbuseKind.ProvokedReset) || Abuse(AbuseKind.ProvokedReset);
    }

    public void DropReceived(Http2Stream stream)
    {
        _unread -= stream.Received.Length;
        stream.Received.Clear();
    }

    /// <summary>The body reader consumed bytes. Outside the lock, on the reader's thread.</summary>
    public void OnBodyConsumed(Http2Stream stream, long count)
    {
        if (count == 0)
        {
            return;
        }

        var flush = false;
        lock (Gate)
        {
            stream.Received.Consume(count);
            _unread -= count;
            if (stream.State.CanReceive && !IsClosed)
            {
                flush = GiveBack(stream, (int)count);
            }
        }

        if (flush)
        {
            FlushBatch.Request(Writer);
        }
    }

    public void OnTinyData() => _tinyDataFlood |= !Guard.Charge(AbuseKind.TinyData);

    /// <summary>Runs what was found under the lock. Outside it.</summary>
    public void Run(in Deferred deferred)
    {
        if (deferred.IsEmpty)
        {
            return;
        }

        for (var stream = deferred.Written; stream is not null;)
        {
            // Completing hands the object back to its user, who may enlist it again.
            var next = stream.NextWritten;
            stream.NextWritten = null;
            stream.WriteSignal.Complete(stream.WriteResult);
            stream = next;
        }

        for (var stream = deferred.Ended; stream is not null;)
        {
            var next = stream.NextEnded;
            stream.NextEnded = null;
            TellEnd(stream);
            stream = next;
        }

        if (deferred.Closed > 0)
        {
            _role.OnStreamsClosed(deferred.Closed);
        }
    }

    /// <summary>Hands a stream's objects back, at once or when its end has been told.</summary>
    public void Recycle(Http2Stream stream)
    {
        if (stream.Holds > 0)
        {
            stream.IsRecycleWanted = true;
            return;
        }

        DropReceived(stream);
        stream.Renew();
        stream.Owner.Recycle();
    }

    /// <summary>Gives back a hold.</summary>
    public void Release(Http2Stream stream)
    {
        stream.Holds--;
        if (stream.Holds == 0 && stream.IsRecycleWanted)
        {
            Recycle(stream);
        }
    }

    private void TellEnd(Http2Stream stream)
    {
        bool writer;
        bool reader;
        BodyChunk chunk;
        StreamEnd end;
        lock (Gate)
        {
            end = stream.End;
            writer = stream.WriteSignal.TryTake();
            stream.Body.TryTakeChunk(out chunk);
            reader = stream.Body.Signal.TryTake();
        }

        stream.Owner.OnStreamEnded(end);
        if (writer)
        {
            stream.WriteSignal.Complete(false);
        }

        if (reader)
        {
            stream.Body.Signal.Complete(chunk);
        }

        lock (Gate)
        {
            Release(stream);
        }
    }

    private bool GiveBack(Http2Stream stream, int count)
    {
        var increment = stream.ReceiveWindow.OnConsumed(count, HasRoomToGrow ? _bandwidth.Target : 0);
        if (increment == 0)
        {
            return false;
        }

        Writer.WriteWindowUpdate(stream.Id, increment);
        if (_bandwidth.TryBegin(Options.TimeProvider.GetTimestamp()))
        {
            Writer.WritePing(PingBandwidth, isAck: false);
        }

        return true;
    }

    private bool OnLateFrame(int streamId)
    {
        if (IsIdle(streamId))
        {
            return Fail(Http2ErrorCode.ProtocolError, "data_on_idle_stream");
        }

        if (_past.WasReset(streamId))
        {
            return Guard.Charge(AbuseKind.IgnoredFrame) || Abuse(AbuseKind.IgnoredFrame);
        }

        Writer.WriteReset(streamId, Http2ErrorCode.StreamClosed);
        return Guard.Charge(AbuseKind.ProvokedReset) || Abuse(AbuseKind.ProvokedReset);
    }

    // Beyond the last GOAWAY everything is as good as closed: its frames are discarded (RFC 9113 section 6.8).
    private bool IsIdle(int streamId) => (streamId & 1) == 0 || (streamId > LastStreamId && !IsFinalGoAwaySent);

    // A stream error that a frame's handler returns from with the lock held: the read loop tells it right after the frame.
    private bool FailStream(Http2Stream stream, Http2ErrorCode code, string detail)
    {
        _hasUntold = true;
        return FailStreamLocked(stream, code, detail);
    }

    private void TellUntold()
    {
        Deferred deferred;
        lock (Gate)
        {
            _hasUntold = false;
            deferred = Writer.TakeDeferred();
        }

        Run(deferred);
    }
}
