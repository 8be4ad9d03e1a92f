using MeshProxy.Http.Fields;

namespace MeshProxy.DataPlane.Policy;

/// <summary>
/// Trailer sections: whoever merges them into the fields must not be told there what the fields were not allowed to say. Removes what frames, routes,
/// authenticates or describes the message (RFC 9110 section 6.5.1), what belongs to one hop, what speaks for the mesh, and what tells where a request came from.
/// </summary>
internal static class TrailerFields
{
    private static readonly KnownField[] s_forbidden =
    [
        KnownField.Host, KnownField.ContentLength, KnownField.Te, KnownField.Trailer, KnownField.Expect, KnownField.Authorization, KnownField.Cookie, KnownField.SetCookie,
        KnownField.ContentType, KnownField.ContentEncoding, KnownField.Range, KnownField.CacheControl, KnownField.Via, KnownField.GrpcTimeout, KnownField.XRequestTimeout,
    ];

    public static void Remove(FieldMap trailers)
    {
        if (trailers.Count == 0)
        {
            return;
        }

        HopByHopFields.Remove(trailers);
        foreach (var field in s_forbidden)
        {
            trailers.Remove(field);
        }

        EdgeFields.Remove(trailers);
        ForwardedFields.RemoveAll(trailers);
    }
}
