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

    /// <summary>One YAML document, with status when it is given.</summary>
    /// <param name="document">What to write; it comes from <see cref="DocumentReader"/>.</param>
    /// <param name="status">What became of it.</param>
    /// <param name="showSecrets">Also write the data of a Secret: for the store alone. Otherwise only lengths are written.</param>
    public static string ToYaml(Document document, DocumentStatus? status = null, bool showSecrets = false)
    {
        var text = new StringBuilder();
        WriteMapping(text, Build(document, status, showSecrets), 0);
        return text.ToString();
    }

    /// <summary>One JSON object, with status when it is given. With <paramref name="showSecrets"/> it reads back as the same document.</summary>
    /// <param name="document">What to write; it comes from <see cref="DocumentReader"/>.</param>
    /// <param name="status">What became of it.</param>
    /// <param name="showSecrets">Also write the data of a Secret: for the store alone. Otherwise only lengths are written.</param>
    public static string ToJson(Document document, DocumentStatus? status = null, bool showSecrets = false)
    {
        var buffer = new ArrayBufferWriter<byte>();
        using (var json = new Utf8JsonWriter(buffer, Indented))
        {
            CanonicalText.Write(json, Build(document, status, showSecrets), isSorted: false);
        }

        return Encoding.UTF8.GetString(buffer.WrittenSpan);
    }

    private static MappingNode Build(Document document, DocumentStatus? status, bool showSecrets)
    {
        var tree = document.Tree ?? throw new ArgumentException($"{document.Title} was not read from a text, so there is nothing to write.", nameof(document));
        var entries = ImmutableArray.CreateBuilder<MappingEntry>();
        entries.Add(Entry("apiVersion", Text(document.ApiVersion)));
        entries.Add(Entry("kind", Text(document.Kind)));
        entries.Add(Entry("metadata", Metadata(document, tree, status?.Generation ?? 0)));
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

        if (status is { Conditions.IsEmpty: false })
        {
            entries.Add(Entry("status", document switch
            {
                RouteDocument route => RouteStatus(route, status),
                GatewayDocument gateway => GatewayStatus(gateway, status),
                _ => Map(Conditions(status, status.Conditions)),
            }));
        }

        return new MappingNode(0, 0, entries.DrainToImmutable());
    }

    private static MappingNode Metadata(Document document, MappingNode tree, ulong generation)
    {
        var entries = ImmutableArray.CreateBuilder<MappingEntry>();
        entries.Add(Entry("name", Text(document.Name.Name)));
        if (document.Name.Namespace.Length > 0)
        {
            entries.Add(Entry("namespace", Text(document.Name.Namespace)));
        }

        if (generation > 0)
        {
            entries.Add(Entry("generation", Number(generation)));
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

    /// <summary>Gateway API's RouteStatus: for each parentRef what it made of the route.</summary>
    private static MappingNode RouteStatus(RouteDocument route, DocumentStatus status)
    {
        var entries = ImmutableArray.CreateBuilder<MappingEntry>();
        var ofNone = status.Conditions.Where(condition => condition.Parent.Length == 0).ToArray();
        if (ofNone.Length > 0)
        {
            entries.Add(Conditions(status, ofNone));
        }

        entries.Add(List("parents", route.ParentRefs.Select(parent =>
        {
            var reference = ImmutableArray.CreateBuilder<MappingEntry>();
            reference.Add(Entry("group", Text(parent.Group)));
            reference.Add(Entry("kind", Text(parent.Kind)));
            reference.Add(Entry("namespace", Text(parent.Name.Namespace)));
            reference.Add(Entry("name", Text(parent.Name.Name)));
            if (parent.SectionName is not null)
            {
                reference.Add(Entry("sectionName", Text(parent.SectionName)));
            }

            if (parent.Port is { } port)
            {
                reference.Add(Entry("port", Number(port)));
            }

            return Map(
                Entry("parentRef", new MappingNode(0, 0, reference.DrainToImmutable())),
                Entry("controllerName", Text(GatewayClassDocument.OurController)),
                Conditions(status, status.Conditions.Where(condition => condition.Parent == parent.ToString()).Select(condition => condition with { Parent = "" })));
        })));
        return new MappingNode(0, 0, entries.DrainToImmutable());
    }

    /// <summary>Gateway API's GatewayStatus: its own conditions, and for each listener the kinds that it takes, how many routes it has, and its conditions.</summary>
    private static MappingNode GatewayStatus(GatewayDocument gateway, DocumentStatus status)
    {
        var kinds = status.Listeners.ToDictionary(listener => listener.Name);
        return Map(
            List("addresses", gateway.Addresses.Select(address => Map(Entry("type", Text("IPAddress")), Entry("value", Text(address))))),
            Conditions(status, status.Conditions.Where(condition => condition.Parent.Length == 0)),
            List("listeners", gateway.Listeners.Where(listener => kinds.ContainsKey(listener.Name)).Select(listener => Map(
                Entry("name", Text(listener.Name)),
                List("supportedKinds", kinds[listener.Name].SupportedKinds.Select(kind => Map(Entry("group", Text(DocumentReader.GatewayGroup)), Entry("kind", Text(kind))))),
                Entry("attachedRoutes", Number(kinds[listener.Name].AttachedRoutes)),
                Conditions(status, status.Conditions.Where(condition => condition.Parent == $"listener {listener.Name}").Select(condition => condition with { Parent = "" }))))));
    }

    private static MappingEntry Conditions(DocumentStatus status, IEnumerable<ConditionInfo> conditions) => List("conditions", conditions.Select(condition =>
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
        if (status.Generation > 0)
        {
            entries.Add(Entry("observedGeneration", Number(status.Generation)));
        }

        return new MappingNode(0, 0, entries.DrainToImmutable());
    }));

    private static MappingNode Map(params ReadOnlySpan<MappingEntry> entries) => new(0, 0, [.. entries]);

    private static MappingEntry List(string key, IEnumerable<MappingNode> items) => Entry(key, new SequenceNode(0, 0, [.. items]));

    private static ScalarNode Number<T>(T value)
        where T : IFormattable => new(0, 0, value.ToString(null, CultureInfo.InvariantCulture), isPlain: true);

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
