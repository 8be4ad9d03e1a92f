using System.Collections.Immutable;

namespace MeshProxy.Api.Documents;

/// <summary>The documents that are whole, and every error of the others. A document with an error is not among <see cref="Documents"/>.</summary>
public sealed record ReadResult(ImmutableArray<Document> Documents, ImmutableArray<DocumentError> Errors);
