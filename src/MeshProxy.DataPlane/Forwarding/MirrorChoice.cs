using System.Buffers;
using System.Collections.Immutable;
using System.Numerics;
using MeshProxy.DataPlane.Routing;
using MeshProxy.DataPlane.Telemetry;
using MeshProxy.Http;
using MeshProxy.Http.Fields;

namespace MeshProxy.DataPlane.Forwarding;

/// <summary>Which mirrors get a copy of the request at hand: chosen once, before the filters change the head, and sent at most once. One for each forwarder
/// that ever met a mirror.</summary>
internal sealed class MirrorChoice(MirrorSender sender)
{
    private readonly RequestHead _head = new();
    private ImmutableArray<RouteMirror> _mirrors = [];
    private uint _chosen;
    private int _matchedPrefix;

    public void Choose(ImmutableArray<RouteMirror> mirrors, RequestHead request, int matchedPrefix)
    {
        _mirrors = mirrors;
        _chosen = 0;
        for (var i = 0; i < mirrors.Length && i < 32; i++)
        {
            _chosen |= mirrors[i].Samples() ? 1u << i : 0;
        }

        if (_chosen != 0)
        {
            _head.CopyFrom(request);

            // A copy goes out when its body is at hand.
            _head.Fields.Remove(KnownField.Expect);
            _matchedPrefix = matchedPrefix;
        }
    }

    /// <summary>The request has gone out whole.</summary>
    public void Send(ReadOnlySequence<byte> body, FieldMap trailers)
    {
        for (; _chosen != 0; _chosen &= _chosen - 1)
        {
            sender.Send(_mirrors[BitOperations.TrailingZeroCount(_chosen)], _head, _matchedPrefix, body, trailers);
        }
    }

    /// <summary>No copy can be made any more: the body was too large, or the request never went out whole.</summary>
    public void Skip()
    {
        for (; _chosen != 0; _chosen &= _chosen - 1)
        {
            _mirrors[BitOperations.TrailingZeroCount(_chosen)].Cluster.Meters.OnMirror(MirrorResult.Skipped);
        }
    }
}
