namespace MeshProxy.DataPlane.Transport;

/// <summary>
/// The monotonic clock, read once for each round of an event loop: everything that a round does has happened at its beginning. It is behind by the length of a
/// round, which is no matter where milliseconds are counted by a tick of a hundred. On other threads it is read each time.
/// </summary>
internal sealed class RoundClock(TimeProvider time)
{
    private readonly long _perMillisecond = time.TimestampFrequency / 1000;
    private readonly Reading[] _readings = new Reading[EventLoop.All.Length];

    /// <summary>Milliseconds.</summary>
    public long Milliseconds
    {
        get
        {
            if (EventLoop.Current is not { } loop)
            {
                return time.GetTimestamp() / _perMillisecond;
            }

            ref var reading = ref _readings[loop.Number];
            if (reading.Round != loop.Round)
            {
                reading.Round = loop.Round;
                reading.Milliseconds = time.GetTimestamp() / _perMillisecond;
            }

            return reading.Milliseconds;
        }
    }

    // A cache line each: two loops write side by side.
    [System.Runtime.InteropServices.StructLayout(System.Runtime.InteropServices.LayoutKind.Sequential, Size = 128)]
    private struct Reading
    {
        public long Round;
        public long Milliseconds;
    }
}
