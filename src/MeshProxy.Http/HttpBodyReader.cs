using System.Buffers;
using MeshProxy.Http.Fields;

namespace MeshProxy.Http;

/// <summary>What a body reader has at hand.</summary>
/// <param name="Data">Unconsumed bytes of the body. Valid until <see cref="HttpBodyReader.Advance"/>. May be empty when <paramref name="IsEnd"/>.</param>
/// <param name="IsEnd">No byte follows <paramref name="Data"/>: the body is complete and <see cref="HttpBodyReader.Trailers"/> are set.</param>
/// <param name="End">Set (Reason other than None) when the body broke off; <paramref name="Data"/> is then empty and nothing follows.</param>
public readonly record struct BodyChunk(ReadOnlySequence<byte> Data, bool IsEnd, StreamEnd End)
{
    /// <summary>True when the body broke off.</summary>
    public bool IsBroken => End.Reason != StreamResetReason.None;
}

/// <summary>
/// Reads one message's body with backpressure: what is not consumed is not asked for from the peer. One reader at a time; not thread-safe.
/// Framing (chunk headers, DATA frames, padding) is never visible here.
/// </summary>
public abstract class HttpBodyReader
{
    /// <summary>The trailer fields, after a chunk with IsEnd; empty when there were none.</summary>
    public abstract FieldMap Trailers { get; }

    /// <summary>Gives what is at hand without waiting.</summary>
    /// <returns>False when nothing is at hand and the body has neither ended nor broken off.</returns>
    public abstract bool TryRead(out BodyChunk chunk);

    /// <summary>Waits until there is at least one byte, the end, or a break.</summary>
    public abstract ValueTask<BodyChunk> ReadAsync();

    /// <summary>Consumes <paramref name="count"/> bytes of the last chunk and gives their credit back to the peer.</summary>
    public abstract void Advance(long count);

    /// <summary>Whether the next bytes of the body can go to <paramref name="target"/> without being taken into the process (<see cref="ISplicingReader"/>), and so
    /// many are left that it is worth it. Never the end of the body: that is always read. With nothing at hand only.</summary>
    public virtual bool CanMoveTo(IHttpBodyWriter target) => false;

    /// <summary>Waits, after <see cref="CanMoveTo"/>, until there is something to move or to read.</summary>
    public virtual ValueTask WaitAsync() => throw new NotSupportedException();

    /// <summary>Moves what has come, at most <paramref name="most"/> bytes, to <paramref name="target"/>, waiting for room there.</summary>
    /// <returns>The count, consumed here and written there; 0: nothing has come. Negative: read, and write.</returns>
    public virtual ValueTask<long> MoveAsync(IHttpBodyWriter target, long most) => new(-1L);
}
