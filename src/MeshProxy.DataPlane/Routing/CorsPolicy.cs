using System.Globalization;
using System.Text;
using MeshProxy.Http;
using MeshProxy.Http.Fields;
using MeshProxy.Model.Config;

namespace MeshProxy.DataPlane.Routing;

/// <summary>
/// A CORS filter, compiled (Gateway API HTTPCORSFilter; Fetch section 3.3). Preflights are answered here, with 204 in any case: what an origin may do stands
/// in the fields, and one that may do nothing gets none. On other responses the policy is the only word: what the application says of it is removed.
/// </summary>
internal sealed class CorsPolicy
{
    private readonly Origin[] _origins;
    private readonly bool _allowsAnyOrigin;
    private readonly bool _allowsCredentials;
    private readonly byte[]? _methods;
    private readonly byte[]? _headers;
    private readonly byte[]? _exposed;
    private readonly byte[] _maxAge;

    public CorsPolicy(CorsConfig config)
    {
        _origins = [.. config.AllowOrigins.Where(origin => origin != "*").Select(Origin.Parse)];
        _allowsAnyOrigin = config.AllowOrigins.Contains("*");
        _allowsCredentials = config.AllowCredentials;
        _methods = Join(config.AllowMethods);
        _headers = Join(config.AllowHeaders);
        _exposed = Join(config.AllowCredentials ? config.ExposeHeaders.Remove("*") : config.ExposeHeaders);
        _maxAge = Encoding.ASCII.GetBytes(config.MaxAge.ToString(CultureInfo.InvariantCulture));
    }

    // "*" is what nobody's cookies go to, so only then it need not be known who asks.
    private bool TellsOriginsApart => !_allowsAnyOrigin || _allowsCredentials;

    /// <summary>Whether a browser asks if it may send another request (Fetch section 3.3.2).</summary>
    public static bool IsPreflight(RequestHead request) =>
        request.Method == RequestMethod.Options && request.Fields.Contains(KnownField.Origin) && request.Fields.Contains(KnownField.AccessControlRequestMethod);

    /// <summary>Whether requests from that origin may be made from scripts.</summary>
    public bool Allows(ReadOnlySpan<byte> origin)
    {
        if (_allowsAnyOrigin)
        {
            // "null" is every sandboxed document there is: nobody means it with credentials.
            return !_allowsCredentials || !origin.SequenceEqual("null"u8);
        }

        foreach (var allowed in _origins)
        {
            if (allowed.Matches(origin))
            {
                return true;
            }
        }

        return false;
    }

    /// <summary>Fills the answer to a preflight.</summary>
    public void Answer(RequestHead request, ResponseHead answer)
    {
        answer.Clear();
        answer.Status = 204;
        answer.EndsStream = true;
        var fields = answer.Fields;
        request.Fields.TryGet(KnownField.Origin, out var origin);
        if (Allows(origin))
        {
            AddOrigin(origin, fields);
            request.Fields.TryGet(KnownField.AccessControlRequestMethod, out var method);
            AddList("access-control-allow-methods"u8, _methods, method, fields);
            using var headers = RequestValue.OfField(request, "access-control-request-headers"u8);
            AddList("access-control-allow-headers"u8, _headers, headers.Bytes, fields);
            fields.Add("access-control-max-age"u8, _maxAge);
        }

        fields.Add(KnownField.Vary, "origin, access-control-request-method, access-control-request-headers"u8);
    }

    /// <summary>Says on a response what its reader may do with it.</summary>
    /// <param name="origin">Who asked; empty: no browser, or its own site.</param>
    /// <param name="response">The response's fields.</param>
    public void Apply(ReadOnlySpan<byte> origin, FieldMap response)
    {
        response.Remove("access-control-allow-origin"u8);
        response.Remove("access-control-allow-credentials"u8);
        response.Remove("access-control-expose-headers"u8);
        if (!origin.IsEmpty && Allows(origin))
        {
            AddOrigin(origin, response);
            if (_exposed is not null)
            {
                response.Add("access-control-expose-headers"u8, _exposed);
            }
        }

        if (TellsOriginsApart)
        {
            // A cache must not give one origin's answer to another.
            response.Add(KnownField.Vary, "origin"u8);
        }
    }

    private void AddOrigin(ReadOnlySpan<byte> origin, FieldMap fields)
    {
        fields.Add("access-control-allow-origin"u8, TellsOriginsApart ? origin : "*"u8);
        if (_allowsCredentials)
        {
            fields.Add("access-control-allow-credentials"u8, "true"u8);
        }
    }

    // With credentials "*" means nothing to browsers: what was asked for is named.
    private void AddList(ReadOnlySpan<byte> name, byte[]? allowed, ReadOnlySpan<byte> asked, FieldMap fields)
    {
        if (allowed is null)
        {
            return;
        }

        var value = _allowsCredentials && allowed is [(byte)'*'] ? asked : allowed;
        if (!value.IsEmpty)
        {
            fields.Add(name, value);
        }
    }

    private static byte[]? Join(IReadOnlyCollection<string> values) => values.Count == 0 ? null : Encoding.ASCII.GetBytes(string.Join(", ", values));

    /// <summary>One origin: scheme, host (with "*" for any number of characters at its beginning) and port, where 80 and 443 need not be written.</summary>
    private sealed record Origin(byte[] Scheme, byte[] Host, bool IsWildcard, int Port)
    {
        public static Origin Parse(string text)
        {
            Split(Encoding.ASCII.GetBytes(text), out var scheme, out var host, out var port);
            var isWildcard = host is [(byte)'*', ..];
            return new Origin(scheme.ToArray(), (isWildcard ? host[1..] : host).ToArray(), isWildcard, port);
        }

        public bool Matches(ReadOnlySpan<byte> origin) =>
            Split(origin, out var scheme, out var host, out var port)
            && port == Port
            && Ascii.EqualsIgnoreCase(scheme, Scheme)
            && (IsWildcard ? host.Length > Host.Length && Ascii.EqualsIgnoreCase(host[^Host.Length..], Host) : Ascii.EqualsIgnoreCase(host, Host));

        private static bool Split(ReadOnlySpan<byte> origin, out ReadOnlySpan<byte> scheme, out ReadOnlySpan<byte> host, out int port)
        {
            var colon = origin.IndexOf("://"u8);
            scheme = colon < 0 ? default : origin[..colon];
            var authority = colon < 0 ? default : origin[(colon + 3)..];
            host = Authorities.WithoutPort(authority);
            port = Authorities.PortOf(authority);
            if (port == 0)
            {
                port = Ascii.EqualsIgnoreCase(scheme, "https"u8) ? 443 : 80;
            }

            return !host.IsEmpty;
        }
    }
}
