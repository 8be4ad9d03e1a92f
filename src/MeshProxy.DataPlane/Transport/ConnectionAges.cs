namespace MeshProxy.DataPlane.Transport;

/// <summary>How old connections may become: a limit, less up to a tenth of it that is spread evenly from one connection to the next (a Weyl sequence), so that
/// connections that were made together are not renewed together.</summary>
/// <param name="seed">Where the sequence begins; random, or all proxies would begin alike.</param>
internal sealed class ConnectionAges(uint seed)
{
    private const uint GoldenRatio = 0x9E3779B9;

    private uint _position = seed;

    /// <summary>The age that the next connection may reach.</summary>
    /// <param name="longest">The limit.</param>
    public TimeSpan Next(TimeSpan longest) => longest - (longest * (Interlocked.Add(ref _position, GoldenRatio) / (double)uint.MaxValue / 10));
}
