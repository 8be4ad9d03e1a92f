using System.Collections.Immutable;
using MeshProxy.Model.Config;
using MeshProxy.Model.Validation;

namespace MeshProxy.Api.Documents.Binding;

/// <summary>HTTPRoute, GRPCRoute, TCPRoute, TLSRoute.</summary>
internal static class RouteBinder
{
    // Gateway API's own bounds.
    private const int MaxParents = 32;
    private const int MaxHostnames = 16;
    private const int MaxServerNames = 1024;
    private const int MaxRules = 16;
    private const int MaxMatches = 64;
    private const int MaxMatchesOfRoute = 128;
    private const int MaxBackends = 16;
    private const int MaxValueMatches = 16;
    private const int MaxWeight = 1_000_000;

    private static readonly GrpcMatchConfig AnyGrpcMethod = new(null, null, false);

    public static RouteDocument? HttpRoute(Fields root, Metadata metadata)
    {
        if (Spec(root) is not { } spec)
        {
            return null;
        }

        var rules = Rules(spec, metadata, HttpRule);
        var document = new HttpRouteDocument
        {
            ApiVersion = metadata.ApiVersion,
            Name = metadata.Name,
            ParentRefs = Parents(spec, metadata),
            Hostnames = Hostnames(spec),
            Rules = rules,
        };
        CheckRules(spec, document.Rules);
        spec.Close();
        return document;
    }

    public static RouteDocument? GrpcRoute(Fields root, Metadata metadata)
    {
        if (Spec(root) is not { } spec)
        {
            return null;
        }

        var rules = Rules(spec, metadata, GrpcRule);
        var document = new GrpcRouteDocument
        {
            ApiVersion = metadata.ApiVersion,
            Name = metadata.Name,
            ParentRefs = Parents(spec, metadata),
            Hostnames = Hostnames(spec),
            Rules = rules,
        };
        CheckRules(spec, document.Rules);
        spec.Close();
        return document;
    }

    public static RouteDocument? TcpRoute(Fields root, Metadata metadata)
    {
        if (Spec(root) is not { } spec)
        {
            return null;
        }

        var document = new TcpRouteDocument
        {
            ApiVersion = metadata.ApiVersion,
            Name = metadata.Name,
            ParentRefs = Parents(spec, metadata),
            Rules = OpaqueRules(spec, metadata),
        };
        spec.Close();
        return document;
    }

    public static RouteDocument? TlsRoute(Fields root, Metadata metadata)
    {
        if (Spec(root) is not { } spec)
        {
            return null;
        }

        var document = new TlsRouteDocument
        {
            ApiVersion = metadata.ApiVersion,
            Name = metadata.Name,
            ParentRefs = Parents(spec, metadata),
            Hostnames = spec.Texts("hostnames", MaxServerNames, NameRules.CheckHostname),
            Rules = OpaqueRules(spec, metadata),
        };
        if (!spec.Has("hostnames") && metadata.ApiVersion != DocumentReader.GatewayGroup + "/v1alpha2")
        {
            spec.Fail("hostnames", "is missing: write the server names (SNI) that the route takes");
        }

        spec.Close();
        return document;
    }

    private static ImmutableArray<RouteRule> Rules(Fields spec, Metadata metadata, Func<Fields, int, Metadata, RouteRule> bind)
    {
        var rules = ImmutableArray.CreateBuilder<RouteRule>();
        foreach (var fields in spec.Maps("rules", MaxRules))
        {
            rules.Add(bind(fields, rules.Count, metadata));
        }

        return rules.DrainToImmutable();
    }

    private static Fields? Spec(Fields root)
    {
        var spec = root.RequiredMap("spec", "write 'spec:' with 'parentRefs:' and 'rules:' below it");
        spec?.NotImplemented("useDefaultGateways", "default Gateways are not implemented: name the Gateway in parentRefs");
        return spec;
    }

    private static ImmutableArray<ParentRef> Parents(Fields spec, Metadata metadata)
    {
        var parents = ImmutableArray.CreateBuilder<ParentRef>();
        foreach (var fields in spec.Maps("parentRefs", MaxParents))
        {
            var group = fields.Text("group") ?? DocumentReader.GatewayGroup;
            var kind = fields.Text("kind") ?? DocumentKinds.Gateway;
            if (kind == DocumentKinds.Service && group == DocumentReader.GatewayGroup && !fields.Has("group"))
            {
                fields.Fail("group", "is missing: a Service is in the group \"\", write group: \"\"");
            }

            var name = fields.RequiredText("name", "name the Gateway or Service that the route attaches to", NameRules.CheckName);
            var ns = fields.Text("namespace", NameRules.CheckLabel) ?? metadata.Name.Namespace;
            var section = fields.Text("sectionName", NameRules.CheckName);
            var port = fields.Number("port", 1, 65535);
            fields.Close();
            if (name is not null)
            {
                parents.Add(new ParentRef(group, kind, new ResourceName(ns, name), section, port, fields.Path));
            }
        }

        CheckDistinct(spec, parents);
        return parents.DrainToImmutable();
    }

    /// <summary>Gateway API: references to one parent are told apart by sectionName or port, each of them.</summary>
    private static void CheckDistinct(Fields spec, IEnumerable<ParentRef> parents)
    {
        foreach (var same in parents.GroupBy(parent => (parent.Group, parent.Kind, parent.Name)).Where(group => group.Count() > 1))
        {
            var places = new HashSet<(string?, int?)>();
            if (same.FirstOrDefault(parent => (parent.SectionName is null && parent.Port is null) || !places.Add((parent.SectionName, parent.Port))) is { } parent)
            {
                spec.Fail("parentRefs", $"names {parent.Kind} {parent.Name} twice: give each reference its own sectionName or port, or keep one");
            }
        }
    }

    private static ImmutableArray<string> Hostnames(Fields spec) => spec.Texts("hostnames", MaxHostnames, NameRules.CheckHostname);

    private static RouteRule HttpRule(Fields fields, int index, Metadata metadata)
    {
        var name = fields.Text("name", NameRules.CheckName) ?? index.ToString(System.Globalization.CultureInfo.InvariantCulture);
        var matches = ImmutableArray.CreateBuilder<HttpMatchConfig>();
        foreach (var match in fields.Maps("matches", MaxMatches))
        {
            matches.Add(HttpMatch(match));
        }

        var filters = FilterBinder.Filters(fields, metadata, isHttp: true);
        var backends = Backends(fields, metadata, isHttp: true, takesFilters: true);
        if (filters.OfType<RedirectConfig>().Any() && !backends.IsEmpty)
        {
            fields.Fail("backendRefs", "a rule that redirects sends nothing to backends: remove these, or the RequestRedirect filter");
        }

        // No match at all, and a match with no path, are the prefix "/".
        var isOnePrefix = matches is [] or [{ Path: null or { Kind: PathMatchKind.Prefix } }];
        if (!isOnePrefix && (ReplacesPrefix(filters) || backends.Any(backend => ReplacesPrefix(backend.Filters))))
        {
            fields.Fail(ReplacesPrefix(filters) ? "filters" : "backendRefs", "ReplacePrefixMatch needs exactly one match, of type PathPrefix: split the rule, or use ReplaceFullPath");
        }

        TimeSpan? request = null;
        TimeSpan? attempt = null;
        if (fields.Map("timeouts") is { } timeouts)
        {
            request = timeouts.Duration("request");
            attempt = timeouts.Duration("backendRequest");
            if (request is { Ticks: > 0 } && attempt > request)
            {
                timeouts.Fail("backendRequest", "is longer than request, which bounds it: make it shorter");
            }

            timeouts.Close();
        }

        fields.NotImplemented("retry", "retries by route are not implemented: remove it");
        fields.NotImplemented("sessionPersistence", "session persistence is not implemented: remove it");
        fields.Close();
        return new RouteRule
        {
            Name = name,
            Matches = matches.DrainToImmutable(),
            Filters = filters,
            Backends = backends,
            RequestTimeout = request,
            BackendRequestTimeout = attempt,
        };
    }

    private static bool ReplacesPrefix(ImmutableArray<HttpFilterConfig> filters) =>
        filters.Any(filter => filter is RedirectConfig { Path.ReplacesPrefixOnly: true } or UrlRewriteConfig { Path.ReplacesPrefixOnly: true });

    private static HttpMatchConfig HttpMatch(Fields fields)
    {
        PathMatchConfig? path = null;
        if (fields.Map("path") is { } at)
        {
            var type = at.Choice("type", "Exact", "PathPrefix", "RegularExpression") ?? "PathPrefix";
            var value = at.Text("value", type == "RegularExpression" ? HttpRules.CheckExpression : HttpRules.CheckPath);
            at.Close();
            path = type switch
            {
                "Exact" => new PathMatchConfig(PathMatchKind.Exact, value ?? "/"),
                "RegularExpression" => new PathMatchConfig(PathMatchKind.RegularExpression, value ?? "/"),
                _ => new PathMatchConfig(PathMatchKind.Prefix, WithoutTrailingSlash(value ?? "/")),
            };
        }

        return new HttpMatchConfig
        {
            Path = path,
            Method = fields.Text("method", HttpRules.CheckMethod),
            Headers = ValueMatches(fields, "headers", areFields: true),
            QueryParameters = ValueMatches(fields, "queryParams", areFields: false),
        }.Closed(fields);
    }

    private static HttpMatchConfig Closed(this HttpMatchConfig match, Fields fields)
    {
        fields.Close();
        return match;
    }

    private static ImmutableArray<ValueMatchConfig> ValueMatches(Fields fields, string list, bool areFields)
    {
        var matches = ImmutableArray.CreateBuilder<ValueMatchConfig>();
        foreach (var match in fields.Maps(list, MaxValueMatches))
        {
            var isExpression = match.Choice("type", "Exact", "RegularExpression") == "RegularExpression";
            var name = match.RequiredText("name", "name what is matched", HttpRules.CheckFieldName);
            var value = match.RequiredText("value", "write the value to match",
                text => isExpression ? HttpRules.CheckExpression(text, LongestValue(areFields)) : CheckMatchValue(text, LongestValue(areFields)));
            match.Close();
            name = areFields ? name?.ToLowerInvariant() : name;

            // Gateway API: of several entries with one name the first counts.
            if (name is not null && value is not null && !matches.Any(earlier => earlier.Name == name))
            {
                matches.Add(new ValueMatchConfig(name, value, isExpression));
            }
        }

        return matches.DrainToImmutable();
    }

    private static int LongestValue(bool areFields) => areFields ? HttpRules.MaxFieldValueLength : HttpRules.MaxValueLength;

    private static string? CheckMatchValue(string value, int longest) =>
        value.Length is 0 ? "is empty" : value.Length > longest ? $"is {value.Length} characters long, at most {longest} are allowed" : HttpRules.CheckFieldValue(value);

    private static RouteRule GrpcRule(Fields fields, int index, Metadata metadata)
    {
        var name = fields.Text("name", NameRules.CheckName) ?? index.ToString(System.Globalization.CultureInfo.InvariantCulture);
        var matches = ImmutableArray.CreateBuilder<HttpMatchConfig>();
        foreach (var match in fields.Maps("matches", MaxMatches))
        {
            matches.Add(new HttpMatchConfig { Grpc = GrpcMethod(match), Headers = ValueMatches(match, "headers", areFields: true) }.Closed(match));
        }

        if (matches.Count == 0)
        {
            matches.Add(new HttpMatchConfig { Grpc = AnyGrpcMethod });
        }

        var rule = new RouteRule
        {
            Name = name,
            Matches = matches.DrainToImmutable(),
            Filters = FilterBinder.Filters(fields, metadata, isHttp: false),
            Backends = Backends(fields, metadata, isHttp: false, takesFilters: true),
        };
        fields.NotImplemented("sessionPersistence", "session persistence is not implemented: remove it");
        fields.Close();
        return rule;
    }

    private static GrpcMatchConfig GrpcMethod(Fields match)
    {
        if (match.Map("method") is not { } fields)
        {
            return AnyGrpcMethod;
        }

        var isExpression = fields.Choice("type", "Exact", "RegularExpression") == "RegularExpression";
        Func<string, string?> check = isExpression ? HttpRules.CheckExpression : HttpRules.CheckGrpcName;

        // Empty means the same as absent.
        var service = fields.Text("service", text => text.Length == 0 ? null : check(text));
        var method = fields.Text("method", text => text.Length == 0 ? null : check(text));
        if (!(fields.Has("service") && service is not "") && !(fields.Has("method") && method is not ""))
        {
            match.Fail("method", "needs service or method, or both");
        }

        fields.Close();
        return new GrpcMatchConfig(service is "" ? null : service, method is "" ? null : method, isExpression);
    }

    private static ImmutableArray<RouteRule> OpaqueRules(Fields spec, Metadata metadata)
    {
        var rules = ImmutableArray.CreateBuilder<RouteRule>();
        foreach (var fields in spec.Maps("rules", MaxRules))
        {
            var name = fields.Text("name", NameRules.CheckName) ?? rules.Count.ToString(System.Globalization.CultureInfo.InvariantCulture);
            rules.Add(new RouteRule { Name = name, Backends = Backends(fields, metadata, isHttp: false, takesFilters: false) });
            fields.Close();
        }

        if (rules.Count == 0 && !spec.Has("rules"))
        {
            spec.Fail("rules", "is missing: write one rule with backendRefs");
        }
        else if (rules.Count > 1)
        {
            spec.NotImplemented("rules", "more than one rule is not implemented, because nothing tells them apart: keep one");
        }

        return rules.DrainToImmutable();
    }

    private static ImmutableArray<BackendRef> Backends(Fields rule, Metadata metadata, bool isHttp, bool takesFilters)
    {
        var backends = ImmutableArray.CreateBuilder<BackendRef>();
        foreach (var fields in rule.Maps("backendRefs", MaxBackends))
        {
            var backend = BackendBinder.Reference(fields, metadata);
            var weight = fields.Number("weight", 0, MaxWeight) ?? 1;
            var filters = takesFilters ? FilterBinder.Filters(fields, metadata, isHttp) : [];
            fields.Close();
            if (backend is not null)
            {
                backends.Add(backend with { Weight = weight, Filters = filters });
            }
        }

        return backends.DrainToImmutable();
    }

    private static void CheckRules(Fields spec, ImmutableArray<RouteRule> rules)
    {
        if (rules.Select(rule => rule.Name).Distinct().Count() < rules.Length)
        {
            spec.Fail("rules", "two rules have the same name: names are unique within a route");
        }

        if (rules.Sum(rule => rule.Matches.Length) is > MaxMatchesOfRoute and var count)
        {
            spec.Fail("rules", $"have {count} matches together, at most {MaxMatchesOfRoute} are allowed: split the route");
        }
    }

    private static string WithoutTrailingSlash(string path) => path.Length > 1 && path.EndsWith('/') ? path[..^1] : path;
}
