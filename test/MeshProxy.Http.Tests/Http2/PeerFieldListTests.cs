using System.Buffers;
using System.Text;
using MeshProxy.Http.Fields;
using MeshProxy.Http.Http2;
using static MeshProxy.Http.Tests.Http2.RawPeer;

namespace MeshProxy.Http.Tests.Http2;

/// <summary>What the peer announced not to take (SETTINGS_MAX_HEADER_LIST_SIZE, RFC 9113 section 6.5.2) is not sent.</summary>
public sealed class PeerFieldListTests
{
    private const int MaxHeaderListSize = 6;

    // As the client under test writes it: GET http://a/ without fields.
    private const int RequestSize = (4 * 32) + 7 + 3 + 7 + 4 + 10 + 1 + 5 + 1;

    private const int StatusSize = 32 + 7 + 3;

    [TestCase(RequestSize, true)]
    [TestCase(RequestSize - 1, false)]
    public void A_request_up_to_the_size_that_the_server_takes(int announced, bool isSent)
    {
        var client = new ClientUnderTest(null, true, Setting(MaxHeaderListSize, announced));
        var exchange = client.Connection.TryOpenExchange()!;
        Assert.That(exchange.WriteHead(Request()), Is.EqualTo(isSent));
        exchange.FlushAsync();
        Assert.That(client.Peer.Receive(), Has.Count.EqualTo(isSent ? 1 : 0));
        if (!isSent)
        {
            Assert.That(exchange.End, Is.EqualTo(new StreamEnd(StreamResetReason.PeerLimit, Initiator.Us, 0, "request_head_too_large")));
            Assert.That(exchange.ReadHeadAsync().AsTask().Result, Is.False);
            Assert.That(exchange.IsSent, Is.False);
        }

        exchange.Complete();
        Assert.That(client.Connection.ActiveExchanges, Is.Zero);

        // The connection serves on, and the peer may take more later.
        client.Peer.Send(Settings, 0, 0, Setting(MaxHeaderListSize, 1000));
        client.Peer.Receive();
        client.Open();
        Assert.That(client.Peer.Receive().Single().Stream, Is.EqualTo(isSent ? 3 : 1));
    }

    [Test]
    public void Trailers_that_the_server_does_not_take_end_the_request()
    {
        var client = new ClientUnderTest(null, true, Setting(MaxHeaderListSize, RequestSize));
        var exchange = client.Open(endStream: false);
        var trailers = Trailers(RequestSize + 1);
        Assert.That(exchange.WriteTrailers(trailers), Is.False);
        Assert.That(exchange.End.Reason, Is.EqualTo(StreamResetReason.PeerLimit));
        var frames = client.Peer.Receive();
        Assert.That(frames.Select(frame => frame.Type), Is.EqualTo(new[] { Headers, Reset }));
        Assert.That(frames[1].Code, Is.EqualTo((uint)Http2ErrorCode.Cancel));
    }

    [TestCase(StatusSize, true)]
    [TestCase(StatusSize - 1, false)]
    [TestCase(0, false)]
    public void A_response_up_to_the_size_that_the_client_takes(int announced, bool isSent)
    {
        var written = false;
        var takes = false;
        StreamEnd end = default;
        var server = new ServerUnderTest(exchange =>
        {
            exchange.Response.Status = 404;
            exchange.Response.EndsStream = true;
            takes = exchange.Takes(exchange.Response);
            written = exchange.WriteHead(exchange.Response);
            end = exchange.End;
            return default;
        });
        server.Peer.Send(Settings, 0, 0, Setting(MaxHeaderListSize, announced));
        server.Peer.Receive();
        server.Request(1);
        var frame = server.Peer.Receive().Single();
        Assert.That((takes, written), Is.EqualTo((isSent, isSent)));
        Assert.That(frame.Type, Is.EqualTo(isSent ? Headers : Reset));
        if (!isSent)
        {
            Assert.That(frame.Code, Is.EqualTo((uint)Http2ErrorCode.InternalError));
            Assert.That((end.Reason, end.Detail), Is.EqualTo((StreamResetReason.PeerLimit, "response_head_too_large")));
        }

        // HPACK is in step: what was not sent was not encoded.
        server.Peer.Send(Settings, 0, 0, Setting(MaxHeaderListSize, 1000));
        server.Peer.Receive();
        server.Request(3);
        Assert.That(server.Peer.Receive().Single().Type, Is.EqualTo(Headers));
    }

    [TestCase(0, true)]
    [TestCase(-1, false)]
    public void The_Date_that_is_added_counts(int over, bool isSent)
    {
        const int DateSize = 32 + 4 + 29;
        var takes = false;
        var server = new ServerUnderTest(
            exchange =>
            {
                exchange.Response.Status = 404;
                exchange.Response.EndsStream = true;
                takes = exchange.Takes(exchange.Response);
                exchange.WriteHead(exchange.Response);
                return default;
            },
            new Http2Options { Date = new DateField(TimeProvider.System) });
        server.Peer.Send(Settings, 0, 0, Setting(MaxHeaderListSize, StatusSize + DateSize + over));
        server.Peer.Receive();
        server.Request(1);
        Assert.That(server.Peer.Receive().Single().Type, Is.EqualTo(isSent ? Headers : Reset));
        Assert.That(takes, Is.EqualTo(isSent));
    }

    [Test]
    public void Informational_heads_are_left_out_and_trailers_end_the_response()
    {
        StreamEnd end = default;
        var server = new ServerUnderTest(async exchange =>
        {
            exchange.Response.Status = 103;
            exchange.Response.Fields.Add("link"u8, "</style.css>; rel=preload"u8);
            Assert.That(exchange.WriteInformational(exchange.Response), Is.True);
            exchange.Response.Clear();
            exchange.Response.Status = 200;
            Assert.That(exchange.WriteHead(exchange.Response), Is.True);
            await exchange.WriteBodyAsync(new ReadOnlySequence<byte>("x"u8.ToArray()), false);
            Assert.That(exchange.WriteTrailers(Trailers(StatusSize + 1)), Is.False);
            end = exchange.End;
        });
        server.Peer.Send(Settings, 0, 0, Setting(MaxHeaderListSize, StatusSize));
        server.Peer.Receive();
        server.Request(1);
        Assert.That(server.Peer.Receive().Select(frame => frame.Type), Is.EqualTo(new[] { Headers, Data, Reset }));
        Assert.That((end.Reason, end.Detail), Is.EqualTo((StreamResetReason.PeerLimit, "response_trailers_too_large")));
    }

    [TestCase(200, Headers, 0u)]
    [TestCase(60, Reset, (uint)Http2ErrorCode.EnhanceYourCalm)]
    public void Also_the_answer_to_a_request_that_is_too_large_itself(int announced, int type, uint code)
    {
        var server = new ServerUnderTest(options: new Http2Options { Limits = new Http2Limits { MaxFieldCount = 3 } });
        server.Peer.Send(Settings, 0, 0, Setting(MaxHeaderListSize, announced));
        server.Peer.Receive();
        server.Peer.Send(Headers, 5, 1, [.. Get, .. Enumerable.Range(0, 4).SelectMany(_ => Line("a", "b"))]);
        var frame = server.Peer.Receive().Single();
        Assert.That(frame.Type, Is.EqualTo(type), frame.ToString());
        if (code != 0)
        {
            Assert.That(frame.Code, Is.EqualTo(code));
        }
    }

    private static RequestHead Request()
    {
        var head = new RequestHead { EndsStream = true };
        head.SetMethod("GET"u8);
        head.SetScheme("http"u8);
        head.SetAuthority("a"u8);
        head.SetPath("/"u8);
        return head;
    }

    private static FieldMap Trailers(int size)
    {
        var trailers = new FieldMap();
        trailers.Add("t"u8, Encoding.ASCII.GetBytes(new string('x', size - 33)));
        Assert.That(trailers.ListSize, Is.EqualTo(size));
        return trailers;
    }
}
