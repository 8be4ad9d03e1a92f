using MeshProxy.Http.Http2;

namespace MeshProxy.Http.Tests.Http2;

/// <summary>Every state against every event (RFC 9113 section 5.1).</summary>
public sealed class StreamStateTests
{
    private static readonly string[] s_events =
        ["headers-in", "headers-in-end", "data-in", "data-in-end", "reset-in", "window-in", "headers-out", "headers-out-end", "data-out", "data-out-end", "reset-out"];

    // One row for each event, one column for each state: the verdict (o ok, c stream closed, x connection error, i ignored, n refused) and the next state.
    private static readonly string[] s_table =
    [
        // Idle, Open, HalfClosedLocal, HalfClosedRemote, Closed
        "oO oO oL cR cC",
        "oR oR oC cR cC",
        "xI oO oL cR cC",
        "xI oR oC cR cC",
        "xI oC oC oC iC",
        "xI oO iL oR iC",
        "oO oO nL oR nC",
        "oL oL nL oC nC",
        "nI oO nL oR nC",
        "nI oL nL oC nC",
        "nI oC oC oC nC",
    ];

    public static IEnumerable<TestCaseData> Rows()
    {
        for (var e = 0; e < s_events.Length; e++)
        {
            var cells = s_table[e].Split(' ');
            for (var s = 0; s < cells.Length; s++)
            {
                yield return new TestCaseData((int)(StreamPhase)s, s_events[e], cells[s]).SetName($"{(StreamPhase)s} {s_events[e]}");
            }
        }
    }

    [TestCaseSource(nameof(Rows))]
    public void Row(int phase, string name, string expected)
    {
        var state = At((StreamPhase)phase);
        var end = name.EndsWith("-end", StringComparison.Ordinal);
        var verdict = name.Replace("-end", "", StringComparison.Ordinal) switch
        {
            "headers-in" => Letter(state.OnHeadersReceived(end)),
            "data-in" => Letter(state.OnDataReceived(end)),
            "reset-in" => Letter(state.OnResetReceived()),
            "window-in" => Letter(state.OnWindowUpdateReceived()),
            "headers-out" => state.OnHeadersSent(end) ? 'o' : 'n',
            "data-out" => state.OnDataSent(end) ? 'o' : 'n',
            _ => state.OnResetSent() ? 'o' : 'n',
        };
        Assert.That($"{verdict}{"IOLRC"[(int)state.Phase]}", Is.EqualTo(expected));
    }

    private static char Letter(StreamVerdict verdict) => "oicx"[(int)verdict];

    private static StreamState At(StreamPhase phase)
    {
        var state = new StreamState();
        switch (phase)
        {
            case StreamPhase.Open:
                state.OnHeadersReceived(false);
                break;
            case StreamPhase.HalfClosedLocal:
                state.OnHeadersSent(true);
                break;
            case StreamPhase.HalfClosedRemote:
                state.OnHeadersReceived(true);
                break;
            case StreamPhase.Closed:
                state.OnHeadersReceived(true);
                state.OnDataSent(true);
                break;
        }

        Assert.That(state.Phase, Is.EqualTo(phase));
        return state;
    }
}
