using System.Buffers.Binary;

namespace MeshProxy.Load;

/// <summary>
/// HTTP/2 with prior knowledge (RFC 9113 section 3.3). Windows are opened so wide that flow control never measures this client; those of the peer are taken to be
/// as wide as small bodies need.
/// Of a response's fields only the status is read, and only as the static entries that every server uses for it.
/// </summary>
internal sealed class Http2Connection(Generator generator, int slot) : Connection(generator, slot)
{
    private const int FrameHeaderBytes = 9;
    private const int WindowBytes = 1 << 30;

    private readonly int[] _streamIds = new int[generator.Options.Streams];
    private readonly long[] _dues = new long[generator.Options.Streams];
    private readonly byte[] _input = new byte[64 * 1024];
    private readonly byte[] _output = new byte[64 * 1024];
    private int _inputLength;
    private int _outputLength;
    private int _nextStreamId = 1;
    private int _inFlight;
    private bool _goingAway;
    private long _consumed;

    internal override int InFlight => _inFlight;

    internal override void Start(long due)
    {
        var slot = Array.IndexOf(_streamIds, 0);
        _streamIds[slot] = _nextStreamId;
        _dues[slot] = due;
        _inFlight++;
        if (Generator.Body.Length == 0)
        {
            WriteFrame(1, 0x4 | 0x1, _nextStreamId, Generator.Http2HeaderBlock);
        }
        else
        {
            WriteFrame(1, 0x4, _nextStreamId, Generator.Http2HeaderBlock);
            WriteFrame(0, 0x1, _nextStreamId, Generator.Body);
        }

        _nextStreamId += 2;
        Generator.NeedsFlush(this);
    }

    internal override void Flush()
    {
        if (_outputLength > 0 && IsOpen)
        {
            var length = _outputLength;
            _outputLength = 0;
            Send(_output.AsSpan(0, length));
        }
    }

    internal override void Abandon(Action<long> each)
    {
        for (var i = 0; i < _streamIds.Length; i++)
        {
            if (_streamIds[i] != 0)
            {
                each(_dues[i]);
                _streamIds[i] = 0;
            }
        }

        _inFlight = 0;
    }

    protected override void OnOpen()
    {
        _inputLength = 0;
        _outputLength = 0;
        _nextStreamId = 1;
        _consumed = 0;
        _goingAway = false;
        Send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"u8);
        Span<byte> settings = stackalloc byte[12];
        BinaryPrimitives.WriteUInt16BigEndian(settings, 2); // ENABLE_PUSH = 0
        BinaryPrimitives.WriteUInt16BigEndian(settings[6..], 4); // INITIAL_WINDOW_SIZE
        BinaryPrimitives.WriteUInt32BigEndian(settings[8..], WindowBytes);
        WriteFrame(4, 0, 0, settings);
        WriteWindowUpdate(WindowBytes);
        for (var i = 0; i < _streamIds.Length; i++)
        {
            Generator.OnFree(this);
        }

        Flush();
    }

    protected override void OnReceived(ReadOnlySpan<byte> bytes)
    {
        while (!bytes.IsEmpty && IsOpen)
        {
            var copied = Math.Min(bytes.Length, _input.Length - _inputLength);
            bytes[..copied].CopyTo(_input.AsSpan(_inputLength));
            bytes = bytes[copied..];
            _inputLength += copied;
            var at = 0;
            while (_inputLength - at >= FrameHeaderBytes)
            {
                var header = _input.AsSpan(at);
                var length = (header[0] << 16) | (header[1] << 8) | header[2];
                if (length > 16384)
                {
                    Fail("frame larger than allowed");
                    return;
                }

                if (_inputLength - at < FrameHeaderBytes + length)
                {
                    break;
                }

                at += FrameHeaderBytes + length;
                var streamId = BinaryPrimitives.ReadInt32BigEndian(header[5..]) & 0x7fffffff;
                OnFrame(header[3], header[4], streamId, header.Slice(FrameHeaderBytes, length));
                if (!IsOpen)
                {
                    return;
                }
            }

            _input.AsSpan(at, _inputLength - at).CopyTo(_input);
            _inputLength -= at;
        }

        if (_goingAway && _inFlight == 0 && IsOpen)
        {
            Close(sayGoodbye: true);
            Generator.OnClosedIdle(this);
        }
        else
        {
            Flush();
        }
    }

    protected override void OnEnd()
    {
        if (_inFlight == 0)
        {
            Close(sayGoodbye: false);
            Generator.OnClosedIdle(this);
        }
        else
        {
            base.OnEnd();
        }
    }

    private void OnFrame(byte type, byte flags, int streamId, ReadOnlySpan<byte> payload)
    {
        switch (type)
        {
            case 0:
                Generator.OnBodyBytes(payload.Length);
                _consumed += payload.Length;
                if (_consumed > WindowBytes / 2)
                {
                    WriteWindowUpdate((int)_consumed);
                    _consumed = 0;
                }

                if ((flags & 1) != 0)
                {
                    Complete(streamId, 200);
                }

                break;
            case 1:
                var status = StatusOf(flags, payload);
                if (status != 200)
                {
                    Complete(streamId, status);
                }
                else if ((flags & 1) != 0)
                {
                    Complete(streamId, 200);
                }

                break;
            case 3:
                Complete(streamId, -1);
                break;
            case 4 when (flags & 1) == 0:
                WriteFrame(4, 1, 0, default);
                break;
            case 6 when (flags & 1) == 0:
                WriteFrame(6, 1, 0, payload);
                break;
            case 7:
                _goingAway = true;
                break;
            default:
                break;
        }
    }

    /// <summary>
    /// The status of a response, or 200 for trailers: RFC 7541 appendix A has it at 8 to 14; another one comes as a literal, which reads as -1 here and
    /// counts as a failure, as does every status but 200.
    /// </summary>
    private static int StatusOf(byte flags, ReadOnlySpan<byte> block)
    {
        if ((flags & 0x8) != 0)
        {
            block = block[1..];
        }

        if ((flags & 0x20) != 0)
        {
            block = block[5..];
        }

        while (block.Length > 0 && (block[0] & 0xe0) == 0x20)
        {
            var more = (block[0] & 0x1f) == 0x1f;
            block = block[1..];
            while (more && block.Length > 0)
            {
                more = (block[0] & 0x80) != 0;
                block = block[1..];
            }
        }

        return block.Length == 0 ? -1 : block[0] switch
        {
            0x88 => 200,
            0x89 => 204,
            0x8a => 206,
            0x8b => 304,
            0x8c => 400,
            0x8d => 404,
            0x8e => 500,
            _ => -1,
        };
    }

    private void Complete(int streamId, int status)
    {
        var slot = Array.IndexOf(_streamIds, streamId);
        if (slot < 0 || streamId == 0)
        {
            return; // DATA that follows a failed status.
        }

        _streamIds[slot] = 0;
        _inFlight--;
        Generator.OnCompleted(_dues[slot], status);
        if (!_goingAway)
        {
            Generator.OnFree(this);
        }
    }

    private void WriteWindowUpdate(int increment)
    {
        Span<byte> payload = stackalloc byte[4];
        BinaryPrimitives.WriteInt32BigEndian(payload, increment);
        WriteFrame(8, 0, 0, payload);
    }

    private void WriteFrame(byte type, byte flags, int streamId, ReadOnlySpan<byte> payload)
    {
        if (_outputLength + FrameHeaderBytes + payload.Length > _output.Length)
        {
            Flush();
        }

        var frame = _output.AsSpan(_outputLength);
        frame[0] = (byte)(payload.Length >> 16);
        frame[1] = (byte)(payload.Length >> 8);
        frame[2] = (byte)payload.Length;
        frame[3] = type;
        frame[4] = flags;
        BinaryPrimitives.WriteInt32BigEndian(frame[5..], streamId);
        payload.CopyTo(frame[FrameHeaderBytes..]);
        _outputLength += FrameHeaderBytes + payload.Length;
    }
}
