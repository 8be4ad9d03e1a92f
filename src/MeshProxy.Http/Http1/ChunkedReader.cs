using System.Buffers;
using MeshProxy.Http.Fields;

namespace MeshProxy.Http.Http1;

/// <summary>
/// Takes the chunked coding off a body (RFC 9112 section 7.1). Performs no I/O; the framing is judged byte by byte, the data is only counted.
/// Extensions are checked and thrown away; trailer fields that frame, route or authenticate are thrown away too.
/// <code>
/// Size -digits-> Size -BWS-> ExtensionGap -';'-> Extension     Size, Extension -CR-> SizeLf -LF-> Data (size > 0) or Trailers (last chunk)
/// Data -all-> DataCr -CR-> DataLf -LF-> Size                   Trailers -empty line-> Done        anything else -> Failed
/// </code>
/// </summary>
public sealed class ChunkedReader
{
    private readonly Http1Limits _limits;
    private Phase _phase;
    private ChunkExtensionSyntax _extension;
    private long _remaining;
    private int _digits;
    private int _chunkExtensionBytes;
    private int _bodyExtensionBytes;
    private int _trailerBytes;
    private int _trailerCount;

    /// <summary>Makes a reader; <see cref="Reset"/> begins a body.</summary>
    public ChunkedReader(Http1Limits limits) => _limits = limits;

    private enum Phase : byte
    {
        Size,
        ExtensionGap,
        Extension,
        SizeLf,
        Data,
        DataCr,
        DataLf,
        Trailers,
        Done,
        Failed,
    }

    /// <summary>The trailer fields, once <see cref="IsDone"/>.</summary>
    public FieldMap Trailers { get; } = new();

    /// <summary>True after the final empty line.</summary>
    public bool IsDone => _phase == Phase.Done;

    /// <summary>What was wrong: 400 for syntax, 413 or 431 for a limit.</summary>
    public Http1Error Error { get; private set; }

    /// <summary>Bytes of the current chunk that are still to come; 0 outside of chunk data.</summary>
    public long DataRemaining => _phase == Phase.Data ? _remaining : 0;

    /// <summary>Begins a body.</summary>
    public void Reset()
    {
        _phase = Phase.Size;
        _remaining = 0;
        _digits = 0;
        _chunkExtensionBytes = 0;
        _bodyExtensionBytes = 0;
        _trailerBytes = 0;
        _trailerCount = 0;
        Error = default;
        if (Trailers.Count > 0)
        {
            Trailers.Clear();
        }
    }

    /// <summary>
    /// Takes framing off the front of <paramref name="input"/> until data stands there (<see cref="DataRemaining"/> says how much of the chunk),
    /// the body is done, it is refused, or the input is used up.
    /// </summary>
    /// <returns>False when refused: <see cref="Error"/>.</returns>
    public bool SkipFraming(ref ReadOnlySequence<byte> input)
    {
        while (_phase is not (Phase.Data or Phase.Done or Phase.Failed) && !input.IsEmpty)
        {
            if (_phase == Phase.Trailers)
            {
                if (!ReadTrailers(ref input))
                {
                    break;
                }

                continue;
            }

            var span = input.FirstSpan;
            var used = 0;
            while (used < span.Length && _phase < Phase.Trailers && _phase != Phase.Data)
            {
                Step(span[used++]);
            }

            input = input.Slice(used);
        }

        return _phase != Phase.Failed;
    }

    /// <summary>Counts data that was taken.</summary>
    public void OnDataTaken(long count)
    {
        _remaining -= count;
        if (_remaining == 0)
        {
            _phase = Phase.DataCr;
        }
    }

    private void Step(byte b)
    {
        switch (_phase)
        {
            case Phase.Size:
                ReadSize(b);
                break;
            case Phase.ExtensionGap:
                if (b == ';')
                {
                    BeginExtension();
                }
                else if (b is not ((byte)' ' or (byte)'\t'))
                {
                    Fail(400, "invalid_chunk_size");
                }

                CountExtension();
                break;
            case Phase.Extension:
                if (b == '\r' && _extension.MayEnd)
                {
                    _phase = Phase.SizeLf;
                }
                else if (!_extension.TryStep(b))
                {
                    Fail(400, "invalid_chunk_extension");
                }
                else
                {
                    CountExtension();
                }

                break;
            case Phase.SizeLf:
                if (b != '\n')
                {
                    Fail(400, "invalid_chunk_terminator");
                    break;
                }

                _phase = _remaining > 0 ? Phase.Data : Phase.Trailers;
                _digits = 0;
                _chunkExtensionBytes = 0;
                break;
            case Phase.DataCr when b == '\r':
                _phase = Phase.DataLf;
                break;
            case Phase.DataLf when b == '\n':
                _phase = Phase.Size;
                break;
            default:
                Fail(400, "invalid_chunk_terminator");
                break;
        }
    }

    private void ReadSize(byte b)
    {
        var digit = (uint)(b - '0') <= 9 ? b - '0' : (uint)((b | 0x20) - 'a') <= 5 ? (b | 0x20) - 'a' + 10 : -1;
        if (digit >= 0)
        {
            if (++_digits > _limits.MaxChunkSizeDigits)
            {
                Fail(400, "invalid_chunk_size");
                return;
            }

            _remaining = (_remaining << 4) | (long)digit;
        }
        else if (_digits == 0)
        {
            Fail(400, "invalid_chunk_size");
        }
        else if (b == '\r')
        {
            _phase = Phase.SizeLf;
        }
        else if (b == ';')
        {
            BeginExtension();
            CountExtension();
        }
        else if (b is (byte)' ' or (byte)'\t')
        {
            _phase = Phase.ExtensionGap;
            CountExtension();
        }
        else
        {
            Fail(400, "invalid_chunk_size");
        }
    }

    private void BeginExtension()
    {
        _phase = Phase.Extension;
        _extension = default;
    }

    private void CountExtension()
    {
        if (++_chunkExtensionBytes > _limits.MaxChunkExtensionBytes || ++_bodyExtensionBytes > _limits.MaxChunkExtensionBytesPerBody)
        {
            Fail(413, "chunk_extensions_too_large");
        }
    }

    // False: more is needed, or it is refused.
    private bool ReadTrailers(ref ReadOnlySequence<byte> input)
    {
        var left = _limits.MaxTrailerBytes - _trailerBytes;
        var size = (int)Math.Min(input.Length, left);
        byte[]? copy = null;
        var span = input.FirstSpan;
        if (span.Length >= size)
        {
            span = span[..size];
        }
        else
        {
            copy = ArrayPool<byte>.Shared.Rent(size);
            input.Slice(0, size).CopyTo(copy);
            span = copy.AsSpan(0, size);
        }

        var kind = FieldLineParser.Parse(span, out var name, out var value, out var used, out var error);
        switch (kind)
        {
            case FieldLineKind.Line when ++_trailerCount > _limits.MaxFields:
                Fail(431, "too_many_trailers");
                break;
            case FieldLineKind.Line:
                _trailerBytes += used;
                if (FieldLineParser.IsAllowedInTrailers(KnownFields.Parse(name)))
                {
                    Trailers.Add(name, value);
                }

                break;
            case FieldLineKind.EndOfSection:
                _phase = Phase.Done;
                break;
            case FieldLineKind.Error:
                Fail(400, error!);
                break;
            default:
                if (size == left)
                {
                    Fail(431, "trailers_too_large");
                }

                break;
        }

        if (copy is not null)
        {
            ArrayPool<byte>.Shared.Return(copy);
        }

        input = input.Slice(used);
        return kind == FieldLineKind.Line && _phase != Phase.Failed;
    }

    private void Fail(int status, string detail)
    {
        if (_phase != Phase.Failed)
        {
            _phase = Phase.Failed;
            Error = new Http1Error(status, detail);
        }
    }
}
