using System.Buffers;
using System.Buffers.Text;
using System.Text;
using MeshProxy.Http;
using MeshProxy.Http.Fields;
using MeshProxy.Model.Config;

namespace MeshProxy.DataPlane.Routing;

/// <summary>A RequestRedirect filter, compiled: where a request is sent instead, as Gateway API v1 describes it.</summary>
internal sealed class Redirect(RedirectConfig config)
{
    private const int LongestPort = 6;

    private readonly byte[]? _scheme = config.Scheme is { } scheme ? Encoding.ASCII.GetBytes(scheme) : null;
    private readonly byte[]? _hostname = config.Hostname is { } hostname ? Encoding.ASCII.GetBytes(hostname) : null;
    private readonly PathRewrite? _path = config.Path is { } path ? new PathRewrite(path) : null;

    /// <summary>The status of the answer.</summary>
    public int Status => config.Status;

    /// <summary>Adds Location to the answer's fields. For a client that named no host (HTTP/1.0) it is a path alone (RFC 9110 section 10.2.2).</summary>
    /// <param name="request">What is redirected.</param>
    /// <param name="matchedPrefix">The length of the prefix that the rule matched.</param>
    /// <param name="answer">The answer's fields.</param>
    /// <param name="clientScheme">The scheme that the client used, where a trusted proxy in front told it; empty: it is the connection's.</param>
    public void AddLocation(RequestHead request, int matchedPrefix, FieldMap answer, ReadOnlySpan<byte> clientScheme = default)
    {
        var isTold = !clientScheme.IsEmpty;
        var scheme = _scheme is not null ? _scheme : isTold ? clientScheme : request.Scheme;
        var host = _hostname ?? Authorities.WithoutPort(request.Authority);
        var length = scheme.Length + 3 + host.Length + LongestPort + (_path?.MaxLength(request.Path) ?? request.Path.Length);
        var buffer = ArrayPool<byte>.Shared.Rent(length);
        var end = 0;
        if (!host.IsEmpty)
        {
            end = Append(scheme, buffer, end);
            end = Append("://"u8, buffer, end);
            end = Append(host, buffer, end);
        }

        // A port is told only where it is not what the scheme implies. One that is not set is what the new scheme implies; the listener's stands in the
        // configuration already. A client that came through a proxy has not dialed that one: its own stands in Host.
        var port = config.Port is { } set && !(isTold && config.IsListenerPort) ? set : _scheme is not null ? 0 : Authorities.PortOf(request.Authority);
        if (!host.IsEmpty && port != 0 && port != (scheme.SequenceEqual("https"u8) ? 443 : 80))
        {
            buffer[end++] = (byte)':';
            Utf8Formatter.TryFormat(port, buffer.AsSpan(end), out var digits);
            end += digits;
        }

        end = _path is null ? Append(request.Path, buffer, end) : end + _path.Write(request.Path, matchedPrefix, buffer.AsSpan(end));
        answer.Add(KnownField.Location, buffer.AsSpan(0, end));
        ArrayPool<byte>.Shared.Return(buffer);
    }

    private static int Append(ReadOnlySpan<byte> bytes, byte[] buffer, int at)
    {
        bytes.CopyTo(buffer.AsSpan(at));
        return at + bytes.Length;
    }
}
