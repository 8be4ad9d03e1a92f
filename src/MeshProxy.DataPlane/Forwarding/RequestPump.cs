using System.Buffers;
using System.Runtime.CompilerServices;
using MeshProxy.DataPlane.Policy;
using MeshProxy.DataPlane.Telemetry;
using MeshProxy.DataPlane.Transport;
using MeshProxy.Http;

namespace MeshProxy.DataPlane.Forwarding;

/// <summary>
/// Streams a request body to the attempt at hand. It outlives attempts: when one fails it keeps what it has read and waits for the next, so that the
/// downstream is read by one reader only, from the first byte to the last.
/// States, guarded by <see cref="_gate"/>: no target (parked, or reading ahead of the next target), target (reading or writing), stopped.
/// The forwarder calls <see cref="DetachAsync"/> before it completes an attempt's exchange: afterwards nothing writes to it any more.
/// </summary>
internal sealed class RequestPump
{
    private readonly Lock _gate = new();
    private readonly Signal _resumed = new();
    private readonly Signal _quiet = new();
    private readonly ReplayBuffer _replay = new();
    private IHttpBodyWriter? _target;
    private GrpcMessageCounter _grpc;
    private long _bytes;
    private bool _writing;
    private bool _parked;
    private bool _detaching;
    private bool _stopped;

    /// <summary>Bytes read from the downstream.</summary>
    public long Bytes => Volatile.Read(ref _bytes);

    /// <summary>Where the messages of a gRPC call are counted as they go by; null for other bodies.</summary>
    public RouteMeters? Grpc { get; set; }

    /// <summary>Messages of a gRPC call that were read from the downstream.</summary>
    public long Messages { get; private set; }

    /// <summary>The body has been read to its end and written, though its last bytes may still wait to be sent: the answer can come before they are.</summary>
    public bool IsComplete { get; private set; }

    /// <summary>And nothing of it waits to be sent.</summary>
    public bool IsFlushed { get; private set; }

    /// <summary>How the body broke off, if it did.</summary>
    public StreamEnd Broken { get; private set; }

    /// <summary>What was written so far can be written again.</summary>
    public bool CanReplay => _replay.IsWhole;

    /// <summary>What was written so far, while <see cref="CanReplay"/>.</summary>
    public ReadOnlySequence<byte> Written => _replay.Content;

    /// <summary>Called by the pump when the last byte was written: the wait for the response begins here.</summary>
    public Action? Completed { get; init; }

    /// <summary>Called by the pump when the body broke off.</summary>
    public Action? BrokenOff { get; init; }

    /// <summary>Called by the pump when there is more of the body than is taken.</summary>
    public Action? TooLarge { get; init; }

    /// <summary>Moves the body to <paramref name="first"/>, and to whatever is attached later, until it ends, breaks off, is longer than
    /// <paramref name="traffic"/> allows, or is stopped.</summary>
    [AsyncMethodBuilder(typeof(RecycledMethodBuilder))]
    public async ValueTask RunAsync(HttpBodyReader body, IHttpBodyWriter first, ClientTraffic traffic)
    {
        _target = first;
        while (true)
        {
            if (!body.TryRead(out var chunk))
            {
                if (TryEnterWrite(out var idle))
                {
                    await idle.FlushAsync();
                    ExitWrite(accepted: true);
                }

                // Once it can not be sent a second time, nobody needs to see it go by.
                if (!CanReplay && Grpc is null && body.CanMoveTo(idle))
                {
                    await body.WaitAsync();
                    if (await MoveAsync(body, traffic.MaxRequestBodyBytes - _bytes))
                    {
                        continue;
                    }
                }

                chunk = await body.ReadAsync();
            }

            if (chunk.IsBroken)
            {
                Broken = chunk.End;
                BrokenOff?.Invoke();
                return;
            }

            if (_bytes + chunk.Data.Length > traffic.MaxRequestBodyBytes)
            {
                TooLarge?.Invoke();
                return;
            }

            if (chunk.IsEnd)
            {
                traffic.AdmitTrailers(body.Trailers);
            }

            if (!await WriteAsync(chunk, body))
            {
                return;
            }

            body.Advance(chunk.Data.Length);
            if (chunk.IsEnd)
            {
                Completed?.Invoke();
                return;
            }
        }
    }

    /// <summary>Takes the attempt's exchange away; completes when nothing is being written to it.</summary>
    public ValueTask DetachAsync()
    {
        lock (_gate)
        {
            _target = null;
            if (!_writing)
            {
                return default;
            }

            _quiet.Reset();
            _detaching = true;
            return _quiet.WaitAsync();
        }
    }

    /// <summary>Writes what earlier attempts were sent, and goes on with this one.</summary>
    public async ValueTask<bool> AttachAsync(IHttpBodyWriter target, HttpBodyReader body)
    {
        var ends = IsComplete && body.Trailers.Count == 0;
        if ((!_replay.Content.IsEmpty || ends) && !await target.WriteBodyAsync(_replay.Content, ends))
        {
            return false;
        }

        if (IsComplete)
        {
            return ends || target.WriteTrailers(body.Trailers);
        }

        lock (_gate)
        {
            _target = target;
            if (!_parked)
            {
                return true;
            }

            _parked = false;
        }

        _resumed.Set();
        return true;
    }

    /// <summary>Lets a parked pump end. One that waits for the downstream ends when that is reset.</summary>
    public void Stop()
    {
        lock (_gate)
        {
            _stopped = true;
            _target = null;
            if (!_parked)
            {
                return;
            }

            _parked = false;
        }

        _resumed.Set();
    }

    /// <summary>Ready for the next exchange.</summary>
    public void Reset()
    {
        _replay.Reset();
        _target = null;
        _writing = _parked = _detaching = _stopped = false;
        _bytes = 0;
        _grpc = default;
        Grpc = null;
        Messages = 0;
        IsComplete = IsFlushed = false;
        Broken = default;
    }

    // False: read, and write.
    [AsyncMethodBuilder(typeof(RecycledMethodBuilder<>))]
    private async ValueTask<bool> MoveAsync(HttpBodyReader body, long most)
    {
        if (!TryEnterWrite(out var target))
        {
            return false;
        }

        var moved = await body.MoveAsync(target, most);
        Volatile.Write(ref _bytes, _bytes + Math.Max(moved, 0));
        ExitWrite(accepted: true);
        return moved >= 0;
    }

    [AsyncMethodBuilder(typeof(RecycledMethodBuilder<>))]
    private async ValueTask<bool> WriteAsync(BodyChunk chunk, HttpBodyReader body)
    {
        while (true)
        {
            if (TryEnterWrite(out var target))
            {
                var ends = chunk.IsEnd && body.Trailers.Count == 0;
                var accepted = (chunk.Data.IsEmpty && !ends) || await target.WriteBodyAsync(chunk.Data, ends);
                if (accepted && chunk.IsEnd)
                {
                    accepted = ends || target.WriteTrailers(body.Trailers);
                }

                if (accepted)
                {
                    // Before the write is given up: a forwarder that waits for that goes on inside ExitWrite, and replays what stands here.
                    _replay.Append(chunk.Data);
                    Volatile.Write(ref _bytes, _bytes + chunk.Data.Length);
                    if (Grpc is { } meters && _grpc.Take(chunk.Data) is var messages and > 0)
                    {
                        Messages += messages;
                        meters.OnGrpcMessages(messages, 0);
                    }

                    IsComplete = chunk.IsEnd;
                    if (chunk.IsEnd)
                    {
                        // Whether it arrives, the exchange itself tells.
                        await target.FlushAsync();
                        IsFlushed = true;
                    }
                }

                ExitWrite(accepted);
                if (accepted)
                {
                    return true;
                }
            }
            else if (!TryPark())
            {
                return false;
            }
            else
            {
                await _resumed.WaitAsync();
            }
        }
    }

    private bool TryEnterWrite(out IHttpBodyWriter target)
    {
        lock (_gate)
        {
            target = _target!;
            _writing = _target is not null;
            return _writing;
        }
    }

    private void ExitWrite(bool accepted)
    {
        bool quiet;
        lock (_gate)
        {
            _writing = false;
            if (!accepted)
            {
                // The attempt has ended, or its peer wants no more: whether there is another one is the forwarder's decision.
                _target = null;
            }

            quiet = _detaching;
            _detaching = false;
        }

        if (quiet)
        {
            _quiet.Set();
        }
    }

    /// <returns>False when stopped; true when parked (wait for the signal) — or a target came meanwhile, then the signal is set already.</returns>
    private bool TryPark()
    {
        lock (_gate)
        {
            if (_stopped)
            {
                return false;
            }

            _resumed.Reset();
            if (_target is null)
            {
                _parked = true;
                return true;
            }
        }

        _resumed.Set();
        return true;
    }
}
