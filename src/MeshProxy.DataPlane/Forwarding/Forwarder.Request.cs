using System.Runtime.CompilerServices;
using MeshProxy.DataPlane.Failures;
using MeshProxy.DataPlane.Transport;
using MeshProxy.Http;
using MeshProxy.Http.Fields;

namespace MeshProxy.DataPlane.Forwarding;

// The request on its way out: its head, and its body in one of three ways. At hand and whole, it is sent from where it lies; streamed, the pump carries it;
// kept back by a client that expects a 100, it waits for somebody to say so (ContinueGate).
internal sealed partial class Forwarder
{
    /// <summary>Sends the request head, and the body or its beginning.</summary>
    [AsyncMethodBuilder(typeof(RecycledMethodBuilder<>))]
    private async ValueTask<bool> SendAsync(HttpClientExchange upstream)
    {
        var request = _downstream.Request;
        if (_endpoint!.Pool.Key is { IsMesh: false } key)
        {
            // A server that compares :scheme with its own transport (Kestrel does) resets a stream whose scheme is not this hop's.
            var scheme = key.Tls is null ? "http"u8 : "https"u8;
            if (!request.Scheme.SequenceEqual(scheme))
            {
                request.SetScheme(scheme);
            }
        }

        // A body that is coming already waits for no 100.
        var expects = request.ExpectsContinue;
        var waits = expects && _downstream.AwaitsContinue && !_requestBody.TryRead(out _);
        if (expects && !waits)
        {
            request.Fields.Remove(KnownField.Expect);
        }

        if (_times.Deadline.IsSet)
        {
            _times.Deadline.Write(request.Fields, _services.NowMicroseconds, _times.AttemptEndMicroseconds);
        }

        if (!upstream.WriteHead(request))
        {
            return false;
        }

        if (waits || request.AsksForTunnel)
        {
            await upstream.FlushAsync();
            if (waits)
            {
                _continue.Begin(_services.NowMilliseconds + (long)_services.Limits.ContinueTimeout.TotalMilliseconds);
            }
            else
            {
                OnRequestSent();
            }

            return true;
        }

        if (request.EndsStream)
        {
            OnRequestSent();
            _mirrors?.Send(default, _requestBody.Trailers);
        }
        else if (_pump is { } pump && _pumpRunning)
        {
            if (await pump.AttachAsync(upstream, _requestBody) && pump.IsComplete)
            {
                OnRequestSent();
            }
        }
        else if (_requestBody.TryRead(out var chunk) && IsWhole(chunk))
        {
            if (chunk.Data.Length > _traffic.MaxRequestBodyBytes)
            {
                OnRequestTooLarge();
                return false;
            }

            // The whole body is at hand: it is sent from where it lies and consumed only when no attempt can need it again.
            _isHeld = true;
            _heldBody = chunk.Data.Length;
            OnRequestSent();
            _mirrors?.Send(chunk.Data, _requestBody.Trailers);
            if (!await upstream.WriteBodyAsync(chunk.Data, endStream: true))
            {
                await upstream.FlushAsync();
                return true;
            }
        }
        else
        {
            StartBody(upstream);
        }

        await upstream.FlushAsync();
        return true;
    }

    private void StartBody(HttpClientExchange upstream)
    {
        _pump ??= new RequestPump { Completed = OnRequestPumped, BrokenOff = OnRequestBroken, TooLarge = OnRequestTooLarge };
        _pump.Grpc = _grpc == GrpcKind.Grpc ? _record.Meters : null;
        _pumpRunning = true;
#pragma warning disable CA2012 // awaited once, in EndRequestBodyAsync
        _pumping = _pump.RunAsync(_requestBody, upstream, _traffic);
#pragma warning restore CA2012
    }

    private bool IsWhole(in BodyChunk chunk) =>
        chunk is { IsEnd: true, IsBroken: false } && chunk.Data.Length <= ReplayBuffer.MaxBytes && _requestBody.Trailers.Count == 0;

    private void OnRequestPumped()
    {
        OnRequestSent();
        if (_pump!.CanReplay)
        {
            _mirrors?.Send(_pump.Written, _requestBody.Trailers);
        }
    }

    private void OnRequestSent() => _times.OnRequestSent(_services.NowMilliseconds);

    private void OnRequestTooLarge() => Stop(_traffic.BodyTooLarge());

    private void OnRequestBroken() => Stop(Attempt.FailureOfDownstream(_pump!.Broken, FailureStage.Sending, "request_body"));

    /// <summary>The endpoint has said neither 100 nor anything else in time: the tick says 100 in its place, and the body goes out.</summary>
    private async Task TellContinueAsync(HttpClientExchange upstream)
    {
        try
        {
            var head = _downstream.Response;
            head.Clear();
            head.Status = 100;
            _downstream.WriteInformational(head);
            await _downstream.FlushAsync();
            StartBody(upstream);
        }
        finally
        {
            _continue.OnTold();
        }
    }

    /// <summary>The response is complete; a request that still comes is not wanted any more (RFC 9113 section 8.1: NO_ERROR; HTTP/1.1: the connection ends).</summary>
    [AsyncMethodBuilder(typeof(RecycledMethodBuilder))]
    private async ValueTask EndRequestBodyAsync()
    {
        ReleaseHeldBody();
        if (!_pumpRunning)
        {
            return;
        }

        _pump!.Stop();
        if (!_pump.IsComplete && _downstream.End.Reason == StreamResetReason.None)
        {
            _downstream.Reset(new StreamEnd(StreamResetReason.Cancelled, Initiator.Us, 0, "response_complete"));
        }

        await _pumping;
        _record.BytesReceived = _pump.Bytes;
        _record.GrpcMessagesReceived = _pump.Messages;
        _pump.Reset();
        _pumpRunning = false;
    }

    private void ReleaseHeldBody()
    {
        if (_isHeld)
        {
            _isHeld = false;
            _record.BytesReceived = _heldBody;
            if (_grpc == GrpcKind.Grpc && _requestBody.TryRead(out var held))
            {
                _record.GrpcMessagesReceived = default(GrpcMessageCounter).Take(held.Data);
                _record.Meters?.OnGrpcMessages((int)_record.GrpcMessagesReceived, 0);
            }

            _requestBody.Advance(_heldBody);
        }
    }
}
