using System.Collections.Immutable;
using MeshProxy.Model.Config;
using MeshProxy.Model.Validation;

namespace MeshProxy.Api.Documents.Binding;

/// <summary>Policies that are not implemented: only what they are about is read, so that their targets can be refused with them.</summary>
internal static class PolicyBinder
{
    public static PolicyDocument? Policy(Fields root, string kind, Metadata metadata)
    {
        if (root.RequiredMap("spec", "write 'spec:' with 'targetRefs:' below it") is not { } spec)
        {
            return null;
        }

        var targets = Targets(spec, metadata, 16);
        var effect = kind == DocumentKinds.BackendTrafficPolicy ? "what it targets keeps its last good state, or answers 500 without one" : "nothing it targets is served without it";
        root.Scope.NotImplemented(root.Node, "kind", $"{kind} is not implemented yet, and {effect}: delete it, or wait for the version that has it");
        PolicyDocument document = kind switch
        {
            DocumentKinds.BackendTrafficPolicy => new BackendTrafficPolicyDocument { ApiVersion = metadata.ApiVersion, Name = metadata.Name },
            DocumentKinds.AuthorizationPolicy => new AuthorizationPolicyDocument { ApiVersion = metadata.ApiVersion, Name = metadata.Name },
            _ => new RateLimitPolicyDocument { ApiVersion = metadata.ApiVersion, Name = metadata.Name },
        };
        return document with { TargetRefs = targets };
    }

    /// <summary>What a policy is about, in its own namespace.</summary>
    public static ImmutableArray<TargetRef> Targets(Fields spec, Metadata metadata, int max)
    {
        var targets = ImmutableArray.CreateBuilder<TargetRef>();
        foreach (var fields in spec.Maps("targetRefs", max))
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

        return targets.DrainToImmutable();
    }
}
