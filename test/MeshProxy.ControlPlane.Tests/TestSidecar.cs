using Grpc.Core;
using Grpc.Net.Client;
using MeshProxy.Api.Control.V1;
using Wire = MeshProxy.Api.Control.V1;

namespace MeshProxy.ControlPlane.Tests;

/// <summary>What came down the stream: a frame of units, endpoints, or a request.</summary>
internal sealed record Received(IReadOnlyList<Unit>? Units, Commit? Commit, EndpointUpdate? Endpoints, SidecarRequest? Request)
{
    public string Nonce => Commit?.Nonce ?? Endpoints!.Nonce;

    public Unit Unit(string name) => Units!.Single(unit => unit.Name == name);
}

/// <summary>A sidecar's half of the discovery stream, one step at a time.</summary>
internal sealed class TestSidecar : IDisposable
{
    private readonly AsyncDuplexStreamingCall<SidecarMessage, ControlMessage> _call;
    private readonly CancellationTokenSource _deadline = new(TimeSpan.FromSeconds(60));

    private TestSidecar(GrpcChannel channel) => _call = new Wire.Discovery.DiscoveryClient(channel).Stream(cancellationToken: _deadline.Token);

    public static async Task<TestSidecar> ConnectAsync(GrpcChannel channel, string workload, string gateway = "", IEnumerable<string>? capabilities = null, params HeldUnit[] held)
    {
        var sidecar = new TestSidecar(channel);
        var hello = new Hello { Workload = new ResourceRef { Namespace = "shop", Name = workload }, Version = "test", Gateway = gateway };
        hello.Held.AddRange(held);
        hello.Capabilities.AddRange(capabilities ?? []);
        try
        {
            await sidecar._call.RequestStream.WriteAsync(new SidecarMessage { Hello = hello });
        }
        catch (RpcException)
        {
            // The call was ended before it was read: its status says why, to whoever reads on.
        }

        return sidecar;
    }

    public Task SubscribeAsync(params string[] names) => _call.RequestStream.WriteAsync(new SidecarMessage { Subscribe = new Subscribe { Add = { names } } });

    public Task UnsubscribeAsync(params string[] names) => _call.RequestStream.WriteAsync(new SidecarMessage { Subscribe = new Subscribe { Remove = { names } } });

    public Task AcknowledgeAsync(Received received, params UnitRejection[] rejections) =>
        _call.RequestStream.WriteAsync(new SidecarMessage { Acknowledge = new Acknowledge { Nonce = received.Nonce, Rejections = { rejections } } });

    public Task ReplyAsync(SidecarReply reply) => _call.RequestStream.WriteAsync(new SidecarMessage { Reply = reply });

    public Task CompleteAsync() => _call.RequestStream.CompleteAsync();

    /// <summary>The next whole thing.</summary>
    public async Task<Received> ReadAsync()
    {
        List<Unit>? units = null;
        while (await _call.ResponseStream.MoveNext(_deadline.Token))
        {
            var message = _call.ResponseStream.Current;
            switch (message.MessageCase)
            {
                case ControlMessage.MessageOneofCase.Begin:
                    Assert.That(units, Is.Null, "a frame inside a frame");
                    units = [];
                    break;
                case ControlMessage.MessageOneofCase.Unit:
                    Assert.That(units, Is.Not.Null, "a unit outside a frame");
                    units!.Add(message.Unit);
                    break;
                case ControlMessage.MessageOneofCase.Commit:
                    return new Received(units, message.Commit, null, null);
                case ControlMessage.MessageOneofCase.Endpoints:
                    Assert.That(units, Is.Null, "endpoints inside a frame");
                    return new Received(null, null, message.Endpoints, null);
                default:
                    return new Received(null, null, null, message.Request);
            }
        }

        throw new EndOfStreamException("the control plane ended the stream");
    }

    /// <summary>Reads on, acknowledging, until something fits.</summary>
    public async Task<Received> ReadUntilAsync(Func<Received, bool> fits)
    {
        while (true)
        {
            var received = await ReadAsync();
            if (received.Request is null)
            {
                await AcknowledgeAsync(received);
            }

            if (fits(received))
            {
                return received;
            }
        }
    }

    /// <summary>The status that the stream ends with.</summary>
    public async Task<StatusCode> ReadEndAsync()
    {
        try
        {
            while (true)
            {
                await ReadAsync();
            }
        }
        catch (EndOfStreamException)
        {
            return StatusCode.OK;
        }
        catch (RpcException e)
        {
            TestContext.Out.WriteLine(e);
            return e.StatusCode;
        }
    }

    public void Dispose()
    {
        _call.Dispose();
        _deadline.Dispose();
    }
}
