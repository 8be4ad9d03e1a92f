namespace MeshProxy.Api.Documents.Nodes;

/// <summary>Paths such as "spec.rules[0].backendRefs[1].weight"; a key with other characters is written ["like this"].</summary>
internal static class FieldPath
{
    public static string Key(string path, string key)
    {
        var isPlain = key.Length > 0 && !key.AsSpan().ContainsAny(".[]\"");
        return !isPlain ? $"{path}[\"{key}\"]" : path.Length == 0 ? key : $"{path}.{key}";
    }

    public static string Index(string path, int index) => $"{path}[{index}]";

    public static IEnumerable<(string? Name, int Index)> Steps(string path)
    {
        var at = 0;
        while (at < path.Length)
        {
            if (path[at] == '.')
            {
                at++;
            }
            else if (path.AsSpan(at).StartsWith("[\""))
            {
                var close = path.IndexOf("\"]", at + 2, StringComparison.Ordinal);
                if (close < 0)
                {
                    yield break;
                }

                yield return (path[(at + 2)..close], -1);
                at = close + 2;
            }
            else if (path[at] == '[')
            {
                var close = path.IndexOf(']', at);
                if (close < 0 || !int.TryParse(path.AsSpan(at + 1, close - at - 1), out var index))
                {
                    yield break;
                }

                yield return (null, index);
                at = close + 1;
            }
            else
            {
                var end = path.AsSpan(at).IndexOfAny('.', '[');
                end = end < 0 ? path.Length : at + end;
                yield return (path[at..end], -1);
                at = end;
            }
        }
    }
}
