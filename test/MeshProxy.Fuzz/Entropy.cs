namespace MeshProxy.Fuzz;

/// <summary>An input read as a row of choices, so that fuzzing and properties can share generators. Used up, it always chooses the first.</summary>
internal sealed class Entropy(byte[] input)
{
    private int _at;

    /// <summary>A number below <paramref name="bound"/>, which is at most 65,536.</summary>
    public int Next(int bound) => (bound <= 256 ? Byte() : (Byte() << 8) | Byte()) % bound;

    /// <summary>True once in <paramref name="times"/>.</summary>
    public bool Once(int times) => Next(times) == times - 1;

    /// <summary>One of several.</summary>
    public T Of<T>(params ReadOnlySpan<T> choices) => choices[Next(choices.Length)];

    /// <summary>Up to <paramref name="most"/> characters of <paramref name="alphabet"/>.</summary>
    public string Text(string alphabet, int least, int most)
    {
        var text = new char[least + Next(most - least + 1)];
        for (var i = 0; i < text.Length; i++)
        {
            text[i] = alphabet[Next(alphabet.Length)];
        }

        return new string(text);
    }

    private int Byte() => _at < input.Length ? input[_at++] : 0;
}
