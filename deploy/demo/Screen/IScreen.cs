namespace MeshProxy.Demo.Screen;

/// <summary>Where the running demonstration is shown: a live table on a terminal, plain lines elsewhere.</summary>
internal interface IScreen : IDisposable
{
    /// <summary>Something happened that stays worth reading.</summary>
    void Say(string what);

    void Show(Frame frame);
}

/// <summary>One moment of the run.</summary>
internal sealed record Frame(TimeSpan Elapsed, TimeSpan Duration, IReadOnlyList<ServiceRow> Rows);

/// <summary>One line of the table. Latencies are milliseconds; null where nothing was measured yet.</summary>
internal sealed record ServiceRow(string Service, string Instances, long Requests, long Good, double? P50, double? P99, string Tls, string Callers)
{
    public double? SuccessPercent => Requests == 0 ? null : 100d * Good / Requests;
}
