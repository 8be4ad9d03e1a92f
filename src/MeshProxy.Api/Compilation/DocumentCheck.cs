using System.Collections.Immutable;
using MeshProxy.Api.Documents;

namespace MeshProxy.Api.Compilation;

/// <summary>Everything that is wrong with documents, as errors with positions: what `validate` and file mode say.</summary>
/// <param name="Errors">The documents cannot be served as they are.</param>
/// <param name="Warnings">They can, but not all of it: a backend that does not exist.</param>
public sealed record DocumentCheck(ImmutableArray<DocumentError> Errors, ImmutableArray<DocumentError> Warnings)
{
    /// <summary>Collects reading errors, compilation errors and conditions that do not hold.</summary>
    public static DocumentCheck Of(ReadResult read, CompiledMesh mesh)
    {
        var errors = ImmutableArray.CreateBuilder<DocumentError>();
        var warnings = ImmutableArray.CreateBuilder<DocumentError>();
        errors.AddRange(read.Errors);
        errors.AddRange(mesh.Errors);
        foreach (var document in read.Documents)
        {
            foreach (var unsupported in document.Unsupported)
            {
                errors.Add(new DocumentError(document.Source, unsupported.Line, unsupported.Column, document.Title, unsupported.Field, unsupported.Message));
            }

            if (!mesh.Conditions.TryGetValue((document.Kind, document.Name), out var conditions))
            {
                continue;
            }

            foreach (var condition in conditions.Where(condition => !condition.Status && condition.Reason != "UnsupportedValue" && condition.Type is not ("Programmed" or "Conflicted")))
            {
                // Messages begin with the field that is to blame, where one is.
                var colon = condition.Message.IndexOf(": ", StringComparison.Ordinal);
                var hasField = colon > 0 && condition.Message.StartsWith("spec.", StringComparison.Ordinal) && !condition.Message.AsSpan(0, colon).Contains(' ');
                var error = document.Error(
                    hasField ? condition.Message[..colon] : "", $"{(hasField ? condition.Message[(colon + 2)..] : condition.Message)} ({condition.Reason})");
                (condition.Type == "ResolvedRefs" && document is RouteDocument ? warnings : errors).Add(error);
            }

            // A value that only its parent or target makes unsupported.
            if (document.Unsupported.IsEmpty)
            {
                errors.AddRange(conditions.Where(condition => condition is { Status: false, Reason: "UnsupportedValue" })
                    .Select(condition => document.Error("", $"{condition.Message} (UnsupportedValue)")));
            }
        }

        return new DocumentCheck([.. errors.Distinct()], [.. warnings.Distinct()]);
    }
}
