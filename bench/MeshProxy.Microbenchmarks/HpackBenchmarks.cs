using BenchmarkDotNet.Attributes;
using MeshProxy.Http;
using MeshProxy.Http.Http2.Hpack;

namespace MeshProxy.Microbenchmarks;

/// <summary>One request's field block, as it is from the second request of a connection on: most lines are in the dynamic table, some are new each time.</summary>
[MemoryDiagnoser]
public class HpackBenchmarks
{
    private const int TableBytes = 4096;
    private readonly HpackEncoder _encoder = new(TableBytes);
    private readonly HpackDecoder _decoder = new(TableBytes);
    private readonly CountingSink _sink = new();
    private readonly RequestHead _head = new();
    private readonly byte[] _target = new byte[4096];
    private byte[] _block = [];

    [GlobalSetup]
    public void Setup()
    {
        _head.Clear();
        _head.SetMethod("POST"u8);
        _head.SetScheme("http"u8);
        _head.SetAuthority("payments.shop"u8);
        _head.SetPath("/v1/payments"u8);
        _head.Fields.Add("user-agent"u8, "checkout/1.4"u8);
        _head.Fields.Add("accept"u8, "application/json"u8);
        _head.Fields.Add("content-type"u8, "application/json"u8);
        _head.Fields.Add("content-length"u8, "87"u8);
        _head.Fields.Add("traceparent"u8, "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"u8);
        _head.Fields.Add("x-request-id"u8, "3b2c7a52-6d0e-4f7b-9e3a-2f1f6a3c9d11"u8);
        // The first block fills both tables; the second is what a connection in use carries. It is decoded again and again, so it must not add lines.
        for (var i = 0; i < 2; i++)
        {
            _block = _target.AsSpan(0, EncodeRequest()).ToArray();
            DecodeRequest();
        }
    }

    [Benchmark]
    [AllocationBudget(0)]
    public int EncodeRequest() => _encoder.EncodeRequest(_head, _target);

    [Benchmark]
    [AllocationBudget(0)]
    public int DecodeRequest() =>
        _decoder.Decode(_block, _sink) == HpackVerdict.Ok ? _sink.Lines : throw new InvalidOperationException("The block was not decoded.");

    private sealed class CountingSink : IFieldLineSink
    {
        internal int Lines { get; private set; }

        public bool OnFieldLine(HpackName name, ReadOnlySpan<byte> nameBytes, ReadOnlySpan<byte> value, bool neverIndexed)
        {
            Lines++;
            return true;
        }
    }
}
