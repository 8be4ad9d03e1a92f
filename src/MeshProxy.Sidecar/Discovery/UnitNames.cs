using System.Net;
using MeshProxy.Model.Config;

namespace MeshProxy.Sidecar.Discovery;

/// <summary>Names of units, as discovery.proto lists them.</summary>
internal static class UnitNames
{
    public const string Inbound = "inbound";
    public const string Gateway = "gateway";

    private const string ServicePrefix = "service/";
    private const string AddressPrefix = "address/";

    public static string Service(ResourceName service) => $"{ServicePrefix}{service}";

    public static string Address(string address) => $"{AddressPrefix}{address}";

    public static bool TryService(string name, out ResourceName service)
    {
        service = default;
        return name.StartsWith(ServicePrefix, StringComparison.Ordinal) && ResourceName.TryParse(name[ServicePrefix.Length..], out service);
    }

    public static bool TryAddress(string name, out string address)
    {
        address = name.StartsWith(AddressPrefix, StringComparison.Ordinal) ? name[AddressPrefix.Length..] : "";
        return IPEndPoint.TryParse(address, out _);
    }
}
