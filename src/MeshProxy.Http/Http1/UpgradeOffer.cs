using System.Text;
using MeshProxy.Http.Fields;

namespace MeshProxy.Http.Http1;

/// <summary>What a client exchange asks its connection to become, and whether a 101 is the answer to that (RFC 9110 section 7.8, RFC 6455 section 4.1).</summary>
internal sealed class UpgradeOffer
{
    private readonly byte[] _key = new byte[WebSocketHandshake.KeyBytes];
    private byte[] _protocol = [];
    private bool _isWebSocket;

    /// <summary>Nothing is offered.</summary>
    public void Clear()
    {
        _protocol = [];
        _isWebSocket = false;
    }

    /// <summary>Offers what the head asks for. A WebSocket request that came over HTTP/2 has no key: it is given one (RFC 8441 section 5).</summary>
    /// <returns>False when HTTP/1.1 can not ask for that.</returns>
    public bool TryMake(RequestHead head)
    {
        var protocol = head.Protocol;
        if (head.Method != RequestMethod.Get || head.EndsStream || head.ContentLength > 0 || !Http1Syntax.IsProtocol(protocol))
        {
            return false;
        }

        _protocol = protocol.ToArray();
        _isWebSocket = WebSocketHandshake.IsAskedFor(protocol);
        if (!_isWebSocket)
        {
            return true;
        }

        if (!head.Fields.Contains(KnownField.SecWebSocketKey))
        {
            WebSocketHandshake.MakeKey(_key);
            head.Fields.Add(KnownField.SecWebSocketKey, _key);
            return true;
        }

        if (!WebSocketHandshake.TryGetKey(head.Fields, out var key))
        {
            return false;
        }

        key.CopyTo(_key);
        return true;
    }

    /// <summary>
    /// Judges a 101. What is not exactly the switch that was asked for is refused: a server that can be talked into any 101 must not become a tunnel
    /// behind the proxy's back, so Sec-WebSocket-Accept is verified for clients' own keys too.
    /// </summary>
    /// <returns>What is wrong, or null.</returns>
    public string? Judge(ResponseHead response, ConnectionOptions connection)
    {
        if (_protocol.Length == 0)
        {
            return "unasked_upgrade";
        }

        if (response.Version != HttpProtocolVersion.Http11 || (connection & ConnectionOptions.Upgrade) == 0
            || response.Fields.CountOf(KnownField.Upgrade) != 1 || !response.Fields.TryGet(KnownField.Upgrade, out var protocol)
            || !Ascii.EqualsIgnoreCase(protocol, _protocol))
        {
            return "wrong_upgrade";
        }

        return !_isWebSocket || WebSocketHandshake.IsAccepted(response.Fields, _key) ? null : "wrong_websocket_accept";
    }
}
