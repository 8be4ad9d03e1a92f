using MeshProxy.Api.Documents.Nodes;

namespace MeshProxy.Api.Documents.Binding;

/// <summary>What is being read: collects the errors of one document.</summary>
internal sealed class DocumentScope(string source, string title)
{
    private readonly List<DocumentError> _errors = [];
    private readonly List<UnsupportedField> _unsupported = [];

    /// <summary>"HTTPRoute shop/payments" as far as known; settled once metadata was read.</summary>
    public string Title { get; set; } = title;

    public IReadOnlyList<DocumentError> Errors => _errors;

    public IReadOnlyList<UnsupportedField> Unsupported => _unsupported;

    public void Fail(int line, int column, string field, string message)
    {
        if (_errors.Count < DocumentLimits.MaxErrorsPerDocument)
        {
            _errors.Add(new DocumentError(source, line, column, Title, field, message));
        }
    }

    public void Fail(DocumentNode at, string field, string message) => Fail(at.Line, at.Column, field, message);

    public void NotImplemented(DocumentNode at, string field, string message) => _unsupported.Add(new UnsupportedField(field, at.Line, at.Column, message));
}
