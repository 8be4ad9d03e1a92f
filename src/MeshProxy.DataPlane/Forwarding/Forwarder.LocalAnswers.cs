using System.Runtime.CompilerServices;
using MeshProxy.DataPlane.Failures;
using MeshProxy.DataPlane.Routing;
using MeshProxy.DataPlane.Transport;
using MeshProxy.Http;
using MeshProxy.Http.Fields;

namespace MeshProxy.DataPlane.Forwarding;

// What the proxy answers itself: failures, redirects and preflights.
internal sealed partial class Forwarder
{
    private Failure TooLarge(string detail) => new(
        FailureCause.ResponseFieldsTooLarge, FailureStage.Relaying, RetrySafety.Never, Initiator.Us, $"{detail}: {_endpoint!.Address} ({_endpoint.Config.Id})");

    [AsyncMethodBuilder(typeof(RecycledMethodBuilder))]
    private async ValueTask FailAsync(Failure failure)
    {
        _record.Failure = failure;
        if (FailureMap.Of(failure.Cause).HttpStatus == 0 || _downstream.End.Reason != StreamResetReason.None)
        {
            return;
        }

        if (_downstream.HasResponseStarted)
        {
            _downstream.Reset(new StreamEnd(StreamResetReason.Cancelled, Initiator.Us, 0x2, "failed_after_head"));
            return;
        }

        ReleaseHeldBody();
        _record.Status = await LocalReply.WriteAsync(_downstream, failure, _connection.TellsDetail, _caller, _cors.Policy, _cors.Origin);
    }

    /// <summary>Answers by filters alone: a preflight, or a redirect.</summary>
    private async ValueTask AnswerAsync(MessageFilters filters, RouteMatch match)
    {
        var request = _downstream.Request;
        var head = _downstream.Response;
        if (filters.Cors is { } cors && CorsPolicy.IsPreflight(request))
        {
            cors.Answer(request, head);
        }
        else
        {
            var redirect = filters.Redirect!;
            head.Clear();
            head.Status = redirect.Status;
            head.EndsStream = true;
            head.ContentLength = 0;
            redirect.AddLocation(request, match.MatchedPrefix, head.Fields);
            head.Fields.Add(KnownField.ContentLength, "0"u8);
            filters.Apply(head);
            _cors.Apply(head.Fields);
        }

        _record.Status = head.Status;
        _downstream.WriteHead(head);
        await _downstream.FlushAsync();
        await EndRequestBodyAsync();
    }
}
