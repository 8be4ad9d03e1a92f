using System.Text;
using MeshProxy.DataPlane.Routing;
using MeshProxy.Http;
using MeshProxy.Model.Config;

namespace MeshProxy.DataPlane.Forwarding;

/// <summary>Works out the Location of a RequestRedirect filter, as Gateway API v1 describes it.</summary>
internal static class Redirects
{
    public static string Location(RedirectConfig redirect, RequestHead request, int matchedPrefix)
    {
        var scheme = redirect.Scheme ?? Encoding.ASCII.GetString(request.Scheme);
        var host = redirect.Hostname ?? Encoding.ASCII.GetString(Authorities.WithoutPort(request.Authority));

        // No port given: the one the scheme implies when the scheme changes, else the request's own.
        var port = redirect.Port ?? (redirect.Scheme is not null ? 0 : Authorities.PortOf(request.Authority));
        var isDefault = port == 0 || (scheme == "http" && port == 80) || (scheme == "https" && port == 443);
        var path = redirect.Path is { } rewrite
            ? MessageFilters.RewritePath(request.Path, rewrite, Encoding.ASCII.GetBytes(rewrite.Value), matchedPrefix)
            : request.Path;
        return $"{scheme}://{host}{(isDefault ? "" : $":{port}")}{Encoding.ASCII.GetString(path)}";
    }
}
