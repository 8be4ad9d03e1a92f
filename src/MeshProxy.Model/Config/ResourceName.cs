using System.Diagnostics.CodeAnalysis;

namespace MeshProxy.Model.Config;

/// <summary>A namespaced name, written "namespace/name".</summary>
public readonly record struct ResourceName(string Namespace, string Name)
{
    /// <summary>"namespace/name".</summary>
    public override string ToString() => $"{Namespace}/{Name}";

    /// <summary>Reads "namespace/name".</summary>
    public static bool TryParse([NotNullWhen(true)] string? text, out ResourceName name)
    {
        var slash = text?.IndexOf('/') ?? -1;
        name = slash > 0 && slash < text!.Length - 1 ? new ResourceName(text[..slash], text[(slash + 1)..]) : default;
        return name.Name is not null;
    }
}

/// <summary>One port of a service, which is what a cluster is: written "namespace/name:port".</summary>
public readonly record struct ClusterId(ResourceName Service, int Port)
{
    /// <summary>"namespace/name:port".</summary>
    public override string ToString() => $"{Service}:{Port}";

    /// <summary>Reads "namespace/name:port".</summary>
    public static bool TryParse([NotNullWhen(true)] string? text, out ClusterId id)
    {
        id = default;
        var colon = text?.LastIndexOf(':') ?? -1;
        if (colon < 0 || !ResourceName.TryParse(text![..colon], out var service)
            || !int.TryParse(text.AsSpan(colon + 1), System.Globalization.NumberStyles.None, null, out var port) || port is < 1 or > 65535)
        {
            return false;
        }

        id = new ClusterId(service, port);
        return true;
    }

    /// <summary>The SNI that names this target between sidecars, mesh protocol 1: "p&lt;port&gt;.&lt;service&gt;.&lt;namespace&gt;.mesh.&lt;trust domain&gt;".</summary>
    public string ToMeshServerName(string trustDomain) => $"p{Port}.{Service.Name}.{Service.Namespace}.mesh.{trustDomain}";

    /// <summary>Reads a mesh SNI; false when it is no mesh name of this trust domain.</summary>
    public static bool TryParseMeshServerName([NotNullWhen(true)] string? serverName, string trustDomain, out ClusterId id)
    {
        id = default;
        var suffix = $".mesh.{trustDomain}";
        if (serverName is null || !serverName.EndsWith(suffix, StringComparison.OrdinalIgnoreCase))
        {
            return false;
        }

        var labels = serverName[..^suffix.Length].Split('.');
        if (labels.Length != 3 || labels[0].Length < 2 || labels[0][0] is not ('p' or 'P') || labels[1].Length == 0 || labels[2].Length == 0
            || !int.TryParse(labels[0].AsSpan(1), System.Globalization.NumberStyles.None, null, out var port) || port is < 1 or > 65535)
        {
            return false;
        }

        id = new ClusterId(new ResourceName(labels[2].ToLowerInvariant(), labels[1].ToLowerInvariant()), port);
        return true;
    }
}
