using System.Buffers;
using BenchmarkDotNet.Attributes;
using MeshProxy.Http;
using MeshProxy.Http.Http1;

namespace MeshProxy.Microbenchmarks;

/// <summary>One HTTP/1.1 request head, whole in one read and cut by a block's end.</summary>
[MemoryDiagnoser]
public class Http1ParseBenchmarks
{
    private readonly RequestParser _parser;
    private ReadOnlySequence<byte> _whole;
    private ReadOnlySequence<byte> _cut;

    public Http1ParseBenchmarks() => _parser = new RequestParser(new RequestHead(), "http"u8.ToArray(), Http1Limits.Default);

    [GlobalSetup]
    public void Setup()
    {
        var bytes = ("POST /v1/payments?trace=1 HTTP/1.1\r\nHost: payments.shop\r\nUser-Agent: checkout/1.4\r\nAccept: application/json\r\n"
            + "Accept-Encoding: gzip, br\r\nContent-Type: application/json\r\nContent-Length: 87\r\n"
            + "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\nX-Request-Id: 3b2c7a52-6d0e-4f7b-9e3a-2f1f6a3c9d11\r\n"
            + "X-Tenant: blue\r\n\r\n").Select(c => (byte)c).ToArray();
        _whole = new ReadOnlySequence<byte>(bytes);
        var first = new Block(bytes.AsMemory(0, bytes.Length / 2), null);
        var second = new Block(bytes.AsMemory(bytes.Length / 2), first);
        _cut = new ReadOnlySequence<byte>(first, 0, second, second.Memory.Length);
    }

    [Benchmark]
    [AllocationBudget(0)]
    public int WholeHead() => Parse(in _whole);

    [Benchmark]
    [AllocationBudget(0)]
    public int HeadAcrossBlocks() => Parse(in _cut);

    private int Parse(in ReadOnlySequence<byte> input)
    {
        _parser.Reset();
        return _parser.Parse(in input, out _) == Http1ParseStatus.Done ? 1 : throw new InvalidOperationException("The head was not parsed.");
    }

    private sealed class Block : ReadOnlySequenceSegment<byte>
    {
        internal Block(ReadOnlyMemory<byte> memory, Block? before)
        {
            Memory = memory;
            if (before is not null)
            {
                before.Next = this;
                RunningIndex = before.RunningIndex + before.Memory.Length;
            }
        }
    }
}
