using System.Buffers;
using System.Net.Security;
using System.Runtime.CompilerServices;
using Microsoft.AspNetCore.Connections;

namespace MeshProxy.DataPlane.Transport;

/// <summary>
/// TLS over another connection, under a reader and a writer. A wait for the next record holds neither a block of ours nor the engine's buffer. An end
/// without close_notify is a truncation and surfaces as a reset (RFC 8446 section 6.1); close_notify ends one direction, the other lives on.
/// </summary>
#pragma warning disable CA1001 // the destination has nothing to dispose of
internal sealed class TlsChannel : ByteChannel
#pragma warning restore CA1001
{
    private readonly SslStream _stream;
    private readonly TlsInnerStream _inner;
    private readonly ConnectionContext _raw;
    private readonly Action _onReceived;
    private readonly Action _onSent;
    private readonly LateDestination _destination;
    private ValueTaskAwaiter<int> _receiving;
    private bool _waitsOnly;
    private ValueTaskAwaiter<bool> _sending;

    /// <summary>Takes over after the handshake.</summary>
    public TlsChannel(SslStream stream, TlsInnerStream inner, ConnectionContext raw, BlockPool pool)
    {
        _stream = stream;
        _inner = inner;
        _raw = raw;
        _onReceived = OnReceived;
        _onSent = OnSent;
        Reader = new ChannelReader(this, pool);
        _destination = new LateDestination(Reader);
        Writer = new ChannelWriter(this, pool);
    }

    /// <summary>The decrypted reading end.</summary>
    public ChannelReader Reader { get; }

    /// <summary>The writing end that encrypts.</summary>
    public ChannelWriter Writer { get; }

#pragma warning disable CA2012 // consumed once: at once, or by the one continuation
    /// <inheritdoc/>
    public override int Receive(ChannelReader reader)
    {
        _waitsOnly = reader.WaitsOnly;
        try
        {
            _receiving = _stream.ReadAsync(_waitsOnly ? default : _destination.Take()).GetAwaiter();
        }
        catch (Exception failure)
        {
            return Fail(failure);
        }

        if (_receiving.IsCompleted)
        {
            return EndReceive();
        }

        _receiving.UnsafeOnCompleted(_onReceived);
        return Pending;
    }

    /// <inheritdoc/>
    public override bool Send(ChannelWriter writer)
    {
        _sending = SendAsync().GetAwaiter();
        if (_sending.IsCompleted)
        {
            OnSent();
        }
        else
        {
            _sending.UnsafeOnCompleted(_onSent);
        }

        return false;
    }
#pragma warning restore CA2012

    private void OnReceived()
    {
        var count = EndReceive();
        Reader.OnReceived(count, count == Failed ? Failure : null);
    }

    private int EndReceive()
    {
        try
        {
            var count = _receiving.GetResult();
            return count > 0 || _waitsOnly || !_inner.RawHasEnded()
                ? count
                : Fail(new ConnectionResetException("The connection ended without TLS close_notify: what was sent may be cut short."));
        }
        catch (Exception failure)
        {
            return Fail(failure);
        }
    }

    private int Fail(Exception failure)
    {
        Failure ??= Translate(failure);
        return Failed;
    }

    // The awaiter's field belongs to this send until FinishSend: only then may the next one begin.
    private void OnSent()
    {
        if (!_sending.GetResult())
        {
            if (Writer.OnBroken())
            {
                Writer.Wake();
            }
        }
        else if (!Writer.FinishSend(out var wake))
        {
            Send(Writer);
        }
        else if (wake)
        {
            Writer.Wake();
        }
    }

    // False: the connection is broken.
    [AsyncMethodBuilder(typeof(RecycledMethodBuilder<>))]
    private async ValueTask<bool> SendAsync()
    {
        try
        {
            while (true)
            {
                if (Writer.TryPeek(out var piece, out var endNow))
                {
                    await _stream.WriteAsync(piece);
                    if (Writer.OnSent(piece.Length))
                    {
                        await _inner.FlushRawAsync();
                    }
                }
                else if (endNow)
                {
                    await _stream.ShutdownAsync();
                    await _inner.FlushRawAsync();
                    await _raw.Transport.Output.CompleteAsync();
                }
                else
                {
                    return true;
                }
            }
        }
        catch (Exception)
        {
            // The reader finds out by itself, after what it can still read.
            return false;
        }
    }

    private static Exception Translate(Exception failure)
    {
        for (var cause = failure; cause is not null; cause = cause.InnerException)
        {
            if (cause is ConnectionResetException or ConnectionAbortedException)
            {
                return cause;
            }
        }

        return failure is ObjectDisposedException
            ? new ConnectionAbortedException("The connection was closed by us.", failure)
            : new ConnectionResetException($"TLS failed while reading ({failure.Message})", failure);
    }

    /// <summary>The reader's memory, which the engine first touches when it copies what it has decrypted: until then there is no block behind it.</summary>
    private sealed class LateDestination(ChannelReader reader) : MemoryManager<byte>
    {
        /// <summary>For one read.</summary>
        public Memory<byte> Take() => CreateMemory(reader.DestinationLength);

        public override Span<byte> GetSpan() => reader.DestinationLocked().Span;

        public override MemoryHandle Pin(int elementIndex = 0) => throw new NotSupportedException();

        public override void Unpin()
        {
        }

        protected override void Dispose(bool disposing)
        {
        }
    }
}
