using System.Net;
using System.Net.Sockets;

namespace MeshProxy.Integration.Tests.Fixture;

/// <summary>
/// Ports for what must be named before it listens (a Gateway's listener, a control plane that comes back). Below the range from which the kernel takes
/// source ports, so that no outgoing connection borrows one meanwhile.
/// </summary>
internal static class FreePorts
{
    private const int Lowest = 12_000;
    private const int Highest = 19_900;
    private static int s_next = Lowest + (Environment.ProcessId * 61 % (Highest - Lowest));

    public static int Take()
    {
        for (var tries = 0; tries < Highest - Lowest; tries++)
        {
            var port = Lowest + ((Interlocked.Increment(ref s_next) - Lowest) % (Highest - Lowest));
            using var probe = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
            try
            {
                probe.Bind(new IPEndPoint(IPAddress.Any, port));
                return port;
            }
            catch (SocketException)
            {
                // Taken; the next one.
            }
        }

        throw new InvalidOperationException($"no free port between {Lowest} and {Highest}");
    }
}
