using System.Buffers.Binary;
using System.Security.Cryptography;

namespace MeshProxy.DataPlane.Forwarding;

/// <summary>Makes request IDs: 128 bits as hexadecimal, unique, not secret. A random start and a counter spread by SplitMix64's mixing function:
/// no system call and no lock per request.</summary>
internal sealed class RequestIdSource
{
    /// <summary>Bytes of an ID's text.</summary>
    public const int Length = 32;

    private readonly ulong _process;
    private ulong _counter;

    public RequestIdSource()
    {
        Span<byte> seed = stackalloc byte[16];
        RandomNumberGenerator.Fill(seed);
        _process = BinaryPrimitives.ReadUInt64LittleEndian(seed);
        _counter = BinaryPrimitives.ReadUInt64LittleEndian(seed[8..]);
    }

    public void Write(Span<byte> text)
    {
        var count = Interlocked.Increment(ref _counter);
        Span<byte> id = stackalloc byte[16];
        BinaryPrimitives.WriteUInt64BigEndian(id, Mix(_process ^ count));
        BinaryPrimitives.WriteUInt64BigEndian(id[8..], Mix(count));
        Convert.TryToHexStringLower(id, text, out _);
    }

    private static ulong Mix(ulong z)
    {
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
        z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
        return z ^ (z >> 31);
    }
}
