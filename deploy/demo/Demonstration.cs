using System.Globalization;
using System.Reflection;
using MeshProxy.Demo.Apps;
using MeshProxy.Demo.Mesh;
using MeshProxy.Demo.Payments;
using MeshProxy.Demo.Processes;
using MeshProxy.Demo.Screen;

namespace MeshProxy.Demo;

/// <summary>
/// One run: build or find the executables, start the mesh as processes, pay through it while the script plays, judge. Every process is ended and the
/// state directory removed on every way out, a signal included.
/// </summary>
internal sealed class Demonstration(DemoOptions options, IScreen screen, TimeProvider time)
{
    private const string Namespace = "shop";
    private const string Gateway = "edge";
    private static readonly TimeSpan StartBound = TimeSpan.FromSeconds(60);
    private static readonly TimeSpan WarmUpBound = TimeSpan.FromSeconds(30);
    private static readonly TimeSpan PollInterval = TimeSpan.FromMilliseconds(100);
    private static readonly TimeSpan ObserveInterval = TimeSpan.FromSeconds(1);

    /// <summary>Returns whether the run met every rule.</summary>
    /// <exception cref="DemoFailure">It could not run to its end.</exception>
    public async Task<bool> RunAsync(CancellationToken token)
    {
        Executables executables;
        if (options.ExecutablesDirectory is { } directory)
        {
            executables = Executables.In(directory);
        }
        else
        {
            screen.Say("building meshproxy, meshproxy-control and meshctl");
            executables = await Executables.BuildAsync(token);
        }

        var state = Directory.CreateTempSubdirectory("meshproxy-demo-");
        try
        {
            using var fleet = new Fleet(state.CreateSubdirectory("logs").FullName, time);
            try
            {
                return await RunAsync(executables, state, fleet, token);
            }
            catch (DemoFailure failure) when (failure.Culprit is { } culprit)
            {
                throw new DemoFailure($"{failure.Message}\nThe end of the log of {culprit.Name}:\n{culprit.Tail()}");
            }
            finally
            {
                await StopAsync(fleet);
            }
        }
        finally
        {
            if (!options.Keep)
            {
                state.Delete(recursive: true);
            }
        }
    }

    private async Task<bool> RunAsync(Executables executables, DirectoryInfo state, Fleet fleet, CancellationToken token)
    {
        var ports = new FreePorts();
        var database = Path.Combine(state.FullName, "ledger.db");
        var gatewayPort = ports.Take();
        var controlPlane = new ControlPlane(
            fleet, executables.ControlPlane, state.CreateSubdirectory("control").FullName, ports.Take(), ports.Take());
        MeshMember[] members =
        [
            new("gateway", "gateway", "v1", "gateway", ports),
            new("checkout", "checkout", "v1", "checkout", ports),
            new("payments-v1-a", "payments", "v1", "payments", ports),
            new("payments-v1-b", "payments", "v1", "payments", ports),
            new("payments-v2-a", "payments", "v2", "payments", ports),
            new("ledger", "ledger", "v1", "ledger", ports),
        ];
        var victim = members[3];
        var meshctl = new MeshCtl(executables.Cli, controlPlane.Port, controlPlane.Credential, time);
        using var watch = new ProxyWatch();
        using var client = new PaymentClient(gatewayPort, time);

        screen.Say("starting the control plane");
        controlPlane.Start();
        await WaitAsync(
            async () => File.Exists(controlPlane.Credential) && await meshctl.TryStatusAsync(token) is not null,
            fleet, () => $"the control plane did not answer ({meshctl.LastRefusal})", () => controlPlane.Process, token);

        var documents = WriteDocuments(state, gatewayPort);
        await meshctl.ApplyAsync(Path.Combine(documents, "mesh"), token);

        screen.Say("starting checkout, payments (v1 twice, v2 once) and ledger, each with its sidecar, and the gateway");
        await StartMembersAsync(executables, controlPlane, meshctl, state, database, members, fleet, token);
        foreach (var member in members)
        {
            await WaitAsync(() => watch.IsReadyAsync(member, token), fleet, () => $"the proxy of {member.Name} was not ready", () => member.Proxy, token);
        }

        if (await client.WarmUpAsync(inARow: 40, WarmUpBound, token) is { } reason)
        {
            fleet.ThrowIfOneDied();
            throw new DemoFailure($"nothing comes through the gateway after {WarmUpBound.TotalSeconds:0} s: {reason}", members[0].Proxy);
        }

        screen.Say(string.Create(
            CultureInfo.InvariantCulture, $"paying at http://127.0.0.1:{gatewayPort}/payments, {options.Rate} a second for {options.Duration.TotalSeconds:0} s"));
        var script = new Script(client, meshctl, controlPlane, members, watch, screen, time);
        await PayAsync(client, script, Path.Combine(documents, "canary", "payments.yaml"), victim, members, watch, fleet, token);
        screen.Dispose();

        var scraped = await Task.WhenAll(members.Where(member => !member.Killed).Select(member => watch.ScrapeAsync(member, token)));
        if (scraped.Contains(false))
        {
            throw new DemoFailure("a proxy did not answer the last scrape, so its connections cannot be judged");
        }

        if (!options.Keep)
        {
            // The ledger is read after everything has ended: a booking that came late counts too.
            await StopAsync(fleet);
        }

        var summary = Summary.From(client, LedgerBook.CountBookings(database), members, script);
        Console.Out.WriteLine(options.Json ? summary.ToJson() : summary.ToText());
        if (options.Keep)
        {
            Console.Out.Flush();
            await StayAsync(gatewayPort, controlPlane, members, executables, state, token);
        }

        return summary.Shortcomings.Count == 0;
    }

    /// <summary>Writes the embedded documents where meshctl finds them: <c>mesh</c> at once, <c>canary</c> while payments flow.</summary>
    private static string WriteDocuments(DirectoryInfo state, int gatewayPort)
    {
        var assembly = Assembly.GetExecutingAssembly();
        var directory = state.CreateSubdirectory("documents").FullName;
        foreach (var name in assembly.GetManifestResourceNames().Where(name => name.EndsWith(".yaml", StringComparison.Ordinal)))
        {
            using var reader = new StreamReader(assembly.GetManifestResourceStream(name)!);
            var text = reader.ReadToEnd().Replace("${GATEWAY_PORT}", gatewayPort.ToString(CultureInfo.InvariantCulture), StringComparison.Ordinal);
            var file = Path.Combine(directory, name);
            Directory.CreateDirectory(Path.GetDirectoryName(file)!);
            File.WriteAllText(file, text);
        }

        return directory;
    }

    private static async Task StartMembersAsync(
        Executables executables,
        ControlPlane controlPlane,
        MeshCtl meshctl,
        DirectoryInfo state,
        string database,
        IEnumerable<MeshMember> members,
        Fleet fleet,
        CancellationToken token)
    {
        var (self, selfArguments) = Self();
        foreach (var member in members)
        {
            if (!member.IsGateway)
            {
                member.App = fleet.Start($"{member.Name}-app", self, [.. selfArguments, .. member.AppArguments(database)]);
            }

            var home = state.CreateSubdirectory(member.Name);
            var tokenFile = Path.Combine(home.FullName, "join-token");
            var writeForOwner = new FileStreamOptions
            {
                Mode = FileMode.CreateNew, Access = FileAccess.Write, UnixCreateMode = UnixFileMode.UserRead | UnixFileMode.UserWrite,
            };
            await using (var writer = new StreamWriter(tokenFile, writeForOwner))
            {
                await writer.WriteAsync(await meshctl.CreateTokenAsync(Namespace, member.ServiceAccount, token));
            }

            member.Proxy = fleet.Start(
                member.Name,
                executables.Proxy,
                member.ProxyArguments(controlPlane.Port, Namespace, tokenFile, home.CreateSubdirectory("state").FullName, Gateway));
        }
    }

    private async Task PayAsync(
        PaymentClient client,
        Script script,
        string routeFile,
        MeshMember victim,
        IReadOnlyList<MeshMember> members,
        ProxyWatch watch,
        Fleet fleet,
        CancellationToken token)
    {
        using var run = CancellationTokenSource.CreateLinkedTokenSource(token);
        var observing = ObserveAsync(client, members, watch, fleet, run.Token);
        client.Start();
        var playing = script.PlayAsync(options.Duration, routeFile, victim, run.Token);
        List<Task> under = [client.RunAsync(options.Rate, options.Duration, playing, run.Token), playing];
        try
        {
            while (under.Count > 0)
            {
                // The observer never ends by itself, so when it is the first it has found a dead process.
                var first = await Task.WhenAny([.. under, observing]);
                await first;
                under.Remove(first);
            }
        }
        finally
        {
            await run.CancelAsync();
            await Task.WhenAll([.. under, observing]).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
    }

    private async Task ObserveAsync(PaymentClient client, IReadOnlyList<MeshMember> members, ProxyWatch watch, Fleet fleet, CancellationToken token)
    {
        while (true)
        {
            fleet.ThrowIfOneDied();
            await Task.WhenAll(members.Where(member => !member.Killed).Select(member => watch.ScrapeAsync(member, token)));
            screen.Show(new Frame(client.Elapsed, options.Duration, [ClientRow(client), .. members.GroupBy(member => member.Row).Select(ServiceRowOf)]));
            await Task.Delay(ObserveInterval, time, token);
        }
    }

    private static ServiceRow ClientRow(PaymentClient client)
    {
        var ended = client.Ended.ToArray();
        var latencies = ended.Where(payment => payment.Acknowledged).Select(payment => payment.LatencyMilliseconds).Order().ToArray();
        return new ServiceRow(
            "client", "", ended.Length, latencies.Length, Percentile.Of(latencies, 0.50), Percentile.Of(latencies, 0.99), "", "");
    }

    private static ServiceRow ServiceRowOf(IGrouping<string, MeshMember> row)
    {
        var metrics = ProxyMetrics.Sum(row.Select(member => member.Metrics));
        var kinds = metrics.ConnectionsByTls.Where(kind => kind.Value > 0).OrderBy(kind => kind.Key, StringComparer.Ordinal);
        var tls = string.Join(", ", kinds.Select(kind => $"{kind.Key} {kind.Value}"));
        return new ServiceRow(
            row.Key,
            $"{row.Count(member => !member.Killed)}/{row.Count()}",
            metrics.Requests,
            metrics.Good,
            metrics.QuantileMilliseconds(0.50),
            metrics.QuantileMilliseconds(0.99),
            tls.Length == 0 ? "-" : tls,
            string.Join(' ', row.SelectMany(member => member.Peers).Distinct().Select(peer => peer[(peer.LastIndexOf('/') + 1)..])));
    }

    private async Task StayAsync(
        int gatewayPort, ControlPlane controlPlane, IReadOnlyList<MeshMember> members, Executables executables, DirectoryInfo state, CancellationToken token)
    {
        var output = options.Json ? Console.Error : Console.Out;
        output.WriteLine(
            $$"""

              Still up; Ctrl-C ends it. State and logs: {{state.FullName}} (kept)
                pay       curl -d '{"id":"mine-1","amount_minor":1250,"currency":"EUR"}' -H 'content-type: application/json' http://127.0.0.1:{{gatewayPort}}/payments
                operate   {{executables.Cli}} --server 127.0.0.1:{{controlPlane.Port}} --credential {{controlPlane.Credential}} status
                scrape    http://127.0.0.1:{{controlPlane.MetricsPort}}/metrics (control plane) and each proxy's own:
              """);
        foreach (var member in members.Where(member => !member.Killed))
        {
            output.WriteLine($"    {member.Name,-14} http://127.0.0.1:{member.MetricsPort}/metrics   admin http://127.0.0.1:{member.AdminPort}/clusters");
        }

        try
        {
            await Task.Delay(Timeout.InfiniteTimeSpan, time, token);
        }
        catch (OperationCanceledException)
        {
            // Ctrl-C is how this ends; the run itself was judged before.
        }
    }

    private async Task WaitAsync(Func<Task<bool>> holds, Fleet fleet, Func<string> otherwise, Func<ChildProcess?> culprit, CancellationToken token)
    {
        var start = time.GetTimestamp();
        while (!await holds())
        {
            fleet.ThrowIfOneDied();
            if (time.GetElapsedTime(start) > StartBound)
            {
                throw new DemoFailure($"{otherwise()} within {StartBound.TotalSeconds:0} s", culprit());
            }

            await Task.Delay(PollInterval, time, token);
        }
    }

    /// <summary>Proxies go first, while what they register with is still there; then applications and the control plane.</summary>
    private async Task StopAsync(Fleet fleet)
    {
        var killed = await fleet.StopAsync(child => child.Name != "control" && !child.Name.EndsWith("-app", StringComparison.Ordinal));
        if (killed.Count > 0)
        {
            Console.Error.WriteLine($"had to be killed: {string.Join(", ", killed)}");
        }
    }

    /// <summary>How to start this executable once more: directly, or through the dotnet host when that is how it runs.</summary>
    private static (string Program, string[] Arguments) Self()
    {
        var program = Environment.ProcessPath!;
        return Path.GetFileNameWithoutExtension(program) == "dotnet" ? (program, [Assembly.GetExecutingAssembly().Location]) : (program, []);
    }
}
