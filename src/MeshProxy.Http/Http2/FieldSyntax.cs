using System.Buffers;
using System.Text;

namespace MeshProxy.Http.Http2;

/// <summary>Which bytes may stand where (RFC 9110 section 5, RFC 3986), on whole values.</summary>
internal static class FieldSyntax
{
    private static readonly SearchValues<byte> s_token =
        SearchValues.Create("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"u8);

    private static readonly SearchValues<byte> s_lowerCaseToken = SearchValues.Create("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"u8);

    private static readonly SearchValues<byte> s_scheme = SearchValues.Create("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ+-."u8);

    // Everything below the space but HTAB, and DEL.
    private static readonly SearchValues<byte> s_controls = SearchValues.Create(
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 127]);

    private static readonly SearchValues<byte> s_notInPath = SearchValues.Create(
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 35, 127]);

    public static bool IsToken(ReadOnlySpan<byte> value) => !value.IsEmpty && !value.ContainsAnyExcept(s_token);

    public static bool IsLowerCaseToken(ReadOnlySpan<byte> value) => !value.IsEmpty && !value.ContainsAnyExcept(s_lowerCaseToken);

    public static bool IsScheme(ReadOnlySpan<byte> value) => !value.IsEmpty && !value.ContainsAnyExcept(s_scheme);

    /// <summary>"/..." or "*"; no white space, controls, fragment, or what is not ASCII.</summary>
    public static bool IsPath(ReadOnlySpan<byte> value) =>
        !value.IsEmpty && (value[0] == (byte)'/' || (value.Length == 1 && value[0] == (byte)'*')) && !value.ContainsAny(s_notInPath) && Ascii.IsValid(value);

    public static bool HasControls(ReadOnlySpan<byte> value) => value.ContainsAny(s_controls);
}
