using System.IO.Pipelines;
using System.Net;
using System.Net.Security;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Http.Features;

namespace MeshProxy.DataPlane.Transport;

/// <summary>A connection whose pipes carry the plaintext of another, which it owns.</summary>
internal sealed class TlsConnection : ConnectionContext, IDuplexPipe
{
    private readonly ConnectionContext _raw;
    private readonly SslStream _stream;
    private readonly TlsChannel _channel;
    private readonly TimeSpan _closeTimeout;
    private readonly TimeProvider _time;
    private int _disposed;

    internal TlsConnection(ConnectionContext raw, SslStream stream, TlsInnerStream inner, BlockPool pool, TimeSpan closeTimeout, TimeProvider time)
    {
        _raw = raw;
        _stream = stream;
        _closeTimeout = closeTimeout;
        _time = time;
        _channel = new TlsChannel(stream, inner, raw, pool);
        Transport = this;
    }

    /// <inheritdoc/>
    public PipeReader Input => _channel.Reader;

    /// <inheritdoc/>
    public PipeWriter Output => _channel.Writer;

    /// <inheritdoc/>
    public override IDuplexPipe Transport { get; set; }

    /// <summary>The connection underneath.</summary>
    public ConnectionContext Raw => _raw;

    /// <inheritdoc/>
    public override string ConnectionId
    {
        get => _raw.ConnectionId;
        set => _raw.ConnectionId = value;
    }

    /// <inheritdoc/>
    public override IFeatureCollection Features => _raw.Features;

    /// <inheritdoc/>
    public override IDictionary<object, object?> Items
    {
        get => _raw.Items;
        set => _raw.Items = value;
    }

    /// <inheritdoc/>
    public override EndPoint? LocalEndPoint
    {
        get => _raw.LocalEndPoint;
        set => _raw.LocalEndPoint = value;
    }

    /// <inheritdoc/>
    public override EndPoint? RemoteEndPoint
    {
        get => _raw.RemoteEndPoint;
        set => _raw.RemoteEndPoint = value;
    }

    /// <inheritdoc/>
    public override CancellationToken ConnectionClosed
    {
        get => _raw.ConnectionClosed;
        set => _raw.ConnectionClosed = value;
    }

    /// <inheritdoc/>
    public override void Abort(ConnectionAbortedException abortReason) => _raw.Abort(abortReason);

    /// <inheritdoc/>
    public override void Abort() => Abort(new ConnectionAbortedException("The connection was aborted by us."));

    /// <summary>Closes in order: what was written, close_notify, FIN; then frees everything.</summary>
#pragma warning disable CA2215 // there is nothing in the base
    public override async ValueTask DisposeAsync()
#pragma warning restore CA2215
    {
        if (Interlocked.Exchange(ref _disposed, 1) != 0)
        {
            return;
        }

        await _channel.Reader.CompleteAsync();
        var completing = _channel.Writer.CompleteAsync();
        if (!completing.IsCompletedSuccessfully)
        {
            try
            {
                await completing.AsTask().WaitAsync(_closeTimeout, _time);
            }
            catch (TimeoutException)
            {
                Abort(new ConnectionAbortedException("The peer did not take the rest of the data in time while the connection was closed."));
            }
        }

        await _raw.DisposeAsync();
        await _stream.DisposeAsync();
    }
}
