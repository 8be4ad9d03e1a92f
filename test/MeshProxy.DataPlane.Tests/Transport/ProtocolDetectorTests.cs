using System.Buffers;
using System.IO.Pipelines;
using System.Text;
using MeshProxy.DataPlane.Transport;

namespace MeshProxy.DataPlane.Tests.Transport;

internal sealed class ProtocolDetectorTests
{
    private static readonly object[][] Cases =
    [
        ["GET / HTTP/1.1\r\n", DetectedProtocol.Http1],
        ["OPTIONS * HTTP/1.1\r\n", DetectedProtocol.Http1],
        ["CONNECT db:5432 HTTP/1.1\r\n", DetectedProtocol.Http1],
        ["UPDATEREDIRECTREF /x HTTP/1.1\r\n", DetectedProtocol.Http1],
        ["\r\nGET / HTTP/1.1\r\n", DetectedProtocol.Http1],
        ["PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\u0004", DetectedProtocol.Http2],
        ["PROPFIND /x HTTP/1.1\r\n", DetectedProtocol.Http1],
        ["\u0016\u0003\u0001\u0002\0\u0001\0\u0001", DetectedProtocol.Tls],
        ["\u0016\u0003\u0009\u0002\0\u0001\0\u0001", DetectedProtocol.Opaque],
        ["\u0016hello", DetectedProtocol.Opaque],
        ["\0\0\0\u0008\u0004\u00d2\u0016\u002f", DetectedProtocol.Opaque],
        ["EHLO mail.example\r\n", DetectedProtocol.Http1],
        ["*1\r\n$4\r\nPING\r\n", DetectedProtocol.Opaque],
        ["GET\t/ HTTP/1.1\r\n", DetectedProtocol.Opaque],
        ["ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEF", DetectedProtocol.Opaque],
        ["get / HTTP/1.1\r\n", DetectedProtocol.Opaque],
    ];

    [TestCaseSource(nameof(Cases))]
    public void Whole_and_byte_by_byte_agree(string text, object expected)
    {
        var bytes = Encoding.Latin1.GetBytes(text);
        Assert.That(ProtocolDetector.Judge(new ReadOnlySequence<byte>(bytes)), Is.EqualTo(expected));
        for (var length = 0; length <= bytes.Length; length++)
        {
            Assert.That(ProtocolDetector.Judge(new ReadOnlySequence<byte>(bytes, 0, length)), Is.Null.Or.EqualTo(expected), $"after {length} bytes");
        }
    }

    [Test]
    public async Task The_bytes_stay_in_the_reader()
    {
        var pipe = new Pipe();
        var detecting = ProtocolDetector.DetectAsync(pipe.Reader, TimeSpan.FromSeconds(20), TimeProvider.System).AsTask();
        foreach (var octet in "GET / HTTP/1.1\r\n"u8.ToArray())
        {
            await pipe.Writer.WriteAsync(new[] { octet });
        }

        Assert.That(await detecting.WaitAsync(Pipes.Patience), Is.EqualTo(DetectedProtocol.Http1));
        Assert.That(await pipe.Reader.ReadExactlyAsync(16), Is.EqualTo("GET / HTTP/1.1\r\n"u8.ToArray()));
    }

    [TestCase("")]
    [TestCase("GE")]
    public async Task Silence_is_opaque_after_the_time_given(string start)
    {
        var pipe = new Pipe();
        await pipe.Writer.WriteAsync(Encoding.ASCII.GetBytes(start));
        var detected = await ProtocolDetector.DetectAsync(pipe.Reader, TimeSpan.FromMilliseconds(20), TimeProvider.System).AsTask().WaitAsync(Pipes.Patience);
        Assert.That(detected, Is.EqualTo(DetectedProtocol.Opaque));
        await pipe.Writer.WriteAsync("T"u8.ToArray());
        Assert.That(await pipe.Reader.ReadExactlyAsync(start.Length + 1), Is.EqualTo(Encoding.ASCII.GetBytes(start + "T")));
    }

    [Test]
    public async Task An_early_end_is_opaque()
    {
        var pipe = new Pipe();
        await pipe.Writer.WriteAsync("GE"u8.ToArray());
        await pipe.Writer.CompleteAsync();
        Assert.That(await ProtocolDetector.DetectAsync(pipe.Reader, TimeSpan.FromSeconds(20), TimeProvider.System), Is.EqualTo(DetectedProtocol.Opaque));
    }
}
