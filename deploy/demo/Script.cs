using MeshProxy.Demo.Mesh;
using MeshProxy.Demo.Payments;
using MeshProxy.Demo.Processes;
using MeshProxy.Demo.Screen;

namespace MeshProxy.Demo;

/// <summary>
/// What happens to the mesh while payments flow, and when. Points in time are shares of the duration, so that a short run sees everything too;
/// the offsets recorded here are on the client's clock.
/// </summary>
internal sealed class Script(
    PaymentClient client, MeshCtl meshctl, ControlPlane controlPlane, IReadOnlyList<MeshMember> members, ProxyWatch watch, IScreen screen, TimeProvider time)
{
    private const double RouteAt = 0.10;
    private const double KillAt = 0.35;
    private const double ControlPlaneStopsAt = 0.50;
    private const double ControlPlaneStartsAt = 0.75;
    private static readonly TimeSpan Bound = TimeSpan.FromSeconds(40);

    /// <summary>Between two steps even on a machine that is behind: what the kill cost must not be put down to the control plane.</summary>
    private static readonly TimeSpan LeastGap = TimeSpan.FromSeconds(1);
    private static readonly TimeSpan PollInterval = TimeSpan.FromMilliseconds(200);

    /// <summary>When <c>meshctl status</c> first showed that every sidecar had accepted the route.</summary>
    public TimeSpan? RouteAccepted { get; private set; }

    public TimeSpan? ControlPlaneGone { get; private set; }

    public TimeSpan? ControlPlaneBack { get; private set; }

    /// <summary>When every living sidecar was connected to the control plane again.</summary>
    public TimeSpan? SidecarsBack { get; private set; }

    public async Task PlayAsync(TimeSpan duration, string routeFile, MeshMember victim, CancellationToken token)
    {
        await UntilAsync(RouteAt * duration, token);
        await meshctl.ApplyAsync(routeFile, token);
        Say("meshctl apply: 20 % of payments to v2");
        await WaitForStatusAsync(
            status => status.AllAccepted(Living), "not every sidecar accepted the revision with the route", token);
        RouteAccepted = client.Elapsed;
        Say("every sidecar has accepted the route's revision");

        await UntilAsync(KillAt * duration, token);
        // Its counters die with it: the last scrape is what the summary has of it.
        await watch.ScrapeAsync(victim, token);
        victim.Killed = true;
        victim.Proxy!.Kill();
        victim.App!.Kill();
        Say($"{victim.Name} killed, application and sidecar (SIGKILL)");

        await UntilAsync(ControlPlaneStopsAt * duration, token);
        ControlPlaneGone = client.Elapsed;
        await controlPlane.StopAsync(token);
        Say("control plane stopped");

        await UntilAsync(ControlPlaneStartsAt * duration, token);
        controlPlane.Start();
        await WaitForStatusAsync(_ => true, "the control plane did not come back", token);
        ControlPlaneBack = client.Elapsed;
        Say("control plane started again on the same data");
        await WaitForStatusAsync(status => status.AllConnected(Living), "not every sidecar connected to the control plane again", token);
        SidecarsBack = client.Elapsed;
        Say("every sidecar is connected again");
    }

    private IEnumerable<string> Living => members.Where(member => !member.Killed).Select(member => member.Name);

    private void Say(string what) => screen.Say($"{client.Elapsed.TotalSeconds,6:0.0} s  {what}");

    private async Task UntilAsync(TimeSpan offset, CancellationToken token)
    {
        var wait = offset - client.Elapsed;
        await Task.Delay(wait > LeastGap ? wait : LeastGap, time, token);
    }

    private async Task WaitForStatusAsync(Func<MeshStatus, bool> holds, string otherwise, CancellationToken token)
    {
        var start = time.GetTimestamp();
        MeshStatus? status;
        while ((status = await meshctl.TryStatusAsync(token)) is null || !holds(status))
        {
            if (time.GetElapsedTime(start) > Bound)
            {
                throw new DemoFailure($"{otherwise} within {Bound.TotalSeconds:0} s: {status?.ToString() ?? meshctl.LastRefusal}", controlPlane.Process);
            }

            await Task.Delay(PollInterval, time, token);
        }
    }
}
