using System.Collections.Immutable;
using YamlDotNet.Core;
using YamlDotNet.Core.Events;

namespace MeshProxy.Api.Documents.Nodes;

/// <summary>Why a text is no document.</summary>
internal sealed record TreeError(int Line, int Column, string Field, string Message);

/// <summary>
/// Builds positioned trees from YamlDotNet's events. Each key once; scalars as keys only; no anchors, aliases or tags, which nothing an operator writes here
/// needs and which bombs are made of. A syntax error ends the source, because nothing after it can be trusted; a structural error ends its document.
/// </summary>
internal sealed class DocumentTree
{
    private readonly Parser _parser;
    private int _nodes;

    private DocumentTree(string text) => _parser = new Parser(new Scanner(new StringReader(text)));

    /// <summary>The documents of a text; those with nothing in them are left out.</summary>
    public static IEnumerable<(DocumentNode? Root, TreeError? Error)> Read(string text)
    {
        if (text.Length > DocumentLimits.MaxSourceCharacters)
        {
            yield return (null, new TreeError(1, 1, "", $"The file has {text.Length} characters, at most {DocumentLimits.MaxSourceCharacters} are read: split it."));
            yield break;
        }

        if (FindDeepBracket(text) is { } deep)
        {
            yield return (null, deep);
            yield break;
        }

        var tree = new DocumentTree(text);
        for (var count = 0; ; count++)
        {
            var (isEnd, root, error, isFatal) = tree.Next();
            if (isEnd)
            {
                yield break;
            }

            if (count == DocumentLimits.MaxDocuments)
            {
                yield return (null, new TreeError(root?.Line ?? 0, 1, "", $"The file has more than {DocumentLimits.MaxDocuments} documents: split it."));
                yield break;
            }

            if (root is not null || error is not null)
            {
                yield return (root, error);
            }

            if (isFatal)
            {
                yield break;
            }
        }
    }

    /// <summary>Cheap, before the scanner sees it: brackets in quotes count too, which no honest document notices.</summary>
    private static TreeError? FindDeepBracket(string text)
    {
        var open = 0;
        for (var i = 0; i < text.Length; i++)
        {
            switch (text[i])
            {
                case '[' or '{' when ++open > DocumentLimits.MaxOpenBrackets:
                    var before = text.AsSpan(0, i);
                    return new TreeError(
                        before.Count('\n') + 1, i - before.LastIndexOf('\n'), "", $"More than {DocumentLimits.MaxOpenBrackets} brackets are open here, one within the other: close them.");
                case ']' or '}' when open > 0:
                    open--;
                    break;
                case '-' when i > 0 && text[i - 1] == '\n' && text.AsSpan(i).StartsWith("---"):
                    open = 0;
                    break;
            }
        }

        return null;
    }

    private (bool IsEnd, DocumentNode? Root, TreeError? Error, bool IsFatal) Next()
    {
        try
        {
            while (_parser.MoveNext())
            {
                if (_parser.Current is not DocumentStart)
                {
                    continue;
                }

                _parser.MoveNext();
                try
                {
                    var root = ReadNode("", 1);
                    return (false, root is ScalarNode { Kind: ScalarKind.Null } ? null : root, null, false);
                }
                catch (StructureException e)
                {
                    SkipDocument();
                    return (false, null, e.Error, e.IsFatal);
                }
            }

            return (true, null, null, false);
        }
        catch (YamlException e)
        {
            var message = e.InnerException is null ? e.Message : e.InnerException.Message;
            return (false, null, new TreeError((int)e.Start.Line, (int)e.Start.Column, "", $"This is not YAML: {message.TrimEnd('.')}. Check indentation, quotes and brackets here and just above."), true);
        }
        catch (Exception e) when (e is InvalidOperationException or ArgumentException or IndexOutOfRangeException or OverflowException or FormatException)
        {
            // The scanner's own slips on hostile bytes (surrogates in escapes, for one). Whatever the parser trips over is not YAML.
            var at = _parser.Current?.End ?? Mark.Empty;
            return (false, null, new TreeError((int)Math.Max(at.Line, 1), (int)Math.Max(at.Column, 1), "", "This is not YAML: the text after this place cannot be read."), true);
        }
    }

    private void SkipDocument()
    {
        while (_parser.Current is not DocumentEnd and not StreamEnd && _parser.MoveNext())
        {
        }
    }

    private DocumentNode ReadNode(string path, int depth)
    {
        var current = _parser.Current!;
        var line = (int)current.Start.Line;
        var column = (int)current.Start.Column;
        if (++_nodes > DocumentLimits.MaxNodes)
        {
            throw new StructureException(new TreeError(line, column, path, $"The file has more than {DocumentLimits.MaxNodes} values: split it."), isFatal: true);
        }

        if (depth > DocumentLimits.MaxDepth)
        {
            throw new StructureException(new TreeError(line, column, Shorten(path), $"Mappings and lists are nested deeper than {DocumentLimits.MaxDepth}."), isFatal: true);
        }

        if (current is AnchorAlias alias)
        {
            throw new StructureException(new TreeError(line, column, path, $"Aliases (*{alias.Value}) are not read: write the value out."));
        }

        if (current is NodeEvent { Anchor.IsEmpty: false } anchored)
        {
            throw new StructureException(new TreeError(line, column, path, $"Anchors (&{anchored.Anchor}) are not read: remove it, and write the value out where it was used."));
        }

        if (current is NodeEvent { Tag.IsEmpty: false } tagged && tagged.Tag.Value is not ("!" or "tag:yaml.org,2002:str" or "tag:yaml.org,2002:map" or "tag:yaml.org,2002:seq"))
        {
            throw new StructureException(new TreeError(line, column, path, $"The tag {tagged.Tag.Value} is not read: remove it."));
        }

        switch (current)
        {
            case Scalar scalar when !IsText(scalar.Value):
                throw new StructureException(new TreeError(line, column, path, "This text has half of a surrogate pair, which is no character: check its \\u escapes."));
            case Scalar scalar:
                return new ScalarNode(line, column, scalar.Value, scalar.Style == ScalarStyle.Plain && scalar.Tag.IsEmpty);
            case SequenceStart:
                var items = ImmutableArray.CreateBuilder<DocumentNode>();
                while (_parser.MoveNext() && _parser.Current is not SequenceEnd)
                {
                    items.Add(ReadNode(FieldPath.Index(path, items.Count), depth + 1));
                }

                return new SequenceNode(line, column, items.DrainToImmutable());
            case MappingStart:
                return ReadMapping(path, depth, line, column);
            default:
                throw new StructureException(new TreeError(line, column, path, "This is not YAML: a value is expected here."));
        }
    }

    private MappingNode ReadMapping(string path, int depth, int line, int column)
    {
        var entries = ImmutableArray.CreateBuilder<MappingEntry>();
        var seen = new Dictionary<string, int>(StringComparer.Ordinal);
        while (_parser.MoveNext() && _parser.Current is not MappingEnd)
        {
            var start = _parser.Current!.Start;
            if (ReadNode(path, depth + 1) is not ScalarNode key)
            {
                throw new StructureException(new TreeError((int)start.Line, (int)start.Column, path, "A key must be a plain word. (A template that was not filled in, such as {{ name }}, looks like this.)"));
            }

            var field = FieldPath.Key(path, key.Value);
            if (!seen.TryAdd(key.Value, key.Line))
            {
                throw new StructureException(new TreeError(key.Line, key.Column, field, $"The key '{key.Value}' is already on line {seen[key.Value]}: keep one of the two."));
            }

            if (!_parser.MoveNext())
            {
                break;
            }

            entries.Add(new MappingEntry(key.Value, key.Line, key.Column, ReadNode(field, depth + 1)));
        }

        return new MappingNode(line, column, entries.DrainToImmutable());
    }

    private static bool IsText(string value)
    {
        for (var i = 0; i < value.Length; i++)
        {
            if (char.IsSurrogate(value[i]) && (i + 1 == value.Length || !char.IsSurrogatePair(value[i], value[++i])))
            {
                return false;
            }
        }

        return true;
    }

    private static string Shorten(string path) => path.Length > 120 ? path[..120] + "..." : path;

    private sealed class StructureException(TreeError error, bool isFatal = false) : Exception
    {
        public TreeError Error { get; } = error;

        public bool IsFatal { get; } = isFatal;
    }
}
