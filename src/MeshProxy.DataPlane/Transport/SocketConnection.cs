using System.IO.Pipelines;
using System.Net;
using System.Net.Sockets;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Connections.Features;
using Microsoft.AspNetCore.Http.Features;

namespace MeshProxy.DataPlane.Transport;

/// <summary>A connection of ours, accepted or dialed.</summary>
internal sealed class SocketConnection : ConnectionContext, IDuplexPipe, IConnectionSocketFeature, IConnectionIdFeature
{
    private static long s_lastId;

    private readonly SocketChannel _channel;
    private readonly SocketTransportOptions _options;
    private readonly Lock _gate = new();
    private string? _id;
    private IFeatureCollection? _features;
    private IDictionary<object, object?>? _items;
    private EndPoint? _local;
    private EndPoint? _remote;
    private Socket? _socket;
    private CancellationTokenSource? _closed;
    private bool _hasEnded;
    private bool _disposed;

    internal SocketConnection(int descriptor, EventLoop loop, EndPoint? remote, SocketTransportOptions options)
    {
        _options = options;
        _remote = remote;
        Loop = loop;
        _channel = new SocketChannel(descriptor, loop, options.Pool) { Ended = OnEnded };
        Transport = this;
    }

    /// <inheritdoc/>
    public override IDuplexPipe Transport { get; set; }

    /// <inheritdoc/>
    public PipeReader Input => _channel.Reader;

    /// <inheritdoc/>
    public PipeWriter Output => _channel.Writer;

    /// <inheritdoc/>
    public override string ConnectionId
    {
        get => _id ??= Interlocked.Increment(ref s_lastId).ToString("x", System.Globalization.CultureInfo.InvariantCulture);
        set => _id = value;
    }

    /// <inheritdoc/>
    public override IFeatureCollection Features
    {
        get
        {
            if (_features is null)
            {
                _features = new FeatureCollection(2);
                _features.Set<IConnectionSocketFeature>(this);
                _features.Set<IConnectionIdFeature>(this);
            }

            return _features;
        }
    }

    /// <inheritdoc/>
    public override IDictionary<object, object?> Items
    {
        get => _items ??= new Dictionary<object, object?>();
        set => _items = value;
    }

    /// <inheritdoc/>
    public override EndPoint? LocalEndPoint
    {
        get => _local ??= _channel.Descriptor >= 0 ? LinuxSocket.LocalAddress(_channel.Descriptor) : null;
        set => _local = value;
    }

    /// <inheritdoc/>
    public override EndPoint? RemoteEndPoint
    {
        get => _remote;
        set => _remote = value;
    }

    /// <inheritdoc/>
    public override CancellationToken ConnectionClosed
    {
        get
        {
            lock (_gate)
            {
                _closed ??= new CancellationTokenSource();
                if (_hasEnded)
                {
                    _closed.Cancel();
                }

                return _closed.Token;
            }
        }

        set => throw new NotSupportedException("The transport alone knows when the connection is closed.");
    }

    /// <summary>A view of the socket, for options. Made at the first use, because it costs system calls. Never dispose it.</summary>
    public Socket Socket => _socket ??= new Socket(new SafeSocketHandle(_channel.Descriptor, ownsHandle: false));

    /// <summary>The loop that it lives on.</summary>
    internal EventLoop Loop { get; }

    internal int Descriptor => _channel.Descriptor;

    internal ChannelReader Reader => _channel.Reader;

    /// <inheritdoc/>
    public override void Abort(ConnectionAbortedException abortReason) => _channel.Abort(abortReason);

    /// <inheritdoc/>
    public override void Abort() => Abort(new ConnectionAbortedException("The connection was aborted by us."));

    /// <summary>Closes in order: sends what was written and FIN (waiting at most <see cref="SocketTransportOptions.CloseTimeout"/> for a peer that does not
    /// read, then RST), and frees the descriptor.</summary>
#pragma warning disable CA2215 // there is nothing in the base
    public override ValueTask DisposeAsync()
#pragma warning restore CA2215
    {
        lock (_gate)
        {
            if (_disposed)
            {
                return default;
            }

            _disposed = true;
        }

        _channel.Reader.Complete();
        var completing = _channel.Writer.CompleteAsync();
        if (!completing.IsCompletedSuccessfully)
        {
            return DisposeSlowlyAsync(completing);
        }

        _channel.Close();
        return default;
    }

    internal void Start() => _channel.Start();

    private async ValueTask DisposeSlowlyAsync(ValueTask completing)
    {
        try
        {
            await completing.AsTask().WaitAsync(_options.CloseTimeout, _options.Time);
        }
        catch (TimeoutException)
        {
            Abort(new ConnectionAbortedException("The peer did not take the rest of the data in time while the connection was closed."));
        }

        _channel.Close();
    }

    private void OnEnded()
    {
        CancellationTokenSource? closed;
        lock (_gate)
        {
            _hasEnded = true;
            closed = _closed;
        }

        // Its callbacks are foreign code: not on this stack, which may be inside a gate of the channel.
        if (closed is not null)
        {
            ThreadPool.UnsafeQueueUserWorkItem(static source => source.Cancel(), closed, preferLocal: false);
        }
    }
}
