using System.Text;

namespace MeshProxy.DataPlane.Routing;

/// <summary>
/// Alternatives by leading path elements: "/foo" holds for "/foo", "/foo/" and "/foo/bar", the empty prefix for every path. A walk costs one look-up for each
/// element of the path, and none for what is longer than the longest prefix here. Immutable once sealed.
/// </summary>
internal sealed class PrefixTable
{
    // Most hostnames have one rule for everything: that costs no dictionary.
    private Alternatives? _root;
    private Dictionary<byte[], Alternatives>? _prefixes;
    private Dictionary<byte[], Alternatives>.AlternateLookup<ReadOnlySpan<byte>> _lookup;
    private int _longest;

    /// <summary>Where alternatives under a prefix are added.</summary>
    public Alternatives At(string prefix)
    {
        // "/foo" and "/foo/" are the same prefix, "/" is the empty one.
        var key = Encoding.UTF8.GetBytes(prefix.TrimEnd('/'));
        if (key.Length == 0)
        {
            return _root ??= new Alternatives();
        }

        _longest = Math.Max(_longest, key.Length);
        _prefixes ??= new Dictionary<byte[], Alternatives>(BytesComparer.Instance);
        return _prefixes.TryGetValue(key, out var found) ? found : _prefixes[key] = new Alternatives();
    }

    public void Seal()
    {
        _root?.Seal();
        foreach (var alternatives in _prefixes?.Values ?? Enumerable.Empty<Alternatives>())
        {
            alternatives.Seal();
        }

        if (_prefixes is not null)
        {
            _lookup = _prefixes.GetAlternateLookup<ReadOnlySpan<byte>>();
        }
    }

    /// <summary>Every prefix here that a path begins with, the longest first.</summary>
    public Walk Of(ReadOnlySpan<byte> path) => new(this, path);

    internal ref struct Walk
    {
        private readonly PrefixTable _table;
        private ReadOnlySpan<byte> _rest;
        private bool _atRoot;

        public Walk(PrefixTable table, ReadOnlySpan<byte> path)
        {
            _table = table;
            _rest = path.TrimEnd((byte)'/');
            if (_rest.Length > table._longest)
            {
                _rest = _rest[table._longest] == '/' ? _rest[..table._longest] : Parent(_rest[..table._longest]);
            }
        }

        public Alternatives Current { get; private set; } = null!;

        /// <summary>The length of the prefix in bytes.</summary>
        public int Length { get; private set; }

        public bool MoveNext()
        {
            while (!_rest.IsEmpty)
            {
                var prefix = _rest;
                _rest = Parent(prefix);
                if (_table._lookup.TryGetValue(prefix, out var found))
                {
                    Current = found;
                    Length = prefix.Length;
                    return true;
                }
            }

            if (_atRoot || _table._root is null)
            {
                return false;
            }

            _atRoot = true;
            Current = _table._root;
            Length = 0;
            return true;
        }

        private static ReadOnlySpan<byte> Parent(ReadOnlySpan<byte> prefix) => prefix[..Math.Max(0, prefix.LastIndexOf((byte)'/'))];
    }
}
