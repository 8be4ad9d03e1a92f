using System.Collections.Immutable;
using MeshProxy.Api.Documents.Nodes;
using MeshProxy.Model.Config;

namespace MeshProxy.Api.Documents;

/// <summary>One document that an operator wrote, checked by itself but not yet against others. Compare two by <see cref="Fingerprint"/>.</summary>
public abstract record Document
{
    /// <summary>"HTTPRoute", as the document writes it.</summary>
    public abstract string Kind { get; }

    /// <summary>"gateway.networking.k8s.io/v1".</summary>
    public required string ApiVersion { get; init; }

    /// <summary>Name and namespace; the namespace is empty for kinds that have none (GatewayClass).</summary>
    public required ResourceName Name { get; init; }

    /// <summary>metadata.labels.</summary>
    public ImmutableDictionary<string, string> Labels { get; init; } = ImmutableDictionary<string, string>.Empty;

    /// <summary>metadata.annotations.</summary>
    public ImmutableDictionary<string, string> Annotations { get; init; } = ImmutableDictionary<string, string>.Empty;

    /// <summary>metadata.creationTimestamp: when it was first created. The older of two documents that disagree wins; without one, order is by name.
    /// The store sets it with <c>with</c>; <see cref="DocumentWriter"/> writes it back.</summary>
    public DateTimeOffset CreatedAt { get; init; }

    /// <summary>The source it was read from.</summary>
    public string Source { get; init; } = "";

    /// <summary>The line it starts at, from 1.</summary>
    public int Line { get; init; }

    /// <summary>SHA-256 (hexadecimal) over what the operator meant: all but status, creationTimestamp and other fields that are ignored. Two documents
    /// with the same fingerprint are the same.</summary>
    public string Fingerprint { get; init; } = "";

    /// <summary>Fields of the standard that are not implemented: the document is never in force while there is one.</summary>
    public ImmutableArray<UnsupportedField> Unsupported { get; init; } = [];

    /// <summary>The tree as written, with positions.</summary>
    internal MappingNode? Tree { get; init; }

    /// <summary>"HTTPRoute shop/payments".</summary>
    public string Title => Name.Namespace.Length > 0 ? $"{Kind} {Name}" : $"{Kind} {Name.Name}";

    /// <summary>An error about a field of this document, with its position when the document has that field.</summary>
    public DocumentError Error(string field, string message)
    {
        var node = Tree?.Find(field);
        return new DocumentError(Source, node?.Line ?? Line, node?.Column ?? 1, Title, field, message);
    }

    /// <inheritdoc/>
    public sealed override string ToString() => Title;
}

/// <summary>A field (or a value of it) that the standard has and MeshProxy does not implement.</summary>
public sealed record UnsupportedField(string Field, int Line, int Column, string Message);
