using MeshProxy.DataPlane.Failures;
using MeshProxy.DataPlane.Forwarding;
using MeshProxy.Http;

namespace MeshProxy.DataPlane.Tests.Failures;

internal sealed class FailureMapTests
{
    private static IEnumerable<FailureCause> Causes => FailureMap.Causes;

    [TestCaseSource(nameof(Causes))]
    public void Every_cause_has_a_meaning(FailureCause cause)
    {
        var meaning = FailureMap.Of(cause);
        Assert.That(meaning.Flag, Is.Not.EqualTo(ResponseFlag.None));
        Assert.That(meaning.Text, Is.Not.Empty);
        Assert.That(meaning.HttpStatus, Is.Zero.Or.InRange(400, 599));
        Assert.That(meaning.GrpcStatus, meaning.HttpStatus == 0 ? Is.Zero : Is.InRange(1, 16));
    }

    [Test]
    public void Every_flag_has_a_cause() => Assert.That(
        FailureMap.Causes.Select(cause => FailureMap.Of(cause).Flag).Distinct(), Is.EquivalentTo(Enum.GetValues<ResponseFlag>().Except([ResponseFlag.None])));

    [TestCaseSource(nameof(Causes))]
    public void What_an_inbound_tells_means_the_same_where_it_is_read(FailureCause cause)
    {
        foreach (var safety in Enum.GetValues<RetrySafety>())
        {
            var told = FailureField.Format(new Failure(cause, FailureStage.Waiting, safety, Initiator.Us, "detail: 1; 2; \u00e9"));
            var read = FailureField.Parse(System.Text.Encoding.ASCII.GetBytes(told), FailureMap.Of(cause).HttpStatus, "10.0.0.1:80 (shop/a)");
            Assert.That(read.Safety, Is.EqualTo(safety));
            Assert.That(read.Detail, Does.EndWith("detail: 1; 2; ?"));
            if (cause is not (FailureCause.DownstreamLeft or FailureCause.DelayInjected))
            {
                Assert.That(FailureMap.Of(read.Cause).Flag, Is.EqualTo(FailureMap.Of(cause).Flag));
                Assert.That(FailureMap.Of(read.Cause).HttpStatus, Is.EqualTo(FailureMap.Of(cause).HttpStatus));
            }
        }
    }

    [TestCase("")]
    [TestCase("??; retry=always")]
    [TestCase("7")]
    [TestCase(";;;")]
    [TestCase("UF; retry=sometimes; x")]
    public void What_is_not_understood_is_a_failure_that_is_never_retried_by_mistake(string text)
    {
        var read = FailureField.Parse(System.Text.Encoding.ASCII.GetBytes(text), 503, "a");
        Assert.That(read.IsFailure, Is.True);
        Assert.That(read.Safety == RetrySafety.Never || text.Contains("always", StringComparison.Ordinal), Is.True);
    }
}
