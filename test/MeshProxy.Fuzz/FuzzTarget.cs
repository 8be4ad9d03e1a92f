using System.Text;

namespace MeshProxy.Fuzz;

/// <summary>Something that takes bytes from strangers, and how to judge what it does with them.</summary>
public abstract class FuzzTarget
{
    /// <summary>The name, also of its corpus: <c>Corpora/{Name}.txt</c>.</summary>
    public abstract string Name { get; }

    /// <summary>Pieces that mutation inserts, in the notation of the corpora.</summary>
    public abstract IReadOnlyList<string> Tokens { get; }

    /// <summary>Feeds one input and compares with the oracle.</summary>
    /// <returns>What happened in a few words, free of the input's own bytes: an input whose outcome is new joins the pool that is mutated further.</returns>
    /// <exception cref="FindingException">The target did what the oracle says is wrong. Any other exception is a finding too.</exception>
    public abstract string Run(byte[] input);

    /// <summary>Fails when two descriptions of one thing differ.</summary>
    protected static void Same(string actual, string expected, string what)
    {
        if (actual != expected)
        {
            throw new FindingException($"{what}\n  is:     {Escaped.Write(actual)}\n  wanted: {Escaped.Write(expected)}");
        }
    }

    /// <summary>Fails unless it is so.</summary>
    protected static void Must(bool condition, string what)
    {
        if (!condition)
        {
            throw new FindingException(what);
        }
    }

    /// <summary>Bytes as text, one character each.</summary>
    protected static string Text(ReadOnlySpan<byte> bytes) => Encoding.Latin1.GetString(bytes);
}

/// <summary>Target and oracle disagree.</summary>
public sealed class FindingException : Exception
{
    /// <summary>A finding.</summary>
    public FindingException(string message)
        : base(message)
    {
    }

    /// <summary>A finding.</summary>
    public FindingException()
    {
    }

    /// <summary>A finding.</summary>
    public FindingException(string message, Exception inner)
        : base(message, inner)
    {
    }
}
