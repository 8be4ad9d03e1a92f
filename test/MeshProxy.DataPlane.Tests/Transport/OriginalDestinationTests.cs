using System.Diagnostics;
using System.Net;
using System.Runtime.InteropServices;
using MeshProxy.DataPlane.Transport;
using Microsoft.AspNetCore.Connections;

namespace MeshProxy.DataPlane.Tests.Transport;

/// <summary>In a network namespace of its own: a thread that enters a new one opens its sockets there, and the namespace goes when they are closed.</summary>
internal sealed partial class OriginalDestinationTests
{
    private const int NewNetwork = 0x40000000;

    [TestCase("127.0.0.1", "iptables")]
    [TestCase("::1", "ip6tables")]
    public void A_redirected_connection_tells_where_it_wanted_to_go(string address, string tool) => InOwnNetwork(() =>
    {
        foreach (var transport in new IConnectionListenerFactory[] { new SocketTransport(), new KestrelTransport() })
        {
            var listener = Wait(transport.BindAsync(new IPEndPoint(IPAddress.Parse(address), 0)));
            var port = ((IPEndPoint)listener.EndPoint).Port;
            Run(tool, $"-t nat -F OUTPUT");
            Run(tool, $"-t nat -A OUTPUT -p tcp --dport 7777 -j REDIRECT --to-ports {port}");
            foreach (var (dialed, expected) in new[] { (7777, "redirected"), (port, "direct") })
            {
                var accepting = listener.AcceptAsync();
                var connection = Wait(((IConnectionFactory)new SocketTransport()).ConnectAsync(new IPEndPoint(IPAddress.Parse(address), dialed)));
                var accepted = Wait(accepting)!;
                var original = OriginalDestination.TryGet(accepted);
                Assert.That(original, expected == "direct" ? Is.Null : Is.EqualTo(new IPEndPoint(IPAddress.Parse(address), 7777)), $"{transport.GetType().Name}, {expected}");
                accepted.DisposeAsync().AsTask().Wait();
                connection.DisposeAsync().AsTask().Wait();
            }

            listener.DisposeAsync().AsTask().Wait();
        }
    });

    [Test]
    public async Task Without_redirect_there_is_none()
    {
        await using var pair = await ConnectedPair.OpenAsync(new SocketTransport());
        Assert.That(OriginalDestination.TryGet(pair.Connection), Is.Null);
    }

    private static void InOwnNetwork(Action test)
    {
        if (!OperatingSystem.IsLinux() || Environment.UserName != "root")
        {
            Assert.Ignore("Needs root on Linux: makes a network namespace and installs redirect rules in it.");
        }

        Exception? failure = null;
        var skipped = false;
        var thread = new Thread(() =>
        {
            try
            {
                if (Unshare(NewNetwork) != 0)
                {
                    skipped = true;
                    return;
                }

                Run("ip", "link set lo up");
                test();
            }
            catch (Exception caught)
            {
                failure = caught;
            }
        });
        thread.Start();
        thread.Join();
        if (skipped)
        {
            Assert.Ignore("This machine does not allow network namespaces.");
        }

        if (failure is not null)
        {
            throw new AssertionException(failure.ToString(), failure);
        }
    }

    private static T Wait<T>(ValueTask<T> task) => task.AsTask().WaitAsync(Pipes.Patience).GetAwaiter().GetResult();

    private static void Run(string tool, string arguments)
    {
        using var process = Process.Start(new ProcessStartInfo(tool, arguments) { RedirectStandardError = true })!;
        var error = process.StandardError.ReadToEnd();
        process.WaitForExit();
        Assert.That(process.ExitCode, Is.Zero, $"{tool} {arguments}: {error}");
    }

    [LibraryImport("libc", EntryPoint = "unshare", SetLastError = true)]
    private static partial int Unshare(int flags);
}
