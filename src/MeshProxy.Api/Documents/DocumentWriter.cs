using System.Buffers;
using System.Collections.Immutable;
using System.Globalization;
using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using MeshProxy.Api.Documents.Nodes;

namespace MeshProxy.Api.Documents;

/// <summary>Writes documents back for people and for the store: as they were written, with namespace, creationTimestamp and status filled in, without what a
/// server keeps (managedFields, resourceVersion, ...).</summary>
public static class DocumentWriter
{
    private static readonly HashSet<string> Dropped =
        ["name", "namespace", "creationTimestamp", "uid", "resourceVersion", "generation", "managedFields", "selfLink", "deletionTimestamp", "deletionGracePeriodSeconds"];

    // Not for HTML: what people wrote stays as they wrote it.
    private static readonly JsonWriterOptions Indented = new() { Indented = true, Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    /// <summary>One YAML document, with status when there are conditions.</summary>
    /// <param name="document">What to write; it comes from <see cref="DocumentReader"/>.</param>
    /// <param name="conditions">Become status.</param>
    /// <param name="showSecrets">Also write the data of a Secret: for the store alone. Otherwise only lengths are written.</param>
    public static string ToYaml(Document document, IEnumerable<ConditionInfo>? conditions = null, bool showSecrets = false)
    {
        var text = new StringBuilder();
        WriteMapping(text, Build(document, conditions, showSecrets), 0);
        return text.ToString();
    }

    /// <summary>One JSON object, with status when there are conditions. With <paramref name="showSecrets"/> it reads back as the same document.</summary>
    /// <param name="document">What to write; it comes from <see cref="DocumentReader"/>.</param>
    /// <param name="conditions">Become status.</param>
    /// <param name="showSecrets">Also write the data of a Secret: for the store alone. Otherwise only lengths are written.</param>
    public static string ToJson(Document document, IEnumerable<ConditionInfo>? conditions = null, bool showSecrets = false)
    {
        var buffer = new ArrayBufferWriter<byte>();
        using (var json = new Utf8JsonWriter(buffer, Indented))
        {
            CanonicalText.Write(json, Build(document, conditions, showSecrets), isSorted: false);
        }

        return Encoding.UTF8.GetString(buffer.WrittenSpan);
    }

    private static MappingNode Build(Document document, IEnumerable<ConditionInfo>? conditions, bool showSecrets)
    {
        var tree = document.Tree ?? throw new ArgumentException($"{document.Title} was not read from a text, so there is nothing to write.", nameof(document));
        var entries = ImmutableArray.CreateBuilder<MappingEntry>();
        entries.Add(Entry("apiVersion", Text(document.ApiVersion)));
        entries.Add(Entry("kind", Text(document.Kind)));
        entries.Add(Entry("metadata", Metadata(document, tree)));
        foreach (var entry in tree.Entries)
        {
            if (entry.Key is "apiVersion" or "kind" or "metadata" or "status")
            {
                continue;
            }

            var isSecret = document is SecretDocument && entry.Key is "data" or "stringData";
            if (!isSecret || showSecrets)
            {
                entries.Add(entry);
            }
        }

        if (document is SecretDocument secret && !showSecrets)
        {
            var hidden = secret.Data.OrderBy(pair => pair.Key, StringComparer.Ordinal)
                .Select(pair => Entry(pair.Key, Text(string.Create(CultureInfo.InvariantCulture, $"({pair.Value.Length} bytes, not shown)"))));
            entries.Add(Entry("data", new MappingNode(0, 0, [.. hidden])));
        }

        if (conditions?.ToImmutableArray() is { IsEmpty: false } known)
        {
            entries.Add(Entry("status", Status(known)));
        }

        return new MappingNode(0, 0, entries.DrainToImmutable());
    }

    private static MappingNode Metadata(Document document, MappingNode tree)
    {
        var entries = ImmutableArray.CreateBuilder<MappingEntry>();
        entries.Add(Entry("name", Text(document.Name.Name)));
        if (document.Name.Namespace.Length > 0)
        {
            entries.Add(Entry("namespace", Text(document.Name.Namespace)));
        }

        if (document.CreatedAt != default)
        {
            entries.Add(Entry("creationTimestamp", Text(document.CreatedAt.UtcDateTime.ToString("yyyy-MM-dd'T'HH:mm:ss.FFFFFFF'Z'", CultureInfo.InvariantCulture))));
        }

        if (tree["metadata"] is MappingNode metadata)
        {
            entries.AddRange(metadata.Entries.Where(entry => !Dropped.Contains(entry.Key)));
        }

        return new MappingNode(0, 0, entries.DrainToImmutable());
    }

    /// <summary>Gateway API writes conditions by parent for routes; ours stay in one list, each with the parent it is about.</summary>
    private static MappingNode Status(ImmutableArray<ConditionInfo> conditions)
    {
        var items = conditions.Select(condition =>
        {
            var entries = ImmutableArray.CreateBuilder<MappingEntry>();
            if (condition.Parent.Length > 0)
            {
                entries.Add(Entry("parent", Text(condition.Parent)));
            }

            entries.Add(Entry("type", Text(condition.Type)));
            entries.Add(Entry("status", Text(condition.Status ? "True" : "False")));
            entries.Add(Entry("reason", Text(condition.Reason)));
            entries.Add(Entry("message", Text(condition.Message)));
            return (DocumentNode)new MappingNode(0, 0, entries.DrainToImmutable());
        });
        return new MappingNode(0, 0, [Entry("conditions", new SequenceNode(0, 0, [.. items]))]);
    }

    private static MappingEntry Entry(string key, DocumentNode value) => new(key, 0, 0, value);

    private static ScalarNode Text(string value) => new(0, 0, value, isPlain: false);

    private static void WriteMapping(StringBuilder text, MappingNode mapping, int indent, bool isInline = false)
    {
        foreach (var entry in mapping.Entries)
        {
            if (!isInline)
            {
                text.Append(' ', indent);
            }

            isInline = false;
            text.Append(Quote(entry.Key)).Append(':');
            WriteValue(text, entry.Value, indent);
        }
    }

    private static void WriteValue(StringBuilder text, DocumentNode value, int indent)
    {
        switch (value)
        {
            case MappingNode { Entries.IsEmpty: true }:
                text.Append(" {}\n");
                break;
            case MappingNode mapping:
                text.Append('\n');
                WriteMapping(text, mapping, indent + 2);
                break;
            case SequenceNode { Items.IsEmpty: true }:
                text.Append(" []\n");
                break;
            case SequenceNode sequence:
                text.Append('\n');
                WriteSequence(text, sequence, indent);
                break;
            default:
                text.Append(' ').Append(Scalar((ScalarNode)value)).Append('\n');
                break;
        }
    }

    private static void WriteSequence(StringBuilder text, SequenceNode sequence, int indent)
    {
        foreach (var item in sequence.Items)
        {
            text.Append(' ', indent).Append('-');
            if (item is MappingNode { Entries.IsEmpty: false } mapping)
            {
                text.Append(' ');
                WriteMapping(text, mapping, indent + 2, isInline: true);
            }
            else
            {
                WriteValue(text, item, indent + 2);
            }
        }
    }

    private static string Scalar(ScalarNode scalar) => scalar.Kind switch
    {
        ScalarKind.Null => "null",
        ScalarKind.Text => Quote(scalar.Value),
        _ => scalar.Value,
    };

    private static string Quote(string value)
    {
        var isPlain = value.Length > 0 && char.IsAsciiLetterOrDigit(value[0]) && !char.IsWhiteSpace(value[^1]) && value[^1] != ':'
            && value.All(c => char.IsAsciiLetterOrDigit(c) || c is '-' or '_' or '.' or '/' or ' ' or ',' or '(' or ')' or ':' or '=' or '\'' or ';')
            && !value.Contains(": ", StringComparison.Ordinal) && CoreSchema.Classify(value) == ScalarKind.Text
            && value.ToLowerInvariant() is not ("yes" or "no" or "on" or "off" or "y" or "n");
        if (isPlain)
        {
            return value;
        }

        // JSON strings are YAML double-quoted scalars.
        return $"\"{JsonEncodedText.Encode(value, JavaScriptEncoder.UnsafeRelaxedJsonEscaping)}\"";
    }
}
