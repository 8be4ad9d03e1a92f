using MeshProxy.Http.Http1;
using MeshProxy.Http.Http2;

namespace MeshProxy.DataPlane.Policy;

/// <summary>What the codecs of one listener's connections are made with.</summary>
internal sealed record ServerCodecOptions(Http1ServerOptions Http, Http1ServerOptions Https, Http2Options Http2);
