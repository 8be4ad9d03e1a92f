using System.Buffers;
using System.Collections.Immutable;
using System.Security.Cryptography;
using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using MeshProxy.DataPlane;
using MeshProxy.DataPlane.Identity;
using MeshProxy.DataPlane.Listening;
using MeshProxy.Model.Config;
using MeshProxy.Sidecar.Logging;
using Microsoft.Extensions.Logging;

namespace MeshProxy.Sidecar.Admin;

/// <summary>The admin endpoint's pages, JSON. They copy what they show and hold no lock of the data plane; keys are never among it.</summary>
internal sealed class AdminPages(
    ProxyServer proxy, SvidStore? identity, JsonLog log, Func<SidecarStatus> status, Func<IEnumerable<BoundListener>> listeners, Action drain, TimeProvider time)
{
    private static readonly JsonWriterOptions Options = new() { Indented = true, Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    private const string Index = "GET /config /clusters /certificates /connections /listeners /log-level; POST /log-level?level=debug|info|warn|error, /drain";

    /// <summary>Answers a request.</summary>
    public Task<LocalResponse> HandleAsync(LocalRequest request) => Task.FromResult((request.Method, request.Path) switch
    {
        ("GET", "/config") => Page(WriteConfig),
        ("GET", "/clusters") => Page(WriteClusters),
        ("GET", "/certificates") => Page(WriteCertificates),
        ("GET", "/connections") => Page(WriteConnections),
        ("GET", "/listeners") => Page(WriteListeners),
        ("GET", "/log-level") => Page(WriteLogLevel),
        ("POST", "/log-level") => SetLogLevel(request.Parameter("level")),
        ("POST", "/drain") => Drain(),
        ("GET", "/") => LocalResponse.Text(200, Index),
        (_, "/config" or "/clusters" or "/certificates" or "/connections" or "/listeners" or "/log-level" or "/drain") =>
            LocalResponse.Text(405, $"{request.Path} does not take {request.Method}: {Index}"),
        _ => LocalResponse.Text(404, $"There is no {request.Path}: {Index}"),
    });

    /// <summary>The whole state in one document, for the control plane's questions.</summary>
    public string State() => Encoding.UTF8.GetString(Write(json =>
    {
        json.WriteStartObject();
        WriteStatus(json);
        WriteClusterArray(json);
        WriteListenerArray(json);
        json.WriteNumber("connections", proxy.ConnectionCount);
        json.WriteEndObject();
    }).Span);

    /// <summary>Changes the level of the log.</summary>
    public bool TrySetLogLevel(string? level)
    {
        if (!JsonLog.TryParse(level, out var parsed))
        {
            return false;
        }

        log.Level = parsed;
        log.CreateLogger("meshproxy.admin").LogWarning(LogEvents.LogLevelChanged, "The log level is now {Level}", JsonLog.Name(parsed));
        return true;
    }

    private static ReadOnlyMemory<byte> Write(Action<Utf8JsonWriter> write)
    {
        var buffer = new ArrayBufferWriter<byte>(4096);
        using (var json = new Utf8JsonWriter(buffer, Options))
        {
            write(json);
        }

        buffer.Write("\n"u8);
        return buffer.WrittenMemory;
    }

    private static LocalResponse Page(Action<Utf8JsonWriter> write) => LocalResponse.Json(200, Write(write));

    private LocalResponse SetLogLevel(string? level) => TrySetLogLevel(level)
        ? Page(WriteLogLevel)
        : LocalResponse.Text(400, $"'{level}' is no level: /log-level?level=debug|info|warn|error");

    private LocalResponse Drain()
    {
        drain();
        return LocalResponse.Text(202, "draining");
    }

    private void WriteStatus(Utf8JsonWriter json)
    {
        var now = status();
        json.WriteString("version", now.Version);
        json.WriteString("mode", now.Mode);
        json.WriteString("revision", proxy.Current.Revision);
        json.WriteBoolean("ready", now.IsReady);
        json.WriteBoolean("draining", now.IsDraining);
        if (now.IsControlConnected is { } connected)
        {
            json.WriteBoolean("control_connected", connected);
        }

        if (now.IsRegistered is { } registered)
        {
            json.WriteBoolean("registered", registered);
        }
    }

    private void WriteConfig(Utf8JsonWriter json)
    {
        var config = proxy.Current;
        json.WriteStartObject();
        WriteStatus(json);
        WriteObjects(json, "listeners", config.Listeners, listener =>
        {
            json.WriteString("id", listener.Id);
            json.WriteString("address", listener.Address);
            json.WriteNumber("port", listener.Port);
            json.WriteString("protocol", listener.Protocol.ToString());
            json.WriteString("hostname", listener.Hostname ?? "*");
            WriteStrings(json, "certificates", listener.Certificates.Select(certificate => certificate.Secret.ToString()));
            WriteRoutes(json, listener.HttpRoutes);
            WriteBackends(json, "tcp_backends", listener.TcpBackends);
            WriteTlsRoutes(json, listener.TlsRoutes);
        });
        WriteObjects(json, "destinations", config.Destinations.Values.OrderBy(destination => destination.Service.ToString(), StringComparer.Ordinal), destination =>
        {
            json.WriteString("service", destination.Service.ToString());
            json.WriteString("revision", destination.Revision);
            if (destination.Refused is not null)
            {
                json.WriteString("refused", destination.Refused);
            }

            WriteObjects(json, "ports", destination.Ports, port =>
            {
                json.WriteString("cluster", port.Cluster.Id.ToString());
                json.WriteString("name", port.Name);
                json.WriteString("protocol", port.Cluster.Protocol.ToString());
                WriteStrings(json, "allowed_servers", port.Cluster.AllowedServers.Select(id => id.ToString()));
                if (port.Cluster.Tls is { } tls)
                {
                    json.WriteStartObject("tls_outside_the_mesh");
                    json.WriteString("policy", tls.Policy.ToString());
                    json.WriteString("server_name", tls.ServerName);
                    json.WriteString("invalid", tls.Invalid);
                    json.WriteEndObject();
                }

                WriteRoutes(json, port.HttpRoutes);
                WriteBackends(json, "tcp_backends", port.TcpBackends);
                WriteTlsRoutes(json, port.TlsRoutes);
            });
        });
        json.WriteStartObject("addresses");
        foreach (var (address, cluster) in config.Addresses)
        {
            json.WriteString(address, cluster.ToString());
        }

        json.WriteEndObject();
        if (config.Inbound is { } inbound)
        {
            json.WriteStartObject("inbound");
            json.WriteString("workload", inbound.Workload.ToString());
            json.WriteString("identity", inbound.Identity.ToString());
            json.WriteString("revision", inbound.Revision);
            WriteObjects(json, "ports", inbound.Ports, port =>
            {
                json.WriteString("service", port.Service.ToString());
                json.WriteNumber("local_port", port.LocalPort);
                json.WriteString("protocol", port.Protocol.ToString());
            });
            json.WriteEndObject();
        }

        json.WriteEndObject();
    }

    private static void WriteTlsRoutes(Utf8JsonWriter json, ImmutableArray<TlsRouteConfig> routes)
    {
        WriteObjects(json, "tls_routes", routes, route =>
        {
            json.WriteString("id", route.Id);
            WriteStrings(json, "hostnames", route.Hostnames);
            WriteBackends(json, "backends", route.Backends);
        });
    }

    private static void WriteRoutes(Utf8JsonWriter json, ImmutableArray<HttpRouteConfig> routes)
    {
        WriteObjects(json, "http_routes", routes, route =>
        {
            json.WriteString("id", route.Id);
            WriteStrings(json, "hostnames", route.Hostnames);
            WriteObjects(json, "rules", route.Rules, rule =>
            {
                json.WriteString("name", rule.Name);
                WriteObjects(json, "matches", rule.Matches, match =>
                {
                    if (match.Path is not null)
                    {
                        json.WriteString("path", $"{match.Path.Kind} {match.Path.Value}");
                    }

                    if (match.Method is not null)
                    {
                        json.WriteString("method", match.Method);
                    }

                    WriteStrings(json, "headers", match.Headers.Select(header => header.Name));
                    WriteStrings(json, "query_parameters", match.QueryParameters.Select(parameter => parameter.Name));
                });
                json.WriteNumber("filters", rule.Filters.Length);
                WriteBackends(json, "backends", rule.Backends);
            });
        });
    }

    private static void WriteBackends(Utf8JsonWriter json, string name, ImmutableArray<BackendConfig> backends)
    {
        WriteObjects(json, name, backends, backend =>
        {
            json.WriteString("cluster", backend.Cluster?.ToString());
            json.WriteNumber("weight", backend.Weight);
            if (backend.Invalid is not null)
            {
                json.WriteString("invalid", backend.Invalid);
            }
        });
    }

    /// <summary>An array of objects.</summary>
    private static void WriteObjects<T>(Utf8JsonWriter json, string name, IEnumerable<T> items, Action<T> write)
    {
        json.WriteStartArray(name);
        foreach (var item in items)
        {
            json.WriteStartObject();
            write(item);
            json.WriteEndObject();
        }

        json.WriteEndArray();
    }

    private static void WriteStrings(Utf8JsonWriter json, string name, IEnumerable<string> values)
    {
        json.WriteStartArray(name);
        foreach (var value in values)
        {
            json.WriteStringValue(value);
        }

        json.WriteEndArray();
    }

    private void WriteClusters(Utf8JsonWriter json)
    {
        json.WriteStartObject();
        json.WriteString("revision", proxy.Current.Revision);
        WriteClusterArray(json);
        json.WriteEndObject();
    }

    private void WriteClusterArray(Utf8JsonWriter json)
    {
        WriteObjects(json, "clusters", proxy.DescribeClusters(), cluster =>
        {
            json.WriteString("name", cluster.Name);
            json.WriteString("protocol", cluster.Protocol);
            json.WriteString("backend_tls_policy", cluster.Policy);
            json.WriteNumber("requests", cluster.Requests);
            json.WriteNumber("pending_requests", cluster.PendingRequests);
            json.WriteNumber("connections", cluster.Connections);
            json.WriteNumber("retry_budget_remaining", cluster.RetryBudgetRemaining);
            WriteStrings(json, "allowed_servers", cluster.AllowedServers);
            WriteObjects(json, "endpoints", cluster.Endpoints, endpoint =>
            {
                json.WriteString("id", endpoint.Id);
                json.WriteString("address", endpoint.Address);
                json.WriteString("dialed_address", endpoint.DialedAddress);
                json.WriteString("server_name", endpoint.ServerName);
                json.WriteBoolean("ready", endpoint.IsReady);
                json.WriteBoolean("draining", endpoint.IsDraining);
                json.WriteBoolean("eligible", endpoint.IsEligible);
                json.WriteNumber("active", endpoint.Active);
                json.WriteNumber("connections", endpoint.Connections);
            });
        });
    }

    private void WriteCertificates(Utf8JsonWriter json)
    {
        json.WriteStartObject();
        if (identity?.Current is { } svid)
        {
            json.WriteStartObject("workload");
            json.WriteString("spiffe_id", svid.Id.ToString());
            json.WriteString("serial", svid.Leaf.SerialNumber);
            json.WriteString("sha256", svid.Leaf.GetCertHashString(HashAlgorithmName.SHA256));
            json.WriteString("not_before", svid.NotBefore.ToString("O"));
            json.WriteString("not_after", svid.NotAfter.ToString("O"));
            json.WriteNumber("expires_in_seconds", Math.Round((svid.NotAfter - time.GetUtcNow()).TotalSeconds));
            json.WriteEndObject();
        }

        if (identity?.Bundle is { } bundle)
        {
            json.WriteStartObject("trust_bundle");
            json.WriteString("trust_domain", bundle.TrustDomain.Name);
            json.WriteString("revision", bundle.Revision);
            WriteObjects(json, "roots", bundle.Roots, root =>
            {
                json.WriteString("subject", root.Subject);
                json.WriteString("sha256", root.GetCertHashString(HashAlgorithmName.SHA256));
                json.WriteString("not_after", new DateTimeOffset(root.NotAfter.ToUniversalTime(), TimeSpan.Zero).ToString("O"));
            });
            json.WriteEndObject();
        }

        json.WriteEndObject();
    }

    private void WriteConnections(Utf8JsonWriter json)
    {
        const int MaxShown = 10_000;
        var connections = proxy.DescribeConnections();
        json.WriteStartObject();
        json.WriteNumber("count", connections.Count);
        WriteObjects(json, "connections", connections.Take(MaxShown), connection =>
        {
            json.WriteString("direction", connection.Direction.ToLowerInvariant());
            json.WriteString("source", connection.Source?.ToString());
            json.WriteString("peer", connection.PeerIdentity);
            json.WriteString("server_name", connection.ServerName);
            json.WriteBoolean("tls", connection.IsTls);
            json.WriteNumber("active_exchanges", connection.ActiveExchanges);
            json.WriteNumber("total_exchanges", connection.TotalExchanges);
        });
        json.WriteEndObject();
    }

    private void WriteListeners(Utf8JsonWriter json)
    {
        json.WriteStartObject();
        WriteListenerArray(json);
        json.WriteEndObject();
    }

    private void WriteListenerArray(Utf8JsonWriter json)
    {
        WriteObjects(json, "listeners", listeners(), listener =>
        {
            json.WriteString("name", listener.Name);
            json.WriteString("address", listener.EndPoint.Address.ToString());
            json.WriteNumber("port", listener.EndPoint.Port);
        });
    }

    private void WriteLogLevel(Utf8JsonWriter json)
    {
        json.WriteStartObject();
        json.WriteString("level", JsonLog.Name(log.Level));
        json.WriteEndObject();
    }
}

/// <summary>How the sidecar stands.</summary>
/// <param name="Version">The build.</param>
/// <param name="Mode">"mesh" or "file".</param>
/// <param name="IsReady">A configuration is in force and nothing drains.</param>
/// <param name="IsDraining">On its way out.</param>
/// <param name="IsControlConnected">In the mesh: whether the stream is up.</param>
/// <param name="IsRegistered">In the mesh: whether the registry knows the workload.</param>
internal sealed record SidecarStatus(string Version, string Mode, bool IsReady, bool IsDraining, bool? IsControlConnected, bool? IsRegistered);
