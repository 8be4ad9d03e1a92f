using System.Globalization;
using System.Text;

namespace MeshProxy.Load;

/// <summary>HTTP/1.1, one request at a time. Understands Content-Length and chunked bodies; anything else is counted as an error.</summary>
internal sealed class Http1Connection(Generator generator, int slot) : Connection(generator, slot)
{
    private const int HeadLimitBytes = 16 * 1024;

    private enum Expect
    {
        Head,
        Body,
        ChunkSize,
        ChunkData,
        ChunkDataEnd,
        Trailer,
    }

    private Expect _expect;
    private long _bodyLeft;
    private byte[] _carry = [];
    private int _carryLength;
    private long _due = -1;
    private int _status;
    private bool _closeAfter;

    internal override int InFlight => _due >= 0 ? 1 : 0;

    internal override void Start(long due)
    {
        _due = due;
        if (IsOpen)
        {
            Send(Generator.Http1Request);
        }
        else
        {
            Open();
        }
    }

    internal override void Abandon(Action<long> each)
    {
        if (_due >= 0)
        {
            each(_due);
        }

        _due = -1;
        _expect = Expect.Head;
        _carryLength = 0;
    }

    protected override void OnOpen()
    {
        _expect = Expect.Head;
        _carryLength = 0;
        if (_due >= 0)
        {
            Send(Generator.Http1Request);
        }
        else
        {
            Generator.OnFree(this);
        }
    }

    protected override void OnReceived(ReadOnlySpan<byte> bytes)
    {
        while (!bytes.IsEmpty)
        {
            switch (_expect)
            {
                case Expect.Head:
                    if (_due < 0)
                    {
                        Fail("bytes without a request");
                        return;
                    }

                    if (!TakeUntil("\r\n\r\n"u8, ref bytes, out var head))
                    {
                        return;
                    }

                    if (!ReadHead(head))
                    {
                        return;
                    }

                    break;
                case Expect.Body or Expect.ChunkData:
                    var taken = (int)Math.Min(_bodyLeft, bytes.Length);
                    bytes = bytes[taken..];
                    _bodyLeft -= taken;
                    Generator.OnBodyBytes(taken);
                    if (_bodyLeft == 0)
                    {
                        if (_expect == Expect.Body)
                        {
                            Complete();
                            return;
                        }

                        _expect = Expect.ChunkDataEnd;
                    }

                    break;
                case Expect.ChunkDataEnd:
                    if (!TakeUntil("\r\n"u8, ref bytes, out _))
                    {
                        return;
                    }

                    _expect = Expect.ChunkSize;
                    break;
                case Expect.ChunkSize:
                    if (!TakeUntil("\r\n"u8, ref bytes, out var size))
                    {
                        return;
                    }

                    var end = size.IndexOfAny((byte)';', (byte)'\r');
                    if (!long.TryParse(size[..end], NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out _bodyLeft))
                    {
                        Fail("chunk size");
                        return;
                    }

                    _expect = _bodyLeft == 0 ? Expect.Trailer : Expect.ChunkData;
                    break;
                default:
                    if (!TakeUntil("\r\n"u8, ref bytes, out var line))
                    {
                        return;
                    }

                    if (line.Length == 2)
                    {
                        Complete();
                        return;
                    }

                    break;
            }
        }
    }

    protected override void OnEnd()
    {
        if (_due < 0)
        {
            Close(sayGoodbye: false);
            Generator.OnClosedIdle(this);
        }
        else
        {
            base.OnEnd();
        }
    }

    /// <summary>Takes the bytes up to and with the mark, whole or from what earlier reads left.</summary>
    private bool TakeUntil(ReadOnlySpan<byte> mark, ref ReadOnlySpan<byte> bytes, out ReadOnlySpan<byte> taken)
    {
        if (_carryLength == 0)
        {
            var at = bytes.IndexOf(mark);
            if (at >= 0)
            {
                taken = bytes[..(at + mark.Length)];
                bytes = bytes[(at + mark.Length)..];
                return true;
            }
        }

        if (_carry.Length == 0)
        {
            _carry = new byte[HeadLimitBytes];
        }

        var before = _carryLength;
        var copied = Math.Min(bytes.Length, _carry.Length - before);
        bytes[..copied].CopyTo(_carry.AsSpan(before));
        _carryLength += copied;
        var found = _carry.AsSpan(0, _carryLength).IndexOf(mark);
        if (found < 0)
        {
            taken = default;
            bytes = default;
            if (_carryLength == _carry.Length)
            {
                Fail("response head too large");
            }

            return false;
        }

        taken = _carry.AsSpan(0, found + mark.Length);
        bytes = bytes[(found + mark.Length - before)..];
        _carryLength = 0;
        return true;
    }

    private bool ReadHead(ReadOnlySpan<byte> head)
    {
        if (head.Length < 13 || !head.StartsWith("HTTP/1."u8))
        {
            Fail("not an HTTP/1 response");
            return false;
        }

        _status = ((head[9] - '0') * 100) + ((head[10] - '0') * 10) + (head[11] - '0');
        _bodyLeft = -1;
        _closeAfter = false;
        var chunked = false;
        var rest = head[(head.IndexOf((byte)'\n') + 1)..];
        while (rest.Length > 2)
        {
            var lineEnd = rest.IndexOf((byte)'\n');
            var line = rest[..(lineEnd - 1)];
            rest = rest[(lineEnd + 1)..];
            if (line.Length > 15 && Ascii.EqualsIgnoreCase(line[..15], "content-length:"u8))
            {
                if (!long.TryParse(line[15..].Trim((byte)' '), NumberStyles.None, CultureInfo.InvariantCulture, out _bodyLeft))
                {
                    _bodyLeft = -1;
                }
            }
            else if (line.Length > 18 && Ascii.EqualsIgnoreCase(line[..18], "transfer-encoding:"u8))
            {
                chunked = Ascii.EqualsIgnoreCase(line[18..].Trim((byte)' '), "chunked"u8);
            }
            else if (line.Length > 11 && Ascii.EqualsIgnoreCase(line[..11], "connection:"u8))
            {
                _closeAfter = Ascii.EqualsIgnoreCase(line[11..].Trim((byte)' '), "close"u8);
            }
        }

        if (chunked)
        {
            _expect = Expect.ChunkSize;
        }
        else if (_bodyLeft > 0)
        {
            _expect = Expect.Body;
        }
        else if (_bodyLeft == 0)
        {
            Complete();
            return false;
        }
        else
        {
            Fail("response without Content-Length or chunked body");
            return false;
        }

        return true;
    }

    private void Complete()
    {
        var due = _due;
        _due = -1;
        _expect = Expect.Head;
        Generator.OnCompleted(due, _status);
        if (Generator.Options.Churn)
        {
            Close(sayGoodbye: true);
            Generator.OnFree(this);
        }
        else if (_closeAfter)
        {
            Close(sayGoodbye: true);
            Generator.OnClosedIdle(this);
        }
        else
        {
            Generator.OnFree(this);
        }
    }
}
