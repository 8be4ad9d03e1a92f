namespace MeshProxy.DataPlane.Policy;

/// <summary>Compares field names as CGI, WSGI and their like see them: to those "x_forwarded_for" is X-Forwarded-For.</summary>
internal static class FieldNames
{
    /// <param name="name">A name, lower case.</param>
    /// <param name="prefix">With hyphens.</param>
    public static bool StartsWith(ReadOnlySpan<byte> name, ReadOnlySpan<byte> prefix) => name.Length >= prefix.Length && AreEqual(name[..prefix.Length], prefix);

    /// <param name="name">A name, lower case.</param>
    /// <param name="other">With hyphens.</param>
    public static bool AreEqual(ReadOnlySpan<byte> name, ReadOnlySpan<byte> other)
    {
        if (name.Length != other.Length)
        {
            return false;
        }

        for (var i = 0; i < name.Length; i++)
        {
            if (name[i] != other[i] && !(name[i] == (byte)'_' && other[i] == (byte)'-'))
            {
                return false;
            }
        }

        return true;
    }
}
