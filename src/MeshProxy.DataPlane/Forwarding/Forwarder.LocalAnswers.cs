using System.Buffers;
using System.Globalization;
using System.Runtime.CompilerServices;
using System.Text;
using MeshProxy.DataPlane.Failures;
using MeshProxy.DataPlane.Routing;
using MeshProxy.DataPlane.Transport;
using MeshProxy.Http;
using MeshProxy.Http.Fields;

namespace MeshProxy.DataPlane.Forwarding;

// What the proxy answers itself: failures, redirects, preflights, and requests that were to go no further.
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

    private enum OwnAnswer
    {
        None,
        ByFilters,
        AsLastRecipient,
    }

    /// <summary>Answers a preflight, a request that is redirected, or one that was to go no further.</summary>
    private async ValueTask AnswerAsync(OwnAnswer answer, MessageFilters filters, RouteMatch match)
    {
        var request = _downstream.Request;
        var head = _downstream.Response;
        byte[] body = [];
        if (answer == OwnAnswer.AsLastRecipient)
        {
            head.Clear();
            head.Status = 200;
            body = MaxForwards.Answer(request, head.Fields);
            head.ContentLength = body.Length;
            head.Fields.Add(KnownField.ContentLength, Encoding.ASCII.GetBytes(body.Length.ToString(CultureInfo.InvariantCulture)));
            _cors.Apply(head.Fields);
        }
        else if (filters.Cors is { } cors && CorsPolicy.IsPreflight(request))
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
            redirect.AddLocation(request, match.MatchedPrefix, head.Fields, _record.ClientScheme);
            head.Fields.Add(KnownField.ContentLength, "0"u8);
            filters.Apply(head);
            _cors.Apply(head.Fields);
        }

        _record.Status = head.Status;
        if (_downstream.WriteHead(head) && body.Length > 0)
        {
            await _downstream.WriteBodyAsync(new ReadOnlySequence<byte>(body), endStream: true);
            _record.BytesSent = body.Length;
        }

        await _downstream.FlushAsync();
    }
}
