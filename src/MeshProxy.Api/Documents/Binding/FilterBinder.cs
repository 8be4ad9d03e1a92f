using System.Collections.Immutable;
using MeshProxy.Model.Config;
using MeshProxy.Model.Validation;

namespace MeshProxy.Api.Documents.Binding;

/// <summary>Filters of HTTPRoute and GRPCRoute rules and backends.</summary>
internal static class FilterBinder
{
    private const int MaxFilters = 16;
    private const int MaxFields = 16;

    private static readonly (string Type, string Field)[] Known =
    [
        ("RequestHeaderModifier", "requestHeaderModifier"),
        ("ResponseHeaderModifier", "responseHeaderModifier"),
        ("RequestRedirect", "requestRedirect"),
        ("URLRewrite", "urlRewrite"),
    ];

    private static readonly (string Type, string Field, string Message)[] Unimplemented =
    [
        ("RequestMirror", "requestMirror", "mirroring is not implemented yet: remove the filter"),
        ("CORS", "cors", "CORS is not implemented yet: answer it in the application"),
        ("ExternalAuth", "externalAuth", "external authorization is not implemented: remove the filter"),
        ("ExtensionRef", "extensionRef", "filters of other groups are not implemented: remove the filter"),
    ];

    public static ImmutableArray<HttpFilterConfig> Filters(Fields owner, bool isHttp)
    {
        var filters = ImmutableArray.CreateBuilder<HttpFilterConfig>();
        var types = new HashSet<string>();
        foreach (var fields in owner.Maps("filters", MaxFilters))
        {
            var type = fields.RequiredText("type", "write RequestHeaderModifier, ResponseHeaderModifier, RequestRedirect or URLRewrite");
            if (type is not null && !types.Add(type))
            {
                fields.Fail("type", $"{type} may stand only once in a list of filters: put both into one");
            }

            if (type is not null && Read(fields, type, isHttp) is { } filter)
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

    private static HttpFilterConfig? Read(Fields fields, string type, bool isHttp)
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

        if (!isHttp && type is "RequestRedirect" or "URLRewrite")
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
