using MeshProxy.DataPlane.Transport;
using MeshProxy.Http;

namespace MeshProxy.DataPlane.Upstream;

/// <summary>
/// A pool's HTTP/1.1 connections that carry no exchange: a stack for each event loop. A connection is given back on the thread that read the end of its response, which
/// is the loop that it lives on; taken there again, both ends of an exchange are on one thread and no lock of theirs is contended. Another loop's connection is
/// better than a new one. Under the pool's lock.
/// </summary>
internal sealed class IdleConnections
{
    // One more, for threads that are no loop.
    private readonly List<HttpClientConnection>[] _stacks = [.. Enumerable.Range(0, EventLoop.All.Length + 1).Select(_ => new List<HttpClientConnection>())];

    public void Add(HttpClientConnection connection) => _stacks[EventLoop.CurrentNumber].Add(connection);

    /// <summary>The connection has retired: it must not lie under those that are in use until the pool goes.</summary>
    public void Remove(HttpClientConnection connection)
    {
        foreach (var stack in _stacks)
        {
            if (stack.Remove(connection))
            {
                return;
            }
        }
    }

    /// <summary>Opens an exchange on the newest connection, of the calling loop if there is one: the others age and are closed. A connection that died while idle
    /// answers null, and the next one is tried.</summary>
    public HttpClientExchange? TryOpenExchange()
    {
        var own = EventLoop.CurrentNumber;
        for (var i = 0; i < _stacks.Length; i++)
        {
            var stack = _stacks[(own + i) % _stacks.Length];
            while (stack.Count > 0)
            {
                var connection = stack[^1];
                stack.RemoveAt(stack.Count - 1);
                if (connection.TryOpenExchange() is { } exchange)
                {
                    return exchange;
                }
            }
        }

        return null;
    }
}
