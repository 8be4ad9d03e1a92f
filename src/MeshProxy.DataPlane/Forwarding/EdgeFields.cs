using MeshProxy.Http.Fields;

namespace MeshProxy.DataPlane.Forwarding;

/// <summary>Removes fields that only proxies of the mesh may set: everything that begins with "x-meshproxy-", and x-forwarded-client-cert.</summary>
internal static class EdgeFields
{
    public static void Remove(FieldMap fields)
    {
        fields.Remove(KnownField.MeshFailure);
        fields.Remove(KnownField.XForwardedClientCert);
        for (var i = fields.Count - 1; i >= 0; i--)
        {
            var line = fields[i];
            if (line.Known == KnownField.Other && line.Name.StartsWith("x-meshproxy-"u8))
            {
                fields.RemoveAt(i);
            }
        }
    }
}
