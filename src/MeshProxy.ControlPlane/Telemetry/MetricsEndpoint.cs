namespace MeshProxy.ControlPlane.Telemetry;

/// <summary>/metrics, /livez and /readyz, in plaintext on their own port. Nothing else is answered there.</summary>
internal static class MetricsEndpoint
{
    /// <summary>Answers one request.</summary>
    public static async Task AnswerAsync(HttpContext request, ControlMeters meters)
    {
        var response = request.Response;
        if (!HttpMethods.IsGet(request.Request.Method) && !HttpMethods.IsHead(request.Request.Method))
        {
            response.StatusCode = StatusCodes.Status405MethodNotAllowed;
            return;
        }

        switch (request.Request.Path.Value)
        {
            case "/metrics":
                response.ContentType = "text/plain; version=0.0.4; charset=utf-8";
                using (var text = new MemoryStream())
                {
                    await meters.Registry.CollectAndExportAsTextAsync(text, request.RequestAborted);
                    await response.Body.WriteAsync(text.GetBuffer().AsMemory(0, (int)text.Length), request.RequestAborted);
                }

                break;

            // The listener opens only when everything behind it stands.
            case "/livez" or "/readyz":
                response.ContentType = "text/plain; charset=utf-8";
                await response.WriteAsync("ok\n", request.RequestAborted);
                break;
            default:
                response.StatusCode = StatusCodes.Status404NotFound;
                break;
        }
    }
}
