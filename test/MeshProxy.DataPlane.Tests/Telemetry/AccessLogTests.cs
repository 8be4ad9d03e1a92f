using System.Net;
using System.Text;
using System.Text.Json;
using MeshProxy.DataPlane.Failures;
using MeshProxy.DataPlane.Telemetry;
using MeshProxy.Http;
using MeshProxy.Http.Fields;

namespace MeshProxy.DataPlane.Tests.Telemetry;

internal sealed class AccessLogTests
{
    private static readonly DateTimeOffset Start = new(2026, 11, 3, 4, 5, 6, 789, TimeSpan.Zero);

    [Test]
    public void ALineIsOneJsonObjectWithTheFactsOfTheExchange()
    {
        var head = Head("POST", "/payments/4711?card=4111111111111111", "payments.shop");
        head.Fields.Add(KnownField.UserAgent, "curl/8"u8);
        head.Fields.Add(KnownField.XRequestId, "r-1"u8);
        head.Fields.Add(KnownField.TraceParent, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"u8);
        head.Fields.Add(KnownField.Authorization, "Bearer secret-token"u8);
        head.Fields.Add(KnownField.Cookie, "session=secret-cookie"u8);
        var record = Record(head);
        record.Status = 503;
        record.Flag = ResponseFlag.UF;
        record.Failure = new Failure(FailureCause.ConnectFailed, FailureStage.Connecting, RetrySafety.Always, Initiator.Peer, "connection_refused 10.0.0.7:15006");
        record.Service = "shop/payments";
        record.Route = "shop/payments-split";
        record.Cluster = "shop/payments-v1:8080";
        record.Endpoint = "10.0.0.7:8080";
        record.Attempts = 2;
        record.BytesReceived = 12;
        record.BytesSent = 34;

        var text = Format(record);
        using var json = JsonDocument.Parse(text);
        var root = json.RootElement;
        Assert.Multiple(() =>
        {
            Assert.That(text, Does.EndWith("}\n"));
            Assert.That(root.GetProperty("@timestamp").GetString(), Is.EqualTo("2026-11-03T04:05:06.789000Z"));
            Assert.That(root.GetProperty("event.duration").GetInt64(), Is.EqualTo(1_500_000));
            Assert.That(root.GetProperty("event.outcome").GetString(), Is.EqualTo("failure"));
            Assert.That(root.GetProperty("http.request.method").GetString(), Is.EqualTo("POST"));
            Assert.That(root.GetProperty("url.path").GetString(), Is.EqualTo("/payments/4711"));
            Assert.That(root.GetProperty("url.domain").GetString(), Is.EqualTo("payments.shop"));
            Assert.That(root.GetProperty("http.response.status_code").GetInt32(), Is.EqualTo(503));
            Assert.That(root.GetProperty("source.ip").GetString(), Is.EqualTo("10.1.2.3"));
            Assert.That(root.GetProperty("source.port").GetInt32(), Is.EqualTo(4444));
            Assert.That(root.GetProperty("trace.id").GetString(), Is.EqualTo("0af7651916cd43dd8448eb211c80319c"));
            Assert.That(root.GetProperty("http.request.id").GetString(), Is.EqualTo("r-1"));
            Assert.That(root.GetProperty("meshproxy.flags").GetString(), Is.EqualTo("UF"));
            Assert.That(root.GetProperty("meshproxy.failure").GetString(), Is.EqualTo("connection_refused 10.0.0.7:15006"));
            Assert.That(root.GetProperty("meshproxy.endpoint").GetString(), Is.EqualTo("10.0.0.7:8080"));
            Assert.That(root.GetProperty("meshproxy.attempts").GetInt32(), Is.EqualTo(2));
            Assert.That(root.GetProperty("meshproxy.peer").GetString(), Is.EqualTo("spiffe://mesh.local/ns/shop/sa/checkout"));
            Assert.That(text, Does.Not.Contain("4111").And.Not.Contain("secret"), "queries and credentials are never logged");
        });
    }

    [Test]
    public void WhatAPeerSendsCanNotBreakALineNorForgeOne()
    {
        var hostile = "/\"}\n{\"forged\":true,\"x\":\"\\"u8.ToArray();
        byte[] notUtf8 = [.. hostile, 0xC3, 0x28, 0xFF, 0x00, 0x7F, .. "é€😀"u8];
        var record = Record(Head("GET", notUtf8, "a"));
        record.Status = 200;

        var text = Format(record);
        Assert.That(text.Count(c => c == '\n'), Is.EqualTo(1));
        using var json = JsonDocument.Parse(text);
        Assert.That(json.RootElement.TryGetProperty("forged", out _), Is.False);
        Assert.That(json.RootElement.GetProperty("url.path").GetString(), Is.EqualTo("/\"}\n{\"forged\":true,\"x\":\"\\\uFFFD(\uFFFD\0\u007Fé€😀"));
    }

    [Test]
    public void EveryValueAtItsBoundStillFits()
    {
        var head = Head("GET", Enumerable.Repeat((byte)1, 8000).Prepend((byte)'/').ToArray(), new string('\u0001', 300));
        head.Fields.Add(KnownField.UserAgent, Enumerable.Repeat((byte)2, 4000).ToArray());
        head.Fields.Add(KnownField.XRequestId, Enumerable.Repeat((byte)3, 4000).ToArray());
        var record = Record(head);
        record.Service = record.Route = record.Cluster = record.Endpoint = new string('é', 1000);
        using var json = JsonDocument.Parse(Format(record));
        Assert.That(json.RootElement.GetProperty("url.path").GetString(), Has.Length.EqualTo(RequestRecord.MaxPathBytes));
    }

    [Test]
    public void LinesReachTheSinkWholeAndAllOfThemAtTheEnd()
    {
        var sink = new MemoryStream();
        using (var log = AccessLog.ToStream(() => new KeepOpen(sink)))
        {
            Parallel.For(0, 4, _ =>
            {
                var record = Record(Head("GET", "/x", "a"));
                for (var i = 0; i < 200; i++)
                {
                    // Even all of them on one thread fit into its buffer: nothing may be dropped.
                    log.Write(record, Start, TimeSpan.FromMilliseconds(1));
                }
            });
        }

        var lines = Encoding.UTF8.GetString(sink.ToArray()).Split('\n', StringSplitOptions.RemoveEmptyEntries);
        Assert.That(lines, Has.Length.EqualTo(800));
        foreach (var line in lines)
        {
            Assert.DoesNotThrow(() => JsonDocument.Parse(line).Dispose(), line);
        }
    }

    [Test]
    public void ASinkThatStallsCostsRecordsAndNeverTime()
    {
        using var release = new ManualResetEventSlim();
        using var entered = new ManualResetEventSlim();
        var sink = new StalledStream(entered, release);
        var log = AccessLog.ToStream(() => sink);
        var record = Record(Head("GET", "/x", "a"));
        log.Write(record, Start, TimeSpan.Zero);
        entered.Wait(TimeSpan.FromSeconds(10));

        const int Written = 20_000;
        for (var i = 0; i < Written; i++)
        {
            log.Write(record, Start, TimeSpan.Zero);
        }

        Assert.That(log.Dropped, Is.GreaterThan(0).And.LessThan(Written), "some waited in the buffer, the rest were dropped while the sink stood still");
        var dropped = log.Dropped;
        release.Set();
        log.Dispose();
        Assert.That(sink.Lines + log.Dropped, Is.EqualTo(Written + 1), "every record was either written or counted as dropped");
        Assert.That(log.Dropped, Is.EqualTo(dropped));
    }

    [Test]
    public void ASinkThatFailsIsCountedAndToldAndUsedAgain()
    {
        var sink = new FailingStream { Fails = true };
        var told = new ManualResetEventSlim();
        using var log = AccessLog.ToStream(() => sink, _ => told.Set());
        var record = Record(Head("GET", "/x", "a"));
        log.Write(record, Start, TimeSpan.Zero);
        Assert.That(told.Wait(TimeSpan.FromSeconds(10)), Is.True);
        Assert.That(log.Dropped, Is.EqualTo(1));
        sink.Fails = false;
        log.Write(record, Start, TimeSpan.Zero);
        log.Dispose();
        Assert.That(Encoding.UTF8.GetString(sink.Written.ToArray()).Trim(), Does.StartWith("{").And.EndWith("}"));
    }

    [Test]
    public void AFileIsOpenedAgainAfterRotation()
    {
        var path = Path.Combine(TestContext.CurrentContext.WorkDirectory, $"access-{Guid.NewGuid():N}.log");
        using var log = AccessLog.ToFile(path);
        var record = Record(Head("GET", "/x", "a"));
        File.Move(path, path + ".1");
        log.Reopen();
        Assert.That(() => File.Exists(path), Is.True.After(10_000, 10));
        log.Write(record, Start, TimeSpan.Zero);
        log.Dispose();
        Assert.That(File.ReadAllLines(path), Has.Length.EqualTo(1));
        Assert.That(new FileInfo(path + ".1").Length, Is.Zero);
    }

    [Test]
    public void WritingARecordAllocatesNothing()
    {
        using var log = AccessLog.ToStream(() => Stream.Null);
        var record = Record(Head("GET", "/payments", "payments"));
        record.Service = "shop/payments";
        for (var i = 0; i < 1000; i++)
        {
            log.Write(record, Start, TimeSpan.Zero);
        }

        var before = GC.GetAllocatedBytesForCurrentThread();
        for (var i = 0; i < 1000; i++)
        {
            log.Write(record, Start, TimeSpan.Zero);
        }

        Assert.That(GC.GetAllocatedBytesForCurrentThread() - before, Is.Zero);
    }

    private static string Format(RequestRecord record)
    {
        var buffer = new byte[AccessLogFormat.MaxLineBytes];
        var length = AccessLogFormat.Write(buffer, record, Start, TimeSpan.FromMicroseconds(1500));
        Assert.That(length, Is.Positive);
        return Encoding.UTF8.GetString(buffer, 0, length);
    }

    private static RequestHead Head(string method, string path, string authority) => Head(method, Encoding.UTF8.GetBytes(path), authority);

    private static RequestHead Head(string method, byte[] path, string authority)
    {
        var head = new RequestHead();
        head.SetMethod(Encoding.ASCII.GetBytes(method));
        head.SetPath(path);
        head.SetAuthority(Encoding.ASCII.GetBytes(authority));
        return head;
    }

    private static RequestRecord Record(RequestHead head)
    {
        var record = new RequestRecord();
        record.Begin(Direction.Inbound, head, new ConnectionInfo
        {
            Source = new IPEndPoint(IPAddress.Parse("::ffff:10.1.2.3"), 4444),
            Local = new IPEndPoint(IPAddress.Loopback, 15006),
            IsTls = true,
            IsMutualTls = true,
            PeerIdentity = "spiffe://mesh.local/ns/shop/sa/checkout",
        }, 0);
        return record;
    }

    private sealed class KeepOpen(MemoryStream inner) : Stream
    {
        public override bool CanRead => false;

        public override bool CanSeek => false;

        public override bool CanWrite => true;

        public override long Length => throw new NotSupportedException();

        public override long Position { get => throw new NotSupportedException(); set => throw new NotSupportedException(); }

        public override void Flush()
        {
        }

        public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();

        public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

        public override void SetLength(long value) => throw new NotSupportedException();

        public override void Write(byte[] buffer, int offset, int count) => inner.Write(buffer, offset, count);
    }

    private sealed class StalledStream(ManualResetEventSlim entered, ManualResetEventSlim release) : MemoryStream
    {
        public int Lines { get; private set; }

        public override void Write(ReadOnlySpan<byte> buffer)
        {
            entered.Set();
            release.Wait();
            Lines += buffer.Count((byte)'\n');
        }
    }

    private sealed class FailingStream : MemoryStream
    {
        public volatile bool Fails;

        public List<byte> Written { get; } = [];

        public override void Write(ReadOnlySpan<byte> buffer)
        {
            if (Fails)
            {
                throw new IOException("No space left on device");
            }

            Written.AddRange(buffer.ToArray());
        }
    }
}
