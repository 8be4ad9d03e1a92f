namespace MeshProxy.Fuzz;

/// <summary>Damages inputs with a seeded hand.</summary>
internal sealed class Mutator(Random random, byte[][] tokens)
{
    public const int LongestInput = 2048;

    /// <summary>A damaged copy of <paramref name="input"/>, now and then crossed with <paramref name="other"/>.</summary>
    public byte[] Mutate(byte[] input, byte[] other)
    {
        var bytes = new List<byte>(input);
        if (other.Length > 0 && random.Next(5) == 0)
        {
            // The tail of one inside or behind the other: messages behind messages, and halves that do not belong together.
            bytes.InsertRange(random.Next(bytes.Count + 1), other[random.Next(other.Length)..]);
        }

        for (var count = random.Next(1, 5); count > 0; count--)
        {
            MutateOnce(bytes);
        }

        return bytes.Count <= LongestInput ? [.. bytes] : [.. bytes[..LongestInput]];
    }

    private void MutateOnce(List<byte> bytes)
    {
        var at = random.Next(bytes.Count + 1);
        var left = bytes.Count - at;
        switch (random.Next(left == 0 ? 2 : 9))
        {
            case 0:
                bytes.Insert(at, (byte)random.Next(256));
                break;
            case 1 when tokens.Length > 0:
                bytes.InsertRange(at, tokens[random.Next(tokens.Length)]);
                break;
            case 2:
                bytes[at] = (byte)random.Next(256);
                break;
            case 3:
                bytes[at] ^= (byte)(1 << random.Next(8));
                break;
            case 4:
                bytes[at] += (byte)random.Next(-3, 4);
                break;
            case 5:
                bytes.RemoveRange(at, Math.Min(left, random.Next(1, 1 + random.Next(1, 16))));
                break;
            case 6:
                bytes.InsertRange(random.Next(bytes.Count + 1), bytes.GetRange(at, Math.Min(left, random.Next(1, 64))));
                break;
            case 7 when tokens.Length > 0:
                var token = tokens[random.Next(tokens.Length)];
                bytes.RemoveRange(at, Math.Min(left, token.Length));
                bytes.InsertRange(at, token);
                break;
            default:
                bytes.RemoveRange(at, left);
                break;
        }
    }
}
