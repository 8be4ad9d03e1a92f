namespace MeshProxy.Api.Documents;

/// <summary>Bounds on what operators send. Beyond one, the source is refused with an error that names it; the README has the same rows.</summary>
public static class DocumentLimits
{
    /// <summary>Characters of one source. A mesh of 1,000 services with routes is about 1 MB.</summary>
    public const int MaxSourceCharacters = 8 * 1024 * 1024;

    /// <summary>Mappings and lists within each other; Gateway API needs 10.</summary>
    public const int MaxDepth = 64;

    /// <summary>'[' and '{' that are open at one place of a source, wherever they stand. The scanner's work for each token grows with it.</summary>
    public const int MaxOpenBrackets = 256;

    /// <summary>Mappings, lists and scalars of one source.</summary>
    public const int MaxNodes = 2_000_000;

    /// <summary>Documents of one source.</summary>
    public const int MaxDocuments = 20_000;

    /// <summary>Errors that are told for one document; more are a wrong kind of file, not a typing error.</summary>
    public const int MaxErrorsPerDocument = 50;
}
