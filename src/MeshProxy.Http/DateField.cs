using System.Buffers.Text;

namespace MeshProxy.Http;

/// <summary>The Date field's value (RFC 9110 section 5.6.7), formatted once a second and shared by everything that has the same clock.</summary>
public sealed class DateField
{
    /// <summary>Of every value, in bytes.</summary>
    public const int Length = 29;

    private readonly TimeProvider _time;

    // A reference swap: readers see one whole value, at worst the one of the second before.
    private volatile Formatted _current = new(long.MinValue, []);

    /// <summary>Formats the time of <paramref name="time"/>.</summary>
    public DateField(TimeProvider time) => _time = time;

    /// <summary>The value.</summary>
    public ReadOnlySpan<byte> Value
    {
        get
        {
            var now = _time.GetUtcNow();
            var second = now.UtcTicks / TimeSpan.TicksPerSecond;
            var current = _current;
            if (current.Second != second)
            {
                var bytes = new byte[Length];
                _ = Utf8Formatter.TryFormat(now, bytes, out _, 'R');
                current = new Formatted(second, bytes);
                _current = current;
            }

            return current.Bytes;
        }
    }

    private sealed record Formatted(long Second, byte[] Bytes);
}
