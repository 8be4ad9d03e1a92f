using MeshProxy.Http.Http1;

namespace MeshProxy.Http.Tests.Http1;

/// <summary>Every state of a server connection against every event.</summary>
public sealed class ConnectionStateTests
{
    // One row for each event, one column for each state: where it leads; a dash is a bug of the connection.
    private static readonly (Http1ConnectionEvent Event, string Next)[] s_table =
    [
        // Idle, Head, Exchange, Draining, Closing, Lingering, Closed
        (Http1ConnectionEvent.HeadBegun, "Head - - - - - -"),
        (Http1ConnectionEvent.HeadComplete, "Exchange Exchange - - - - -"),
        (Http1ConnectionEvent.MessagesComplete, "- - Idle - - - -"),
        (Http1ConnectionEvent.ResponseComplete, "- - Draining - - - -"),
        (Http1ConnectionEvent.RequestDrained, "- - - Idle - - -"),
        (Http1ConnectionEvent.End, "Closing Closing Closing Closing - - -"),
        (Http1ConnectionEvent.OutputSent, "- - - - Lingering - -"),
        (Http1ConnectionEvent.PeerDone, "- - - - - Closed -"),
    ];

    private static readonly Http1ConnectionEvent[][] s_paths =
    [
        [],
        [Http1ConnectionEvent.HeadBegun],
        [Http1ConnectionEvent.HeadComplete],
        [Http1ConnectionEvent.HeadComplete, Http1ConnectionEvent.ResponseComplete],
        [Http1ConnectionEvent.End],
        [Http1ConnectionEvent.End, Http1ConnectionEvent.OutputSent],
        [Http1ConnectionEvent.End, Http1ConnectionEvent.OutputSent, Http1ConnectionEvent.PeerDone],
    ];

    public static IEnumerable<TestCaseData> Rows()
    {
        foreach (var (happened, next) in s_table)
        {
            var cells = next.Split(' ');
            for (var state = 0; state < s_paths.Length; state++)
            {
                yield return new TestCaseData(state, (int)happened, cells[state]).SetName($"{(Http1ConnectionState)state} {happened}");
            }
        }
    }

    [TestCaseSource(nameof(Rows))]
    public void Row(int state, int happened, string next)
    {
        var life = new Http1ConnectionLife();
        foreach (var step in s_paths[state])
        {
            life.On(step);
        }

        Assert.That(life.State, Is.EqualTo((Http1ConnectionState)state));
        var stamp = life.Stamp;
        if (next == "-")
        {
            Assert.That(() => life.On((Http1ConnectionEvent)happened), Throws.InvalidOperationException);
            Assert.That((life.State, life.Stamp), Is.EqualTo(((Http1ConnectionState)state, stamp)));
            return;
        }

        life.On((Http1ConnectionEvent)happened);
        Assert.That(life.State.ToString(), Is.EqualTo(next));
        Assert.That(life.Stamp, Is.Not.EqualTo(stamp));
    }

    [Test]
    public void TheTableIsComplete()
    {
        Assert.That(s_table.Select(row => row.Event), Is.EqualTo(Enum.GetValues<Http1ConnectionEvent>()));
        Assert.That(s_paths, Has.Length.EqualTo(Enum.GetValues<Http1ConnectionState>().Length));
        Assert.That(s_table.Select(row => row.Next.Split(' ').Length), Is.All.EqualTo(s_paths.Length));
    }
}
