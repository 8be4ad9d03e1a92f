using BenchmarkDotNet.Attributes;
using MeshProxy.Http;
using MeshProxy.Http.Fields;

namespace MeshProxy.Microbenchmarks;

/// <summary>Filling and reading the fields of a typical request: what every codec and the forwarder do for each message.</summary>
[MemoryDiagnoser]
public class FieldMapBenchmarks
{
    private readonly RequestHead _head = new();
    private readonly FieldMap _copy = new();

    [GlobalSetup]
    public void Setup() => Fill();

    [Benchmark]
    [AllocationBudget(0)]
    public int Fill()
    {
        _head.Clear();
        _head.SetMethod("POST"u8);
        _head.SetScheme("http"u8);
        _head.SetAuthority("payments.shop"u8);
        _head.SetPath("/v1/payments?trace=1"u8);
        var fields = _head.Fields;
        fields.Add("User-Agent"u8, "checkout/1.4"u8);
        fields.Add("Accept"u8, "application/json"u8);
        fields.Add("Accept-Encoding"u8, "gzip, br"u8);
        fields.Add("Content-Type"u8, "application/json"u8);
        fields.Add("Content-Length"u8, "87"u8);
        fields.Add("Authorization"u8, "Bearer eyJhbGciOiJFUzI1NiJ9.e30.c2lnbmF0dXJl"u8);
        fields.Add("traceparent"u8, "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"u8);
        fields.Add("X-Request-Id"u8, "3b2c7a52-6d0e-4f7b-9e3a-2f1f6a3c9d11"u8);
        fields.Add("X-Tenant"u8, "blue"u8);
        return fields.Count;
    }

    [Benchmark]
    [AllocationBudget(0)]
    public int FindKnownAndOther()
    {
        var fields = _head.Fields;
        var length = 0;
        length += fields.TryGet(KnownField.TraceParent, out var trace) ? trace.Length : 0;
        length += fields.TryGet(KnownField.XRequestTimeout, out var timeout) ? timeout.Length : 0;
        length += fields.TryGet("x-tenant"u8, out var tenant) ? tenant.Length : 0;
        return length;
    }

    [Benchmark]
    [AllocationBudget(0)]
    public int CopyForAnAttempt()
    {
        _copy.Clear();
        _copy.AddAll(_head.Fields);
        HopByHopFields.Remove(_copy);
        return _copy.Count;
    }
}
