using System.Net;
using MeshProxy.Model.Config;

namespace MeshProxy.ControlPlane.Mesh;

/// <summary>Names of units, as discovery.proto lists them.</summary>
internal static class UnitName
{
    /// <summary>What the own workload serves.</summary>
    public const string Inbound = "inbound";

    /// <summary>The own Gateway's listeners.</summary>
    public const string Gateway = "gateway";

    private const string ServicePrefix = "service/";
    private const string AddressPrefix = "address/";

    /// <summary>Reads "service/&lt;namespace&gt;/&lt;name&gt;".</summary>
    public static bool TryParseService(string name, out ResourceName service)
    {
        service = default;
        return name.StartsWith(ServicePrefix, StringComparison.Ordinal) && ResourceName.TryParse(name[ServicePrefix.Length..], out service) && !service.Name.Contains('/');
    }

    /// <summary>Reads "address/&lt;ip&gt;:&lt;port&gt;".</summary>
    public static bool TryParseAddress(string name, out string address)
    {
        address = name.StartsWith(AddressPrefix, StringComparison.Ordinal) ? name[AddressPrefix.Length..] : "";
        return IPEndPoint.TryParse(address, out var endPoint) && endPoint.Port > 0;
    }
}
