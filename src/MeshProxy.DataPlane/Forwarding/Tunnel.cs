using System.Runtime.CompilerServices;
using MeshProxy.DataPlane.Telemetry;
using MeshProxy.DataPlane.Transport;
using MeshProxy.Http;

namespace MeshProxy.DataPlane.Forwarding;

/// <summary>How a tunnel ended. Reason None: in order, in both directions.</summary>
/// <param name="End">What broke it.</param>
/// <param name="IsDownstream">Whether it was the downstream that broke it off.</param>
internal readonly record struct TunnelEnd(StreamEnd End, bool IsDownstream)
{
    public bool IsBroken => End.Reason != StreamResetReason.None;
}

/// <summary>
/// The bytes of an accepted tunnel, both ways at once (RFC 9110 sections 7.8 and 9.3.6, RFC 8441). A direction that ends, ends alone: the other one goes on,
/// as with half-closed TCP. One that breaks takes the other one with it, and both peers see a reset, never an end in order (RFC 9113 section 8.5).
/// Nothing is kept: what a peer does not read holds its sender up. Threads: each direction is one loop; <see cref="_gate"/> settles which broke first.
/// What is not seen at once: a peer that ended its own direction in order and is reset later, until there is something to send to it, or the idle limit.
/// </summary>
internal sealed class Tunnel
{
    private readonly Lock _gate = new();
    private HttpServerExchange? _downstream;
    private HttpClientExchange? _upstream;
    private RouteMeters? _meters;
    private TunnelEnd _end;
    private volatile bool _hasDownEnded;
    private long _received;
    private long _sent;

    /// <summary>Bytes from the downstream.</summary>
    public long Received => Volatile.Read(ref _received);

    /// <summary>Bytes to the downstream.</summary>
    public long Sent => Volatile.Read(ref _sent);

    /// <summary>Carries bytes until both directions have ended, or one has broken. Both exchanges stay their owner's to complete.</summary>
    [AsyncMethodBuilder(typeof(RecycledMethodBuilder<>))]
    public async ValueTask<TunnelEnd> RunAsync(HttpServerExchange downstream, HttpClientExchange upstream, RouteMeters meters)
    {
        _downstream = downstream;
        _upstream = upstream;
        _meters = meters;
        _end = default;
        _hasDownEnded = false;
        _received = _sent = 0;
        var up = PumpAsync(downstream.RequestBody, upstream, isUp: true);
        await PumpAsync(upstream.ResponseBody, downstream, isUp: false);
        await up;
        _downstream = null;
        _upstream = null;
        return _end;
    }

    [AsyncMethodBuilder(typeof(RecycledMethodBuilder))]
    private async ValueTask PumpAsync(HttpBodyReader from, IHttpBodyWriter to, bool isUp)
    {
        while (true)
        {
            if (!from.TryRead(out var chunk))
            {
                if (!await to.FlushAsync())
                {
                    OnRefused(isUp);
                    return;
                }

                chunk = await from.ReadAsync();
            }

            if (chunk.IsBroken)
            {
                Break(new TunnelEnd(chunk.End, IsDownstream: isUp));
                return;
            }

            if ((!chunk.Data.IsEmpty || chunk.IsEnd) && !await to.WriteBodyAsync(chunk.Data, chunk.IsEnd))
            {
                OnRefused(isUp);
                return;
            }

            Count(chunk.Data.Length, isUp);
            from.Advance(chunk.Data.Length);
            if (chunk.IsEnd)
            {
                _hasDownEnded |= !isUp;
                await to.FlushAsync();
                return;
            }
        }
    }

    // Who is written to takes no more. In HTTP/2 that may be in order: an endpoint that has ended its own direction asks for no more of the other one
    // (RST_STREAM with NO_ERROR, RFC 9113 section 8.1).
    private void OnRefused(bool isUp)
    {
        var end = isUp ? _upstream!.End : _downstream!.End;
        if (end.Reason == StreamResetReason.None)
        {
            if (isUp && _hasDownEnded)
            {
                return;
            }

            end = new StreamEnd(StreamResetReason.PeerClosed, Initiator.Peer, 0, "closed_in_tunnel");
        }

        Break(new TunnelEnd(end, IsDownstream: !isUp));
    }

    private void Break(TunnelEnd end)
    {
        lock (_gate)
        {
            if (_end.IsBroken)
            {
                // The echo of the first break.
                return;
            }

            _end = end;
        }

        var reason = end.End.Reason == StreamResetReason.Cancelled ? StreamResetReason.Cancelled : StreamResetReason.ConnectionReset;
        var passedOn = new StreamEnd(reason, end.End.Initiator, 0, "tunnel_broken");
        _upstream!.Reset(passedOn);
        _downstream!.Reset(passedOn);
    }

    private void Count(long bytes, bool isUp)
    {
        if (bytes == 0)
        {
            return;
        }

        if (isUp)
        {
            Volatile.Write(ref _received, _received + bytes);
            _meters!.OnTunnelBytes(bytes, 0);
        }
        else
        {
            Volatile.Write(ref _sent, _sent + bytes);
            _meters!.OnTunnelBytes(0, bytes);
        }
    }
}
