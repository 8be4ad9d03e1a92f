using System.Buffers;
using System.Globalization;
using System.Security.Cryptography;
using System.Text.Json;
using MeshProxy.Model.Config;

namespace MeshProxy.Api.Documents.Nodes;

/// <summary>JSON of a tree.</summary>
internal static class CanonicalText
{
    private static readonly HashSet<string> ServerMetadata =
        ["creationTimestamp", "uid", "resourceVersion", "generation", "managedFields", "selfLink", "deletionTimestamp", "deletionGracePeriodSeconds", "name", "namespace"];

    public static string Fingerprint(MappingNode tree, ResourceName name)
    {
        var buffer = new ArrayBufferWriter<byte>();
        using (var json = new Utf8JsonWriter(buffer))
        {
            json.WriteStartObject();
            json.WriteString("name", name.ToString());
            foreach (var entry in tree.Entries.OrderBy(entry => entry.Key, StringComparer.Ordinal))
            {
                if (entry.Key == "status")
                {
                    continue;
                }

                json.WritePropertyName(entry.Key);
                if (entry is { Key: "metadata", Value: MappingNode metadata })
                {
                    json.WriteStartObject();
                    foreach (var field in metadata.Entries.Where(field => !ServerMetadata.Contains(field.Key)).OrderBy(field => field.Key, StringComparer.Ordinal))
                    {
                        json.WritePropertyName(field.Key);
                        Write(json, field.Value, isSorted: true);
                    }

                    json.WriteEndObject();
                }
                else
                {
                    Write(json, entry.Value, isSorted: true);
                }
            }

            json.WriteEndObject();
        }

        return Convert.ToHexStringLower(SHA256.HashData(buffer.WrittenSpan));
    }

    public static void Write(Utf8JsonWriter json, DocumentNode node, bool isSorted)
    {
        switch (node)
        {
            case MappingNode mapping:
                json.WriteStartObject();
                foreach (var entry in isSorted ? mapping.Entries.OrderBy(entry => entry.Key, StringComparer.Ordinal) : mapping.Entries.AsEnumerable())
                {
                    json.WritePropertyName(entry.Key);
                    Write(json, entry.Value, isSorted);
                }

                json.WriteEndObject();
                break;
            case SequenceNode sequence:
                json.WriteStartArray();
                foreach (var item in sequence.Items)
                {
                    Write(json, item, isSorted);
                }

                json.WriteEndArray();
                break;
            case ScalarNode { Kind: ScalarKind.Null }:
                json.WriteNullValue();
                break;
            case ScalarNode { Kind: ScalarKind.Boolean } scalar:
                json.WriteBooleanValue(scalar.Value[0] is 't' or 'T');
                break;
            case ScalarNode { Kind: ScalarKind.Integer } scalar when long.TryParse(scalar.Value, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out var number):
                json.WriteNumberValue(number);
                break;
            case ScalarNode { Kind: ScalarKind.Float } scalar
                when double.TryParse(scalar.Value, NumberStyles.Float, CultureInfo.InvariantCulture, out var number) && double.IsFinite(number):
                json.WriteNumberValue(number);
                break;
            case ScalarNode { Kind: ScalarKind.Integer } scalar when TryHex(scalar.Value, out var number):
                json.WriteNumberValue(number);
                break;
            case ScalarNode scalar:
                json.WriteStringValue(scalar.Value);
                break;
        }
    }

    private static bool TryHex(string text, out long number)
    {
        number = 0;
        return text.StartsWith("0x", StringComparison.Ordinal) && long.TryParse(text.AsSpan(2), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out number);
    }
}
