using System.Buffers;
using System.IO.Pipelines;
using System.Text;

namespace MeshProxy.Http.Tests.Http1;

/// <summary>A raw peer: writes bytes as they are and shows what came back. Everything is inline, so no call waits.</summary>
internal sealed class Peer(IDuplexPipe pipe)
{
    public void Send(string text) => Send(Encoding.Latin1.GetBytes(text));

    public void Send(ReadOnlySpan<byte> bytes)
    {
        pipe.Output.Write(bytes);
        pipe.Output.FlushAsync().AsTask();
    }

    public void SendByteByByte(string text)
    {
        foreach (var b in Encoding.Latin1.GetBytes(text))
        {
            Send([b]);
        }
    }

    public void Close() => pipe.Output.Complete();

    /// <summary>The other side's output breaks; what was sent to it can still be read.</summary>
    public void StopReading() => pipe.Input.Complete();

    public void Break() => pipe.Output.Complete(new IOException("reset"));

    /// <summary>True once <see cref="Take"/> has seen the other side's FIN.</summary>
    public bool HasEnded { get; private set; }

    /// <summary>Takes everything that has come so far.</summary>
    public string Take()
    {
        var text = new StringBuilder();
        while (pipe.Input.TryRead(out var result))
        {
            text.Append(Encoding.Latin1.GetString(result.Buffer));
            pipe.Input.AdvanceTo(result.Buffer.End);
            if (result.IsCompleted)
            {
                HasEnded = true;
                break;
            }
        }

        return text.ToString();
    }
}

/// <summary>A clock that stands still.</summary>
internal sealed class FixedTime : TimeProvider
{
    public override DateTimeOffset GetUtcNow() => new(2026, 1, 2, 3, 4, 5, TimeSpan.Zero);
}

/// <summary>A handler made of a delegate.</summary>
internal sealed class Handler(Func<HttpServerExchange, ValueTask> handle) : IHttpExchangeHandler
{
    public ValueTask HandleAsync(HttpServerExchange exchange) => handle(exchange);
}

/// <summary>
/// NUnit runs tests with a synchronisation context, which makes the runtime post continuations instead of running them inline. Event loops have
/// none, and these tests rely on inline completion.
/// </summary>
internal static class EventLoop
{
    public static void Imitate() => SynchronizationContext.SetSynchronizationContext(null);
}
