using System.Collections.Immutable;
using MeshProxy.Model.Config;
using MeshProxy.Model.Validation;

namespace MeshProxy.Api.Documents.Binding;

/// <summary>Policies: only what they are about is read, so that their targets can be refused with them.</summary>
internal static class PolicyBinder
{
    public static PolicyDocument? Policy(Fields root, string kind, Metadata metadata)
    {
        if (root.RequiredMap("spec", "write 'spec:' with 'targetRefs:' below it") is not { } spec)
        {
            return null;
        }

        var targets = ImmutableArray.CreateBuilder<TargetRef>();
        foreach (var fields in spec.Maps("targetRefs", 16))
        {
            var group = fields.Text("group") ?? "";
            var targetKind = fields.RequiredText("kind", "write the kind of the target, such as Service");
            var name = fields.RequiredText("name", "name the target", NameRules.CheckName);
            var section = fields.Text("sectionName", NameRules.CheckName);
            fields.Close();
            if (targetKind is not null && name is not null)
            {
                targets.Add(new TargetRef(group, targetKind, new ResourceName(metadata.Name.Namespace, name), section, fields.Path));
            }
        }

        root.Scope.NotImplemented(root.Node, "kind", $"{kind} is not implemented yet, and nothing it targets is served without it: delete it, or wait for the version that has it");
        PolicyDocument document = kind switch
        {
            DocumentKinds.BackendTlsPolicy => new BackendTlsPolicyDocument { ApiVersion = metadata.ApiVersion, Name = metadata.Name },
            DocumentKinds.BackendTrafficPolicy => new BackendTrafficPolicyDocument { ApiVersion = metadata.ApiVersion, Name = metadata.Name },
            DocumentKinds.AuthorizationPolicy => new AuthorizationPolicyDocument { ApiVersion = metadata.ApiVersion, Name = metadata.Name },
            _ => new RateLimitPolicyDocument { ApiVersion = metadata.ApiVersion, Name = metadata.Name },
        };
        return document with { TargetRefs = targets.DrainToImmutable() };
    }
}
