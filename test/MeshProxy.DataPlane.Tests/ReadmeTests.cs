using System.Globalization;
using System.Reflection;
using System.Text;
using System.Text.RegularExpressions;
using MeshProxy.DataPlane.Clusters;
using MeshProxy.DataPlane.Failures;
using MeshProxy.DataPlane.Forwarding;
using MeshProxy.DataPlane.Listening;
using MeshProxy.DataPlane.Telemetry;
using MeshProxy.DataPlane.Transport;
using MeshProxy.DataPlane.Upstream;
using MeshProxy.Http;
using MeshProxy.Model.Config;
using MeshProxy.Testing;
using Prometheus;

namespace MeshProxy.DataPlane.Tests;

internal sealed partial class ReadmeTests
{
    private const string Project = "MeshProxy.DataPlane";

    [Test]
    public void EveryBufferStandsInTheReadmeWithItsBound() => ReadmeBuffers.Check(Project, "BlockPool.cs", "Alternatives.cs");

    [Test]
    public void EveryLimitStandsInTheReadme()
    {
        var limits = ReadmeLimits.In(typeof(ProxyServer).Assembly);
        ReadmeLimits.Add(limits, new UpstreamPoolOptions());
        ReadmeLimits.Add(limits, typeof(UpstreamPool), "WaitersPerMultiplexedDial", "ExchangesForOwnConnection", "OwnConnectionInterval", "FirstBackOff", "LongestBackOff");
        ReadmeLimits.Add(limits, new ProxyServerOptions(), "DetectionTimeout", "FirstByteTimeout", "HandshakeTimeout", "MaxConnectionAge");
        ReadmeLimits.Add(limits, new SocketTransportOptions(), "Backlog", "KeepAlive", "CloseTimeout");
        ReadmeLimits.Add(limits, typeof(ClientHello), "LongestBytes");
        ReadmeLimits.Add(limits, typeof(SocketSplice), "MaxPipes", "PipeBytes");
        ReadmeLimits.Add(limits, typeof(ReplayBuffer), "MaxBytes");
        ReadmeLimits.Add(limits, typeof(MemoryBudget), "LargestDefaultBytes", "LeastBytes", "ResumePercent");
        ReadmeLimits.Add(limits, typeof(RetryBudget), "WindowSeconds", "MinimumPerSecond", "RequestsPerRetry");
        ReadmeLimits.Add(limits, typeof(FailureField), "MaxDetail");
        ReadmeLimits.Add(limits, typeof(LocalHttpServer), "MaxConnections");
        ReadmeLimits.Add(limits, typeof(Meters), "MaxSeries", "IdleExpiry");
        ReadmeLimits.Add(limits, typeof(AccessLog), "RingBytes");
        ReadmeLimits.Add(limits, typeof(AccessLogFormat), "MaxLineBytes");
        ReadmeLimits.Add(limits, typeof(RequestRecord), "MaxPathBytes", "MaxAuthorityBytes");
        ReadmeLimits.Check(Project, limits);
    }

    [Test]
    public void EveryFailureStandsInTheReadmeAsItIsTranslated()
    {
        var table = ReadmeTable.Read(Project, "Failures");
        table.MustName(FailureMap.Causes.Select(cause => cause.ToString()));
        Assert.Multiple(() =>
        {
            foreach (var cause in FailureMap.Causes)
            {
                var meaning = FailureMap.Of(cause);
                var name = cause.ToString();
                table.MustSay(name, "flag", meaning.Flag.ToString());
                table.MustSay(name, "HTTP", Number(meaning.HttpStatus));
                table.MustSay(name, "gRPC", meaning.HttpStatus == 0 ? "-" : meaning.GrpcStatus.ToString(CultureInfo.InvariantCulture));
                table.MustSay(name, "blames the endpoint", meaning.BlamesEndpoint ? "yes" : "no");
                table.MustSay(name, "meaning", meaning.Text);
                Assert.That(table.Cell(name, "retry"), Is.EqualTo("never").Or.EqualTo("if idempotent").Or.EqualTo("always")
                    .Or.EqualTo("if idempotent; always when provably unprocessed"), name);
            }
        });
        Assert.That(FailureMap.Causes.Select(cause => FailureMap.Of(cause).Flag).Distinct(),
            Is.EquivalentTo(Enum.GetValues<ResponseFlag>().Where(flag => flag != ResponseFlag.None)), "a flag that no cause has");
    }

    [Test]
    public void TheReadmeTellsWhichAttemptsMayBeMadeAgain()
    {
        var table = ReadmeTable.Read(Project, "Failures");
        var endpoint = new ClusterEndpoint(new EndpointConfig { Id = "shop/pay-1", Address = "127.0.0.1", Port = 1 }, null!);
        var seen = new Dictionary<FailureCause, SortedSet<string>>();
        foreach (var reason in Enum.GetValues<StreamResetReason>().Where(reason => reason != StreamResetReason.None))
        {
            foreach (var wasSent in new[] { true, false })
            {
                var failure = Attempt.FailureOf(new StreamEnd(reason), wasSent, endpoint, FailureStage.Waiting);
                if (!seen.TryGetValue(failure.Cause, out var words))
                {
                    seen.Add(failure.Cause, words = new SortedSet<string>(Comparer<string>.Create((a, b) => string.CompareOrdinal(b, a))));
                }

                words.Add(failure.Safety switch
                {
                    RetrySafety.Always => "always",
                    RetrySafety.IfIdempotent => "if idempotent",
                    _ => "never",
                });
            }
        }

        foreach (var (cause, words) in seen)
        {
            table.MustSay(cause.ToString(), "retry", words.Count > 1 ? "if idempotent; always when provably unprocessed" : words.Single());
        }
    }

    [Test]
    public async Task EveryMetricStandsInTheSidecarsReadme()
    {
        var meters = new Meters(TimeProvider.System);
        var labels = typeof(Meters).GetFields(BindingFlags.Instance | BindingFlags.NonPublic)
            .Select(field => field.GetValue(meters)).OfType<Collector>()
            .ToDictionary(collector => collector.Name, collector => string.Join(", ", collector.LabelNames));
        var text = Encoding.UTF8.GetString(await meters.ExportAsync());
        var exported = TypeLine().Matches(text).Select(match => match.Groups[1].Value);
        var table = ReadmeTable.Read("MeshProxy.Sidecar", "Metrics");
        table.MustName(labels.Keys.Union(exported));
        Assert.Multiple(() =>
        {
            foreach (var (name, wanted) in labels)
            {
                table.MustSay(name, "labels", wanted.Length == 0 ? "-" : wanted);
            }
        });
    }

    [Test]
    public void EveryFieldOfTheAccessLogStandsInTheSidecarsReadme()
    {
        var sources = new[] { "AccessLogFormat.cs", "ConnectionInfo.cs" }
            .Select(file => File.ReadAllText(Path.Combine(ReadmeTable.RepositoryRoot(), "src", Project, "Telemetry", file)));
        var fields = sources.SelectMany(source => LogField().Matches(source)).Select(match => match.Groups[1].Value).Distinct().ToArray();
        Assert.That(fields, Has.Length.GreaterThan(30));
        ReadmeTable.Read("MeshProxy.Sidecar", "Access log").MustName(fields);
    }

    private static string Number(int status) => status == 0 ? "-" : status.ToString(CultureInfo.InvariantCulture);

    [GeneratedRegex("^# TYPE ([a-z_]+) ", RegexOptions.Multiline)]
    private static partial Regex TypeLine();

    [GeneratedRegex("""\\"([@a-z][a-z_.]*)\\":""")]
    private static partial Regex LogField();
}
