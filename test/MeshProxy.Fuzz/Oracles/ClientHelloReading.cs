using System.Text;

namespace MeshProxy.Fuzz.Oracles;

/// <summary>A ClientHello (RFC 8446 sections 4.1.2 and 5.1) read with nested readers that throw at their ends: "incomplete", "invalid", or name and protocols.</summary>
internal static class ClientHelloReading
{
    private const int Longest = 16 * 1024;

    public static string Read(byte[] bytes)
    {
        // The records joined, as far as they go.
        var message = new List<byte>();
        for (var at = 0; at < bytes.Length;)
        {
            if (bytes[at] != 0x16 || (at + 1 < bytes.Length && bytes[at + 1] != 3))
            {
                return "invalid";
            }

            if (at + 5 > bytes.Length)
            {
                break;
            }

            var length = (bytes[at + 3] << 8) | bytes[at + 4];
            if (length is 0 or > 16 * 1024)
            {
                return "invalid";
            }

            message.AddRange(bytes[(at + 5)..Math.Min(bytes.Length, at + 5 + length)]);
            at += 5 + length;
            if (message.Count > 0 && message[0] != 1)
            {
                return "invalid";
            }

            if (message.Count >= 4)
            {
                var wanted = 4 + ((message[1] << 16) | (message[2] << 8) | message[3]);
                if (wanted > Longest)
                {
                    return "invalid";
                }

                if (message.Count >= wanted)
                {
                    return Hello([.. message[4..wanted]]);
                }
            }
        }

        return "incomplete";
    }

    private static string Hello(byte[] body)
    {
        string? name = null;
        string[]? protocols = null;
        try
        {
            var hello = new Reader(body);
            hello.Take(34);
            var (session, suites, compressions) = (hello.Vector(1), hello.Vector(2), hello.Vector(1));
            if (session.Length > 32 || suites.Length == 0 || suites.Length % 2 != 0 || compressions.Length == 0)
            {
                return "invalid";
            }

            if (!hello.IsAtEnd)
            {
                var extensions = new Reader(hello.Vector(2));
                hello.End();
                while (!extensions.IsAtEnd)
                {
                    var type = extensions.Number(2);
                    var data = new Reader(extensions.Vector(2));
                    if (type == 0)
                    {
                        if (name is not null)
                        {
                            return "invalid";
                        }

                        var list = new Reader(data.Vector(2));
                        data.End();
                        if (list.Number(1) != 0)
                        {
                            return "invalid";
                        }

                        // There is one type of names, and one of each type.
                        var octets = list.Vector(2);
                        list.End();
                        if (octets.Length is 0 or > 255 || octets.Any(octet => octet is <= 0x20 or >= 0x7f))
                        {
                            return "invalid";
                        }

                        name = Encoding.ASCII.GetString(octets).ToLowerInvariant();
                    }
                    else if (type == 16)
                    {
                        var list = new Reader(data.Vector(2));
                        data.End();
                        var names = new List<string>();
                        while (!list.IsAtEnd)
                        {
                            names.Add(Encoding.Latin1.GetString(list.Vector(1)));
                        }

                        if (protocols is not null || names.Count == 0 || names.Contains(""))
                        {
                            return "invalid";
                        }

                        protocols = [.. names];
                    }
                }
            }
        }
        catch (EndOfStreamException)
        {
            return "invalid";
        }

        return $"{name ?? "-"} [{string.Join(' ', protocols ?? [])}]";
    }

    private sealed class Reader(byte[] bytes)
    {
        private int _at;

        public bool IsAtEnd => _at == bytes.Length;

        public byte[] Take(int count)
        {
            if (count > bytes.Length - _at)
            {
                throw new EndOfStreamException();
            }

            _at += count;
            return bytes[(_at - count).._at];
        }

        public int Number(int octets) => Take(octets).Aggregate(0, (number, octet) => (number << 8) | octet);

        public byte[] Vector(int lengthOctets) => Take(Number(lengthOctets));

        public void End()
        {
            if (!IsAtEnd)
            {
                throw new EndOfStreamException();
            }
        }
    }
}
