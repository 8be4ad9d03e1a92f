namespace MeshProxy.Api.Documents;

/// <summary>The only reader of documents: YAML and JSON, with exact positions, without reflection.</summary>
public static class DocumentReader
{
    /// <summary>Reads every document of every source. Never throws on bad input.</summary>
    /// <param name="sources">Files and their texts.</param>
    /// <param name="defaultNamespace">For documents without metadata.namespace.</param>
    public static ReadResult Read(IEnumerable<DocumentSource> sources, string defaultNamespace = "default") => throw new NotImplementedException();
}
