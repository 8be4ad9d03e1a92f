namespace MeshProxy.Demo.Payments;

/// <summary>What became of one payment, as the client saw it. Offsets count from the start of the run.</summary>
/// <param name="Id">The payment id that the client chose.</param>
/// <param name="Due">When the open loop wanted it sent; its latency counts from here.</param>
/// <param name="Sent">When it was handed to the HTTP client.</param>
/// <param name="Ended">When the answer or the failure was there.</param>
/// <param name="Version">The version of <c>payments</c> that acknowledged it; null when nobody did.</param>
/// <param name="Failure">Why it was not acknowledged; null when it was.</param>
internal sealed record PaymentAttempt(string Id, TimeSpan Due, TimeSpan Sent, TimeSpan Ended, string? Version, string? Failure)
{
    public bool Acknowledged => Failure is null;

    public double LatencyMilliseconds => (Ended - Due).TotalMilliseconds;

    public bool UnderWayBetween(TimeSpan from, TimeSpan to) => Sent <= to && Ended >= from;
}
