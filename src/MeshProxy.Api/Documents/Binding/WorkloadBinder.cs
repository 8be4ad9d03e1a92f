using System.Collections.Immutable;
using MeshProxy.Model.Identity;
using MeshProxy.Model.Validation;

namespace MeshProxy.Api.Documents.Binding;

/// <summary>Workload, meshproxy.io/v1alpha1.</summary>
internal static class WorkloadBinder
{
    private const int MaxPorts = 100;

    public static WorkloadDocument? Workload(Fields root, Metadata metadata)
    {
        if (root.RequiredMap("spec", "write 'spec:' with 'address:' and 'ports:' below it") is not { } spec)
        {
            return null;
        }

        var address = spec.RequiredText("address", "write the IP address", text => ServiceBinder.CheckAddress(text, null));
        var inboundPort = spec.Number("inboundPort", 1, 65535);
        var account = spec.Text("serviceAccount", NameRules.CheckName);
        SpiffeId? identity = null;
        if (spec.Text("identity") is { } text)
        {
            if (!SpiffeId.TryParse(text, out var id))
            {
                spec.Fail("identity", $"'{text}' is no SPIFFE ID: write spiffe://<trust domain>/ns/{metadata.Name.Namespace}/sa/<service account>");
            }
            else if (id.Namespace != metadata.Name.Namespace)
            {
                spec.Fail("identity", $"'{text}' is of namespace {id.Namespace}, but the workload is in {metadata.Name.Namespace}");
            }
            else if (account is not null && id.ServiceAccount != account)
            {
                spec.Fail("identity", $"'{text}' does not fit serviceAccount '{account}': remove one of the two");
            }
            else
            {
                identity = id;
                account = id.ServiceAccount;
            }
        }

        var hasIdentity = spec.Has("serviceAccount") || spec.Has("identity");
        if (spec.Has("inboundPort") && !hasIdentity)
        {
            spec.Fail("serviceAccount", "is missing: a workload with an inboundPort needs the account that its sidecar proves");
        }
        else if (hasIdentity && !spec.Has("inboundPort"))
        {
            spec.Fail("inboundPort", "is missing: an identity is proven by a sidecar; remove the identity if it has none");
        }

        var ports = ImmutableArray.CreateBuilder<(string, int)>();
        foreach (var port in spec.Maps("ports", MaxPorts))
        {
            var name = port.Text("name", NameRules.CheckLabel) ?? "";
            if (port.RequiredNumber("port", 1, 65535, "write the port that the application listens on") is { } number)
            {
                ports.Add((name, number));
            }

            port.Close();
        }

        if (!spec.Has("ports"))
        {
            spec.Fail("ports", "is missing: write at least one port");
        }

        var locality = spec.Text("locality", text => text.Count(c => c == '/') > 2 ? $"'{text}' has too many parts: write region/zone/sub-zone" : null);
        var weight = spec.Number("weight", 1, 1_000_000);
        spec.Close();
        return new WorkloadDocument
        {
            ApiVersion = metadata.ApiVersion,
            Name = metadata.Name,
            Address = address ?? "",
            InboundPort = inboundPort,
            ServiceAccount = account,
            Identity = identity,
            Ports = ports.DrainToImmutable(),
            Locality = locality ?? "",
            Weight = weight ?? 1,
        };
    }
}
