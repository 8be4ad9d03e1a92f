using System.Collections.Immutable;

namespace MeshProxy.Api.Documents.Nodes;

/// <summary>A piece of a document with its position. Line and column count from 1.</summary>
internal abstract class DocumentNode(int line, int column)
{
    public int Line { get; } = line;

    public int Column { get; } = column;

    /// <summary>What people call it: "a list", "a number", ...</summary>
    public abstract string Describe { get; }

    /// <summary>The node at a field path ("spec.rules[0].matches"), or the nearest one above it that exists.</summary>
    public DocumentNode Find(string path)
    {
        DocumentNode node = this;
        foreach (var step in FieldPath.Steps(path))
        {
            var next = node switch
            {
                MappingNode mapping when step.Index < 0 => mapping[step.Name!],
                SequenceNode sequence when step.Index >= 0 && step.Index < sequence.Items.Length => sequence.Items[step.Index],
                _ => null,
            };
            if (next is null)
            {
                break;
            }

            node = next;
        }

        return node;
    }
}

/// <summary>One key and its value.</summary>
internal readonly record struct MappingEntry(string Key, int Line, int Column, DocumentNode Value);

/// <summary>Keys in document order, each once.</summary>
internal sealed class MappingNode(int line, int column, ImmutableArray<MappingEntry> entries) : DocumentNode(line, column)
{
    public ImmutableArray<MappingEntry> Entries { get; } = entries;

    public override string Describe => "a mapping";

    public DocumentNode? this[string key]
    {
        get
        {
            foreach (var entry in Entries)
            {
                if (entry.Key == key)
                {
                    return entry.Value;
                }
            }

            return null;
        }
    }
}

internal sealed class SequenceNode(int line, int column, ImmutableArray<DocumentNode> items) : DocumentNode(line, column)
{
    public ImmutableArray<DocumentNode> Items { get; } = items;

    public override string Describe => "a list";
}

/// <summary>What a scalar is by the YAML 1.2 core schema (section 10.3.2).</summary>
internal enum ScalarKind
{
    Text,
    Null,
    Boolean,
    Integer,
    Float,
}

internal sealed class ScalarNode(int line, int column, string value, bool isPlain) : DocumentNode(line, column)
{
    public string Value { get; } = value;

    public ScalarKind Kind { get; } = isPlain ? CoreSchema.Classify(value) : ScalarKind.Text;

    public override string Describe => Kind switch
    {
        ScalarKind.Null => "empty",
        ScalarKind.Boolean => $"the boolean {Value}",
        ScalarKind.Integer or ScalarKind.Float => $"the number {Value}",
        _ => $"the text '{(Value.Length > 40 ? Value[..40] + "..." : Value)}'",
    };
}
