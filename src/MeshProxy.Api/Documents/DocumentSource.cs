namespace MeshProxy.Api.Documents;

/// <summary>A file and its text: YAML (JSON is YAML too), any number of documents.</summary>
/// <param name="Name">The file's name, "-" for standard input; for error texts.</param>
/// <param name="Text">What is in it.</param>
public sealed record DocumentSource(string Name, string Text);
