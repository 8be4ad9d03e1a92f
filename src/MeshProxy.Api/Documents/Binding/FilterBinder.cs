using System.Collections.Immutable;
using MeshProxy.Model.Config;
using MeshProxy.Model.Validation;

namespace MeshProxy.Api.Documents.Binding;

/// <summary>Filters of HTTPRoute and GRPCRoute rules and backends.</summary>
internal static class FilterBinder
{
    private const int MaxFilters = 16;
    private const int MaxFields = 16;
    private const int MaxListed = 64;
    private const int MaxListedMethods = 9;

    private static readonly (string Type, string Field)[] Known =
    [
        ("RequestHeaderModifier", "requestHeaderModifier"),
        ("ResponseHeaderModifier", "responseHeaderModifier"),
        ("RequestRedirect", "requestRedirect"),
        ("URLRewrite", "urlRewrite"),
        ("RequestMirror", "requestMirror"),
        ("CORS", "cors"),
    ];

    private static readonly (string Type, string Field, string Message)[] Unimplemented =
    [
        ("ExternalAuth", "externalAuth", "external authorization is not implemented: remove the filter"),
        ("ExtensionRef", "extensionRef", "filters of other groups are not implemented: remove the filter"),
    ];

    public static ImmutableArray<HttpFilterConfig> Filters(Fields owner, Metadata metadata, bool isHttp)
    {
        var filters = ImmutableArray.CreateBuilder<HttpFilterConfig>();
        var types = new HashSet<string>();
        foreach (var fields in owner.Maps("filters", MaxFilters))
        {
            var type = fields.RequiredText("type", "write RequestHeaderModifier, ResponseHeaderModifier, RequestRedirect, URLRewrite, RequestMirror or CORS");
            if (type is not null and not "RequestMirror" && !types.Add(type))
            {
                fields.Fail("type", $"{type} may stand only once in a list of filters: put both into one");
            }

            if (type is not null && Read(fields, type, metadata, isHttp) is { } filter)
            {
                filters.Add(filter);
            }

            foreach (var (otherType, field) in Known)
            {
                if (type is not null && otherType != type && fields.Has(field))
                {
                    fields.Fail(field, $"does not belong to a filter of type {type}: remove it, or change the type to {otherType}");
                }
            }

            fields.Ignore([.. Known.Select(known => known.Field), .. Unimplemented.Select(known => known.Field)]);
            fields.Close();
        }

        if (filters.OfType<RedirectConfig>().Any() && filters.OfType<UrlRewriteConfig>().Any())
        {
            owner.Fail("filters", "RequestRedirect and URLRewrite exclude each other: keep one");
        }

        return filters.DrainToImmutable();
    }

    private static HttpFilterConfig? Read(Fields fields, string type, Metadata metadata, bool isHttp)
    {
        foreach (var (name, field, message) in Unimplemented)
        {
            if (type == name)
            {
                fields.Scope.NotImplemented(fields.Node, fields.Path, message);
                fields.Take(field);
                return null;
            }
        }

        if (!isHttp && type is "RequestRedirect" or "URLRewrite" or "CORS")
        {
            fields.Fail("type", $"{type} is no filter of a GRPCRoute: use an HTTPRoute");
            return null;
        }

        foreach (var (name, field) in Known)
        {
            if (type != name)
            {
                continue;
            }

            var body = fields.RequiredMap(field, $"a filter of type {type} needs it");
            return body is null ? null : type switch
            {
                "RequestHeaderModifier" => Modifier(body, onResponse: false),
                "ResponseHeaderModifier" => Modifier(body, onResponse: true),
                "RequestRedirect" => Redirect(body),
                "RequestMirror" => Mirror(body, metadata),
                "CORS" => Cors(body),
                _ => Rewrite(body),
            };
        }

        fields.Fail("type", $"'{type}' is not known: use {string.Join(", ", Known.Select(known => known.Type))}");
        return null;
    }

    private static HeaderModifierConfig Modifier(Fields fields, bool onResponse)
    {
        var seen = new HashSet<string>();
        var modifier = new HeaderModifierConfig(
            onResponse,
            Values(fields, "set", seen),
            Values(fields, "add", seen),
            [.. fields.Texts("remove", MaxFields, HttpRules.CheckChangeableFieldName).Select(name => name.ToLowerInvariant())]);
        foreach (var name in modifier.Remove)
        {
            if (!seen.Add(name))
            {
                fields.Fail("remove", $"'{name}' is named twice in this filter: a filter may do one thing with a header");
            }
        }

        fields.Close();
        return modifier;
    }

    private static ImmutableArray<KeyValuePair<string, string>> Values(Fields fields, string list, HashSet<string> seen)
    {
        var values = ImmutableArray.CreateBuilder<KeyValuePair<string, string>>();
        foreach (var item in fields.Maps(list, MaxFields))
        {
            var name = item.RequiredText("name", "name the header", HttpRules.CheckChangeableFieldName)?.ToLowerInvariant();
            var value = item.RequiredText("value", "write the value", HttpRules.CheckFieldValue);
            item.Close();
            if (name is null || value is null)
            {
                continue;
            }

            if (seen.Add(name))
            {
                values.Add(new(name, value));
            }
            else
            {
                item.Fail("name", $"'{name}' is named twice in this filter: a filter may do one thing with a header");
            }
        }

        return values.DrainToImmutable();
    }

    private static RedirectConfig Redirect(Fields fields)
    {
        var scheme = fields.Choice("scheme", "http", "https");
        var hostname = fields.Text("hostname", CheckPreciseHostname);
        var path = Path(fields);
        var port = fields.Number("port", 1, 65535);
        var status = fields.Number("statusCode", 100, 599) ?? 302;
        if (status is not (301 or 302 or 303 or 307 or 308))
        {
            fields.Fail("statusCode", $"{status} is no redirect: use 301, 302, 303, 307 or 308");
        }

        fields.Close();
        return new RedirectConfig(scheme, hostname, path, port, status);
    }

    private static UrlRewriteConfig Rewrite(Fields fields)
    {
        var rewrite = new UrlRewriteConfig(fields.Text("hostname", CheckPreciseHostname), Path(fields));
        if (!fields.Has("hostname") && !fields.Has("path"))
        {
            fields.Fail("path", "is missing: a rewrite needs hostname or path");
        }

        fields.Close();
        return rewrite;
    }

    private static MirrorRef? Mirror(Fields fields, Metadata metadata)
    {
        BackendRef? backend = null;
        if (fields.RequiredMap("backendRef", "name the Service that gets the copies") is { } reference)
        {
            backend = BackendBinder.Reference(reference, metadata);
            reference.Close();
        }

        var percent = fields.Number("percent", 0, 100);
        var (numerator, denominator) = (percent ?? 100, 100);
        if (fields.Map("fraction") is { } fraction)
        {
            numerator = fraction.RequiredNumber("numerator", 0, int.MaxValue, "write how many of the requests") ?? 0;
            denominator = fraction.Number("denominator", 1, int.MaxValue) ?? 100;
            if (numerator > denominator)
            {
                fraction.Fail("numerator", $"{numerator} of {denominator} is more than all: make it smaller");
            }

            if (percent is not null)
            {
                fields.Fail("fraction", "percent and fraction exclude each other: keep one");
            }

            fraction.Close();
        }

        fields.Close();
        return backend is null ? null : new MirrorRef(backend, numerator, denominator);
    }

    private static CorsConfig Cors(Fields fields)
    {
        var cors = new CorsConfig(
            Alone(fields, "allowOrigins", MaxListed, HttpRules.CheckOrigin),
            fields.Flag("allowCredentials") ?? false,
            Alone(fields, "allowMethods", MaxListedMethods, text => text == "*" ? null : HttpRules.CheckMethod(text)),
            Alone(fields, "allowHeaders", MaxListed, HttpRules.CheckFieldName),
            fields.Texts("exposeHeaders", MaxListed, HttpRules.CheckFieldName),
            fields.Number("maxAge", 1, int.MaxValue) ?? 5);
        fields.Close();
        return cors;
    }

    private static ImmutableArray<string> Alone(Fields fields, string list, int max, Func<string, string?> check)
    {
        var texts = fields.Texts(list, max, check);
        if (texts.Length > 1 && texts.Contains("*"))
        {
            fields.Fail(list, "'*' stands for everything: write it alone");
        }

        return texts;
    }

    private static PathRewriteConfig? Path(Fields owner)
    {
        if (owner.Map("path") is not { } fields)
        {
            return null;
        }

        var type = fields.Choice("type", "ReplaceFullPath", "ReplacePrefixMatch");
        if (type is null && !fields.Has("type"))
        {
            fields.Fail("type", "is missing: write ReplaceFullPath or ReplacePrefixMatch");
        }

        var full = fields.Text("replaceFullPath", HttpRules.CheckPath);
        var prefix = fields.Text("replacePrefixMatch", text => text.Length == 0 ? null : HttpRules.CheckPath(text));
        fields.Close();
        switch (type)
        {
            case "ReplaceFullPath" when fields.Has("replacePrefixMatch"):
                fields.Fail("replacePrefixMatch", "does not belong to type ReplaceFullPath: remove it, or change the type");
                return null;
            case "ReplacePrefixMatch" when fields.Has("replaceFullPath"):
                fields.Fail("replaceFullPath", "does not belong to type ReplacePrefixMatch: remove it, or change the type");
                return null;
            case "ReplaceFullPath" when !fields.Has("replaceFullPath"):
                fields.Fail("replaceFullPath", "is missing: write the new path");
                return null;
            case "ReplacePrefixMatch" when !fields.Has("replacePrefixMatch"):
                fields.Fail("replacePrefixMatch", "is missing: write what takes the matched prefix's place");
                return null;
            case "ReplaceFullPath":
                return full is null ? null : new PathRewriteConfig(false, full);
            case "ReplacePrefixMatch":
                return prefix is null ? null : new PathRewriteConfig(true, prefix);
            default:
                return null;
        }
    }

    private static string? CheckPreciseHostname(string text) => text.StartsWith('*') ? $"'{text}' has a wildcard: write one hostname" : NameRules.CheckHostname(text);
}
