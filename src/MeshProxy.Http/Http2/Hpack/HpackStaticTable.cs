using System.Text;
using MeshProxy.Http.Fields;

namespace MeshProxy.Http.Http2.Hpack;

/// <summary>The static table (RFC 7541 appendix A). Indexes begin at 1.</summary>
internal static class HpackStaticTable
{
    /// <summary>The last index.</summary>
    public const int Count = 61;

    private static readonly Entry[] s_entries =
    [
        new(":authority"), new(":method", "GET"), new(":method", "POST"), new(":path", "/"), new(":path", "/index.html"),
        new(":scheme", "http"), new(":scheme", "https"), new(":status", "200"), new(":status", "204"), new(":status", "206"),
        new(":status", "304"), new(":status", "400"), new(":status", "404"), new(":status", "500"), new("accept-charset"),
        new("accept-encoding", "gzip, deflate"), new("accept-language"), new("accept-ranges"), new("accept"), new("access-control-allow-origin"),
        new("age"), new("allow"), new("authorization"), new("cache-control"), new("content-disposition"),
        new("content-encoding"), new("content-language"), new("content-length"), new("content-location"), new("content-range"),
        new("content-type"), new("cookie"), new("date"), new("etag"), new("expect"),
        new("expires"), new("from"), new("host"), new("if-match"), new("if-modified-since"),
        new("if-none-match"), new("if-range"), new("if-unmodified-since"), new("last-modified"), new("link"),
        new("location"), new("max-forwards"), new("proxy-authenticate"), new("proxy-authorization"), new("range"),
        new("referer"), new("refresh"), new("retry-after"), new("server"), new("set-cookie"),
        new("strict-transport-security"), new("transfer-encoding"), new("user-agent"), new("vary"), new("via"),
        new("www-authenticate"),
    ];

    private static readonly byte[] s_byKnownField = IndexKnownFields();

    public static ReadOnlySpan<byte> Name(int index) => s_entries[index - 1].Name;

    public static ReadOnlySpan<byte> Value(int index) => s_entries[index - 1].Value;

    public static HpackName Classified(int index) => s_entries[index - 1].Classified;

    /// <summary>The index that names <paramref name="field"/>, or 0.</summary>
    public static int IndexOf(KnownField field) => s_byKnownField[(int)field];

    private static byte[] IndexKnownFields()
    {
        var indexes = new byte[64];
        for (var i = s_entries.Length; i > 0; i--)
        {
            var known = s_entries[i - 1].Classified.Known;
            if (known != KnownField.Other)
            {
                indexes[(int)known] = (byte)i;
            }
        }

        return indexes;
    }

    private readonly struct Entry
    {
        public readonly byte[] Name;
        public readonly byte[] Value;
        public readonly HpackName Classified;

        public Entry(string name, string value = "")
        {
            Name = Encoding.ASCII.GetBytes(name);
            Value = Encoding.ASCII.GetBytes(value);
            Classified = HpackName.Classify(Name);
        }
    }
}
