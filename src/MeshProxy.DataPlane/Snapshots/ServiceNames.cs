using System.Text;
using MeshProxy.DataPlane.Routing;
using MeshProxy.Model.Config;

namespace MeshProxy.DataPlane.Snapshots;

/// <summary>The names a service is called by: "name" in the caller's own namespace, "name.ns", "name.ns.svc", "name.ns.svc.cluster.local".</summary>
internal static class ServiceNames
{
    private const string ClusterDomain = ".svc.cluster.local";

    /// <summary>Every hostname of a service, for a caller in <paramref name="ownNamespace"/>.</summary>
    public static IEnumerable<string> Of(ResourceName service, string ownNamespace)
    {
        var full = $"{service.Name}.{service.Namespace}";
        yield return full;
        yield return $"{full}.svc";
        yield return full + ClusterDomain;
        if (service.Namespace == ownNamespace)
        {
            yield return service.Name;
        }
    }

    /// <summary>The service an authority would name. Says nothing of whether it exists. Bounded: at most 253 bytes.</summary>
    public static bool TryParse(ReadOnlySpan<byte> authority, string ownNamespace, out ResourceName service)
    {
        service = default;
        var host = Authorities.WithoutPort(authority);
        if (host.IsEmpty || host.Length > 253 || !Ascii.IsValid(host))
        {
            return false;
        }

        var text = Encoding.ASCII.GetString(host).ToLowerInvariant();
        foreach (var suffix in (ReadOnlySpan<string>)[ClusterDomain, ".svc"])
        {
            if (text.EndsWith(suffix, StringComparison.Ordinal))
            {
                text = text[..^suffix.Length];
                break;
            }
        }

        var labels = text.Split('.');
        if (labels.Length > 2 || labels.Any(label => !IsLabel(label)))
        {
            return false;
        }

        service = new ResourceName(labels.Length == 2 ? labels[1] : ownNamespace, labels[0]);
        return true;
    }

    private static bool IsLabel(string label) => label.Length is > 0 and <= 63
        && label.All(c => c is (>= 'a' and <= 'z') or (>= '0' and <= '9') or '-') && label[0] != '-' && label[^1] != '-';
}
