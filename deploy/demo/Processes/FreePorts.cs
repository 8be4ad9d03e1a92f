using System.Net;
using System.Net.Sockets;

namespace MeshProxy.Demo.Processes;

/// <summary>
/// Hands out free loopback ports below the range from which the kernel takes source ports (32768 upwards by default): the control plane comes
/// back on the port it had, so no outgoing connection may borrow it meanwhile.
/// </summary>
internal sealed class FreePorts
{
    private const int Lowest = 20_000;
    private const int Highest = 32_000;
    private int _next = Lowest + (Environment.ProcessId * 61 % (Highest - Lowest));

    public int Take()
    {
        for (var tries = 0; tries < Highest - Lowest; tries++)
        {
            var port = _next;
            _next = _next == Highest ? Lowest : _next + 1;
            using var probe = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
            try
            {
                probe.Bind(new IPEndPoint(IPAddress.Loopback, port));
                return port;
            }
            catch (SocketException)
            {
                // Taken; try the next one.
            }
        }

        throw new DemoFailure($"no free port between {Lowest} and {Highest}");
    }
}
