using MeshProxy.Http.Fields;

namespace MeshProxy.DataPlane.Policy;

/// <summary>
/// Removes fields that only proxies of the mesh may set: everything that begins with "x-meshproxy-", and x-forwarded-client-cert. No proxy tells another
/// anything in a request's fields, so that they are removed wherever a request or a trailer section passes, in both directions; of responses only the failure
/// of an authenticated mesh peer is read, before this. An underscore is taken for a hyphen, as CGI and its like take it.
/// </summary>
internal static class EdgeFields
{
    public static void Remove(FieldMap fields)
    {
        fields.Remove(KnownField.MeshFailure);
        fields.Remove(KnownField.XForwardedClientCert);
        for (var i = fields.Count - 1; i >= 0; i--)
        {
            var line = fields[i];
            if (line.Known == KnownField.Other && line.Name[0] == (byte)'x'
                && (FieldNames.StartsWith(line.Name, "x-meshproxy-"u8) || FieldNames.AreEqual(line.Name, "x-forwarded-client-cert"u8)))
            {
                fields.RemoveAt(i);
            }
        }
    }
}
