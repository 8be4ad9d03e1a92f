using MeshProxy.Http;
using MeshProxy.Http.Fields;

namespace MeshProxy.DataPlane.Policy;

/// <summary>Via (RFC 9110 section 7.6.3): the version in which a message was received, and our pseudonym instead of an address.</summary>
internal static class ViaField
{
    public static void Add(FieldMap fields, HttpProtocolVersion received) => fields.Add(KnownField.Via, received switch
    {
        HttpProtocolVersion.Http2 => "2 meshproxy"u8,
        HttpProtocolVersion.Http11 => "1.1 meshproxy"u8,
        _ => "1.0 meshproxy"u8,
    });
}
