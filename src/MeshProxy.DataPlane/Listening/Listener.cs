using System.Net;
using System.Net.Sockets;
using Microsoft.AspNetCore.Connections;
using Microsoft.Extensions.Logging;

namespace MeshProxy.DataPlane.Listening;

/// <summary>
/// Accepts connections on one address and hands each to a function that serves it. One loop; a failed accept (out of descriptors, a peer that left the
/// queue) is logged, waited out and tried again: only <see cref="StopAcceptingAsync"/> ends it.
/// </summary>
internal sealed partial class Listener : IAsyncDisposable
{
    private static readonly TimeSpan FirstBackOff = TimeSpan.FromMilliseconds(10);
    private static readonly TimeSpan LongestBackOff = TimeSpan.FromSeconds(1);

    private readonly IConnectionListener _listener;
    private readonly Func<ConnectionContext, Task> _serve;
    private readonly ILogger _log;
    private readonly TimeProvider _time;
    private readonly CancellationTokenSource _stop = new();
    private Task _loop = Task.CompletedTask;
    private long _accepted;
    private long _failures;
    private long _open;

    private Listener(IConnectionListener listener, string name, Func<ConnectionContext, Task> serve, ILogger log, TimeProvider time)
    {
        _listener = listener;
        _serve = serve;
        _log = log;
        _time = time;
        Name = name;
        EndPoint = (IPEndPoint)listener.EndPoint;
    }

    /// <summary>Its name in logs, metrics and the admin pages.</summary>
    public string Name { get; }

    /// <summary>Where it listens, with the port that was taken for port 0.</summary>
    public IPEndPoint EndPoint { get; }

    /// <summary>Connections accepted so far.</summary>
    public long Accepted => Volatile.Read(ref _accepted);

    /// <summary>Accepts that failed so far.</summary>
    public long AcceptFailures => Volatile.Read(ref _failures);

    /// <summary>Connections that are being served.</summary>
    public long Open => Volatile.Read(ref _open);

    /// <summary>Listens and begins to accept.</summary>
    /// <param name="factory">The transport.</param>
    /// <param name="endPoint">Where; port 0 takes any free one.</param>
    /// <param name="name">For logs.</param>
    /// <param name="serve">Serves a connection to its end and disposes it; what it throws is logged as a bug.</param>
    /// <param name="log">Where failures go.</param>
    /// <param name="cancellationToken">Ends the attempt to listen.</param>
    /// <param name="time">The clock of the back-off.</param>
    /// <exception cref="IOException">It can not listen there; the message says why and what to check.</exception>
    public static async ValueTask<Listener> BindAsync(
        IConnectionListenerFactory factory,
        EndPoint endPoint,
        string name,
        Func<ConnectionContext, Task> serve,
        ILogger log,
        CancellationToken cancellationToken,
        TimeProvider? time = null)
    {
        IConnectionListener listener;
        try
        {
            listener = await factory.BindAsync(endPoint, cancellationToken);
        }
        catch (Exception failure) when (failure is AddressInUseException or SocketException)
        {
            throw new IOException(Explain(endPoint, name, failure), failure);
        }

        var made = new Listener(listener, name, serve, log, time ?? TimeProvider.System);
        made._loop = made.RunAsync();
        return made;
    }

    /// <summary>Closes the listening socket; connections that were accepted live on.</summary>
    public async ValueTask StopAcceptingAsync()
    {
        await _stop.CancelAsync();
        await _listener.UnbindAsync();
        await _loop;
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        await StopAcceptingAsync();
        await _listener.DisposeAsync();
        _stop.Dispose();
    }

    private static string Explain(EndPoint endPoint, string name, Exception failure)
    {
        var (address, port) = endPoint is IPEndPoint ip ? (ip.Address.ToString(), ip.Port) : (endPoint.ToString()!, 0);
        return failure switch
        {
            AddressInUseException or SocketException { SocketErrorCode: SocketError.AddressAlreadyInUse } =>
                $"The {name} listener can not start: port {port} on {address} is taken. See who has it with: ss -ltnp 'sport = :{port}'",
            SocketException { SocketErrorCode: SocketError.AddressNotAvailable } =>
                $"The {name} listener can not start: this machine has no address {address}. See its addresses with: ip addr",
            SocketException { SocketErrorCode: SocketError.AccessDenied } =>
                $"The {name} listener can not start: port {port} on {address} is not allowed for this user. Ports below 1024 need CAP_NET_BIND_SERVICE or net.ipv4.ip_unprivileged_port_start",
            _ => $"The {name} listener can not start on {address} port {port}: {failure.Message}",
        };
    }

    private async Task RunAsync()
    {
        var backOff = FirstBackOff;
        while (true)
        {
            ConnectionContext? connection;
            try
            {
                connection = await _listener.AcceptAsync();
                backOff = FirstBackOff;
            }
            catch (Exception) when (_stop.IsCancellationRequested)
            {
                return;
            }
            catch (Exception failure)
            {
                Interlocked.Increment(ref _failures);
                AcceptFailed(failure, Name, EndPoint, backOff.TotalMilliseconds);
                try
                {
                    await Task.Delay(backOff, _time, _stop.Token);
                }
                catch (OperationCanceledException)
                {
                    return;
                }

                backOff = backOff * 2 < LongestBackOff ? backOff * 2 : LongestBackOff;
                continue;
            }

            if (connection is null)
            {
                return;
            }

            Interlocked.Increment(ref _accepted);
            _ = ServeAsync(connection);
        }
    }

    private async Task ServeAsync(ConnectionContext connection)
    {
        Interlocked.Increment(ref _open);
        try
        {
            await _serve(connection);
        }
        catch (Exception failure)
        {
            ServeFailed(failure, Name);
            await connection.DisposeAsync();
        }
        finally
        {
            Interlocked.Decrement(ref _open);
        }
    }

    [LoggerMessage(1, LogLevel.Error, "The {Name} listener on {EndPoint} failed to accept a connection; trying again in {Delay} ms")]
    private partial void AcceptFailed(Exception failure, string name, EndPoint endPoint, double delay);

    [LoggerMessage(2, LogLevel.Error, "Serving a connection of the {Name} listener ended with an exception that nobody handled: a bug")]
    private partial void ServeFailed(Exception failure, string name);
}
