using System.Buffers;
using System.IO.Pipelines;
using Microsoft.AspNetCore.Connections;

namespace MeshProxy.DataPlane.Transport;

/// <summary>
/// What the TLS engine sees as its network. Reads go straight into the engine's buffer; an empty read waits and holds nothing. After the handshake writes only
/// gather in the raw connection's blocks: <see cref="TlsChannel"/> flushes, so that many records leave in one system call.
/// </summary>
internal sealed class TlsInnerStream(IDuplexPipe raw) : Stream
{
    // Bounds what gathers between two flushes of a large write.
    private const int FlushAboveBytes = 128 * 1024;

    private readonly PipeReader _input = raw.Input;
    private readonly ChannelReader? _channelReader = raw.Input as ChannelReader;
    private readonly PipeWriter _output = raw.Output;
    private readonly Lock _writeGate = new();
    private bool _handshaking = true;
    private bool _pipeHasEnded;

    /// <summary>The very first byte that came; negative before. 0x16 begins a TLS handshake.</summary>
    public int FirstByte { get; private set; } = -1;

    /// <inheritdoc/>
    public override bool CanRead => true;

    /// <inheritdoc/>
    public override bool CanSeek => false;

    /// <inheritdoc/>
    public override bool CanWrite => true;

    /// <inheritdoc/>
    public override long Length => throw new NotSupportedException();

    /// <inheritdoc/>
    public override long Position
    {
        get => throw new NotSupportedException();
        set => throw new NotSupportedException();
    }

    /// <summary>From here on continuations stay on the event loop, and writes gather.</summary>
    public void EndHandshake() => _handshaking = false;

    /// <inheritdoc/>
    public override ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default)
    {
        if (_handshaking)
        {
            return ReadInHandshakeAsync(buffer);
        }

        return _channelReader is null ? ReadPipeAsync(buffer) : _channelReader.ReadIntoAsync(buffer);
    }

    /// <inheritdoc/>
    public override ValueTask WriteAsync(ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default)
    {
        long gathered;
        lock (_writeGate)
        {
            if (_output is ChannelWriter { IsCompleted: true })
            {
                // An alert after our FIN has nowhere to go.
                return default;
            }

            _output.Write(buffer.Span);
            gathered = _output.CanGetUnflushedBytes ? _output.UnflushedBytes : 0;
        }

        return _handshaking || gathered > FlushAboveBytes ? FlushRawAsync() : default;
    }

    /// <summary>Sends what gathered.</summary>
    /// <exception cref="ConnectionResetException">The connection is gone.</exception>
    public ValueTask FlushRawAsync()
    {
        var flush = _output.FlushAsync();
        if (flush.IsCompletedSuccessfully)
        {
            return flush.Result.IsCompleted ? throw Gone() : default;
        }

        return Await(flush);

        static async ValueTask Await(ValueTask<FlushResult> flush)
        {
            if ((await flush).IsCompleted)
            {
                throw Gone();
            }
        }
    }

    /// <inheritdoc/>
    public override Task FlushAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    /// <inheritdoc/>
    public override void Flush()
    {
    }

    /// <inheritdoc/>
    public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();

    /// <inheritdoc/>
    public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();

    /// <inheritdoc/>
    public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

    /// <inheritdoc/>
    public override void SetLength(long value) => throw new NotSupportedException();

    /// <summary>Whether the raw connection has ended under the engine.</summary>
    public bool RawHasEnded() => _channelReader?.HasEnded ?? _pipeHasEnded;

    private static ConnectionResetException Gone() => new("The connection was closed by the peer.");

    private async ValueTask<int> ReadInHandshakeAsync(Memory<byte> buffer)
    {
        var count = await (_channelReader is null ? ReadPipeAsync(buffer) : _channelReader.ReadIntoAsync(buffer));
        if (FirstByte < 0 && count > 0)
        {
            FirstByte = buffer.Span[0];
        }

        // What follows is asymmetric cryptography.
        await default(ThreadPoolHop);
        return count;
    }

    private async ValueTask<int> ReadPipeAsync(Memory<byte> buffer)
    {
        while (true)
        {
            var read = await _input.ReadAsync();
            if (read.IsCanceled)
            {
                _input.AdvanceTo(read.Buffer.Start);
                continue;
            }

            if (read.Buffer.IsEmpty && read.IsCompleted)
            {
                _pipeHasEnded = true;
                _input.AdvanceTo(read.Buffer.End);
                return 0;
            }

            var count = (int)Math.Min(read.Buffer.Length, buffer.Length);
            var taken = read.Buffer.Slice(0, count);
            taken.CopyTo(buffer.Span);
            _input.AdvanceTo(taken.End);
            return count;
        }
    }
}
