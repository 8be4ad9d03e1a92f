using MeshProxy.DataPlane.Routing;
using MeshProxy.Http;
using MeshProxy.Http.Fields;

namespace MeshProxy.DataPlane.Forwarding;

/// <summary>The CORS policy of an exchange and who asked: kept before filters change the request, because the response depends on both. Part of its forwarder,
/// never copied.</summary>
internal struct CorsAsked()
{
    private byte[] _origin = [];
    private int _length;

    /// <summary>The policy, when the rule has one.</summary>
    public CorsPolicy? Policy { get; private set; }

    /// <summary>The request's Origin.</summary>
    public readonly ReadOnlyMemory<byte> Origin => _origin.AsMemory(0, _length);

    public void Begin(CorsPolicy? policy, RequestHead request)
    {
        Policy = policy;
        _length = 0;
        if (policy is not null && request.Fields.TryGet(KnownField.Origin, out var origin))
        {
            if (_origin.Length < origin.Length)
            {
                _origin = new byte[origin.Length];
            }

            origin.CopyTo(_origin);
            _length = origin.Length;
        }
    }

    /// <summary>Makes the policy the only word in a response.</summary>
    public readonly void Apply(FieldMap response) => Policy?.Apply(_origin.AsSpan(0, _length), response);

    public void End() => Policy = null;
}
