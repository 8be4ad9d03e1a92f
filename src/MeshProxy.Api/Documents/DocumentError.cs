namespace MeshProxy.Api.Documents;

/// <summary>What is wrong with a document, where exactly, and what to do next.</summary>
/// <param name="Source">The name of the <see cref="DocumentSource"/>.</param>
/// <param name="Line">From 1; 0 when no line is to blame.</param>
/// <param name="Column">From 1; 0 when no column is to blame.</param>
/// <param name="Document">"HTTPRoute shop/payments", as far as it is known.</param>
/// <param name="Field">"spec.rules[0].backendRefs[1].weight"; empty: the document itself.</param>
/// <param name="Message">What is wrong and what to write instead.</param>
public sealed record DocumentError(string Source, int Line, int Column, string Document, string Field, string Message)
{
    /// <summary>"file:line:column: document: field: message", without the parts that are not known.</summary>
    public override string ToString()
    {
        var place = Line > 0 ? $"{Source}:{Line}:{Column}: " : Source.Length > 0 ? $"{Source}: " : "";
        return $"{place}{(Document.Length > 0 ? Document + ": " : "")}{(Field.Length > 0 ? Field + ": " : "")}{Message}";
    }
}
