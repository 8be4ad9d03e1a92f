"""One adapter for each peer: how it is configured and started for a scenario. All of them listen on loopback only."""
import base64
import dataclasses
import json
import os
import subprocess

import prepare
from machine import CORES, NotApplicable, PeerFailed, Process, free_port


@dataclasses.dataclass
class Running:
    """A started peer: where to send load, whose CPU and memory count, what merely has to be there, origins of its own, and ports of metrics and admin pages."""
    port: int
    tls: bool
    authority: str = "bench.local"
    measured: list = dataclasses.field(default_factory=list)
    beside: list = dataclasses.field(default_factory=list)
    origins: list = dataclasses.field(default_factory=list)
    metrics: list = dataclasses.field(default_factory=list)
    admin: list = dataclasses.field(default_factory=list)
    ready_ms: float | None = None
    note: str = ""

    def stop(self):
        for process in [*reversed(self.measured), *reversed(self.beside), *self.origins]:
            process.stop()

    def require_alive(self):
        for process in [*self.measured, *self.beside, *self.origins]:
            if not process.alive:
                raise PeerFailed(f"{os.path.basename(process.command[0])} ended with {process.popen.returncode}: {process.last_words()}")


@dataclasses.dataclass
class Place:
    """Where a peer finds things: its own folder, the keys, the origin."""
    folder: str
    keys: str
    origin: prepare.Origin
    published: str | None

    def write(self, name, text):
        path = os.path.join(self.folder, name)
        with open(path, "w") as file:
            file.write(text)
        return path

    def log(self, name):
        return os.path.join(self.folder, f"{name}.log")


def _origin_port(scenario, place):
    return place.origin.http2 if scenario.upstream == "h2" else place.origin.http1


def direct(scenario, place):
    """The no-proxy twin. For two hops too: what the hops cost is what lies between it and them."""
    if scenario.client_tls:
        process, port = place.origin.start_https(f"{scenario.name}-https", CORES)
        return Running(port, True, origins=[process])
    return Running(_origin_port(scenario, place), False)


# HAProxy ------------------------------------------------------------------------------------------------------------------------------------------

def haproxy(scenario, place):
    port, middle = free_port(), free_port()
    tls = f"ssl crt {place.keys}/server.both.pem"
    mode = "tcp" if scenario.tcp else "http"
    defaults = f"""
global
  nbthread {CORES}
  maxconn 5000
  tune.ssl.cachesize 0
  tune.ssl.default-dh-param 2048
  ssl-default-bind-options ssl-min-ver TLSv1.3 no-tls-tickets
  ssl-default-server-options ssl-min-ver TLSv1.3 no-tls-tickets
  {"log stdout format raw local0 info" if scenario.logged else ""}
defaults
  mode {mode}
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  {"" if scenario.tcp else "http-reuse always"}
  {"log global" + chr(10) + "  option httplog" if scenario.logged else ""}
"""
    measured = []
    if scenario.hops == 2:
        last = place.write("second.cfg", f"""{defaults}
frontend in
  bind 127.0.0.1:{middle} {tls} ca-file {place.keys}/ca.pem verify required alpn h2 backlog 4096
  default_backend out
backend out
  server origin 127.0.0.1:{place.origin.http1}
""")
        measured.append(Process(["haproxy", "-db", "-f", last], place.log("second")))
        measured[0].wait_for_port(middle)
        server = (f"127.0.0.1:{middle} ssl alpn h2 no-ssl-reuse verify required ca-file {place.keys}/ca.pem crt {place.keys}/client.both.pem "
                  "sni str(server.bench) verifyhost server.bench")
    else:
        server = f"127.0.0.1:{_origin_port(scenario, place)}" + (" proto h2" if scenario.protocol == "h2" else "")
    bind = (f"{tls} {'' if scenario.tcp else 'alpn http/1.1'}" if scenario.client_tls else "") + (" proto h2" if scenario.protocol == "h2" else "")
    first = place.write("first.cfg", f"""{defaults}
frontend in
  bind 127.0.0.1:{port} {bind} backlog 4096
  default_backend out
backend out
  server origin {server}
""")
    measured.append(Process(["haproxy", "-db", "-f", first], place.log("first")))
    return Running(port, scenario.client_tls, measured=measured, ready_ms=measured[-1].wait_for_port(port),
                   note="HTTP/2 between the hops" if scenario.hops == 2 else "")


# nginx --------------------------------------------------------------------------------------------------------------------------------------------

def nginx(scenario, place):
    if scenario.protocol == "h2":
        raise NotApplicable("nginx 1.22 cannot speak HTTP/2 to an upstream")
    port, middle = free_port(), free_port()
    listener_tls = f"""
    ssl_protocols TLSv1.3; ssl_session_tickets off; ssl_session_cache off;
    ssl_certificate {place.keys}/server.pem; ssl_certificate_key {place.keys}/server.key;"""

    def start(name, listen_port, body):
        folder = os.path.join(place.folder, name)
        os.makedirs(folder, exist_ok=True)
        module = f"load_module {prepare.STREAM_MODULE};" if scenario.tcp else ""
        if scenario.tcp and not os.path.exists(prepare.STREAM_MODULE):
            raise PeerFailed("the stream module of nginx is not installed (libnginx-mod-stream)")
        config = place.write(f"{name}.conf", f"""{module}
daemon off; pid {folder}/pid; error_log {folder}/error.log warn; worker_processes {CORES}; worker_rlimit_nofile 20000;
{"user root;" if os.geteuid() == 0 else ""}
events {{ worker_connections 10000; }}
{body}
""")
        process = Process(["nginx", "-p", folder, "-c", config], place.log(name))
        return process, process.wait_for_port(listen_port)

    def http(folder, listen, listen_options, upstream_port, scheme="http", extra=""):
        folder = os.path.join(place.folder, folder)
        return f"""http {{
  access_log {f"{folder}/access.log combined" if scenario.logged else "off"};
  tcp_nodelay on; keepalive_requests 1000000000; keepalive_timeout 600s;
  client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3; uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
  upstream origin {{ server 127.0.0.1:{upstream_port}; keepalive 256; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{listen} {listen_options} backlog=4096; {listener_tls if "ssl" in listen_options else ""}
    location / {{ proxy_pass {scheme}://origin; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host;
      proxy_max_temp_file_size 0; {extra} }}
    {f"ssl_verify_client on; ssl_client_certificate {place.keys}/ca.pem;" if listen == middle else ""}
  }}
}}"""

    tls = "ssl" if scenario.client_tls else ""
    if scenario.tcp:
        process, ready = start("first", port, f"""stream {{
  upstream origin {{ server 127.0.0.1:{place.origin.http1}; }}
  server {{ listen 127.0.0.1:{port} {tls} backlog=4096; tcp_nodelay on; proxy_pass origin; {listener_tls if tls else ""} }}
}}""")
        return Running(port, scenario.client_tls, measured=[process], ready_ms=ready)
    if scenario.hops == 1:
        process, ready = start("first", port, http("first", port, tls, place.origin.http1))
        return Running(port, scenario.client_tls, measured=[process], ready_ms=ready)
    second, _ = start("second", middle, http("second", middle, "ssl", place.origin.http1))
    first, ready = start("first", port, http("first", port, "", middle, "https", f"""
      proxy_ssl_protocols TLSv1.3; proxy_ssl_session_reuse off; proxy_ssl_verify on; proxy_ssl_trusted_certificate {place.keys}/ca.pem;
      proxy_ssl_name server.bench; proxy_ssl_server_name on; proxy_ssl_certificate {place.keys}/client.pem; proxy_ssl_certificate_key {place.keys}/client.key;"""))
    return Running(port, False, measured=[second, first], ready_ms=ready, note="HTTP/1.1 between the hops")


# YARP ---------------------------------------------------------------------------------------------------------------------------------------------

def _yarp(scenario, place, inline):
    if scenario.tcp:
        raise NotApplicable("YARP proxies HTTP only")
    if scenario.logged:
        raise NotApplicable("YARP has no access log of its own")
    program = prepare.publish_yarp()
    environment = {"DOTNET_SYSTEM_NET_SOCKETS_INLINE_COMPLETIONS": "1"} if inline else {}

    def start(name, listen_port, *options):
        command = ["dotnet", program, "--listen", listen_port, *options] + (["--inline"] if inline else [])
        process = Process(command, place.log(name), environment, cwd=place.folder)
        return process, process.wait_for_port(listen_port, 20)

    port, middle = free_port(), free_port()
    own = ["--certificate", f"{place.keys}/server.pem", "--key", f"{place.keys}/server.key"]
    upstream = ["--upstream", f"http://127.0.0.1:{_origin_port(scenario, place)}", "--upstream-protocol", scenario.protocol]
    if scenario.hops == 1:
        process, ready = start("first", port, "--listen-protocol", scenario.protocol, *upstream, *(own if scenario.client_tls else []))
        return Running(port, scenario.client_tls, measured=[process], ready_ms=ready)
    second, _ = start("second", middle, "--listen-protocol", "h2", *own, "--client-ca", f"{place.keys}/ca.pem", *upstream)
    first, ready = start("first", port, "--listen-protocol", "h1", "--upstream", f"https://127.0.0.1:{middle}", "--upstream-protocol", "h2",
                         "--upstream-ca", f"{place.keys}/ca.pem", "--upstream-certificate", f"{place.keys}/client.pem",
                         "--upstream-key", f"{place.keys}/client.key", "--upstream-name", "server.bench")
    return Running(port, False, measured=[second, first], ready_ms=ready, note="HTTP/2 between the hops")


def yarp(scenario, place):
    return _yarp(scenario, place, inline=False)


def yarp_inline(scenario, place):
    return _yarp(scenario, place, inline=True)


# MeshProxy ----------------------------------------------------------------------------------------------------------------------------------------

def meshproxy(scenario, place):
    return meshproxy_mesh(scenario, place) if scenario.hops == 2 else _meshproxy_gateway(scenario, place)


def _access_log(scenario, place, name):
    return ["--access-log", os.path.join(place.folder, f"{name}.access.log") if scenario.logged else "none"]


def _documents(*documents):
    """Every JSON document is a YAML document."""
    return "".join(f"---\n{json.dumps(document, indent=2)}\n" for document in documents)


def _meshproxy_gateway(scenario, place):
    program = prepare.executables(place.published, mesh=False)["meshproxy"]
    port, admin, metrics = free_port(), free_port(), free_port()

    def metadata(name, **more):
        return {"name": name, "namespace": "bench", **more}

    def contents(file):
        with open(os.path.join(place.keys, file), "rb") as pem:
            return base64.b64encode(pem.read()).decode()

    listener = {"name": "main", "port": port, "protocol": "HTTP"}
    documents = []
    if scenario.client_tls:
        listener |= {"protocol": "TLS" if scenario.tcp else "HTTPS", "tls": {"mode": "Terminate", "certificateRefs": [{"name": "bench-tls"}]}}
        documents.append({"apiVersion": "v1", "kind": "Secret", "metadata": metadata("bench-tls"), "type": "kubernetes.io/tls",
                          "data": {"tls.crt": contents("server.pem"), "tls.key": contents("server.key")}})
    elif scenario.tcp:
        listener["protocol"] = "TCP"
    protocol = "tcp" if scenario.tcp else "kubernetes.io/h2c" if scenario.upstream == "h2" else "http"
    route = "TCPRoute" if scenario.tcp else "HTTPRoute"
    group = "gateway.networking.k8s.io"
    documents += [
        {"apiVersion": f"{group}/v1", "kind": "GatewayClass", "metadata": {"name": "meshproxy"},
         "spec": {"controllerName": "meshproxy.io/gateway-controller"}},
        {"apiVersion": f"{group}/v1", "kind": "Gateway", "metadata": metadata("bench"),
         "spec": {"gatewayClassName": "meshproxy", "addresses": [{"type": "IPAddress", "value": "127.0.0.1"}], "listeners": [listener]}},
        {"apiVersion": f"{group}/{'v1alpha2' if scenario.tcp else 'v1'}", "kind": route, "metadata": metadata("all"),
         "spec": {"parentRefs": [{"name": "bench"}], "rules": [{"backendRefs": [{"name": "origin", "port": 80}]}]}},
        {"apiVersion": "v1", "kind": "Service", "metadata": metadata("origin"),
         "spec": {"ports": [{"name": "main", "port": 80, "appProtocol": protocol}]}},
        {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": metadata("origin-1", labels={"kubernetes.io/service-name": "origin"}),
         "addressType": "IPv4", "ports": [{"name": "main", "port": _origin_port(scenario, place)}], "endpoints": [{"addresses": ["127.0.0.1"]}]},
    ]
    config = place.write("gateway.yaml", _documents(*documents))
    process = Process([program, "--config", config, "--outbound", "off", "--inbound", "off", "--admin", f"127.0.0.1:{admin}", "--metrics",
                       f"127.0.0.1:{metrics}", "--state-dir", os.path.join(place.folder, "state"), *_access_log(scenario, place, "first")], place.log("first"))
    return Running(port, scenario.client_tls, measured=[process], metrics=[metrics], admin=[admin],
                   ready_ms=process.wait_for_port(port))


def meshproxy_mesh(scenario, place, client_environment=None):
    """A control plane and two sidecars that joined with tokens: first the origin's, then the client's."""
    programs = prepare.executables(place.published, mesh=True)
    control_port, data = free_port(), os.path.join(place.folder, "control")
    os.makedirs(data, exist_ok=True)
    control = Process([programs["meshproxy-control"], "--listen", f"127.0.0.1:{control_port}", "--metrics", f"127.0.0.1:{free_port()}", "--data-dir", data],
                      place.log("control"))
    control.wait_for_port(control_port)

    def meshctl(*arguments):
        command = [programs["meshctl"], "--server", f"127.0.0.1:{control_port}", "--credential", os.path.join(data, "operator.pem"), *arguments]
        result = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=20)
        if result.returncode != 0:
            raise PeerFailed(f"meshctl {arguments[0]}: {(result.stderr or result.stdout).strip()[:300]}")
        return result.stdout.strip()

    meshctl("apply", "-f", place.write("services.yaml", _documents(
        {"apiVersion": "v1", "kind": "Service",
         "metadata": {"name": "origin", "namespace": "bench", "annotations": {"meshproxy.io/service-accounts": "origin"}},
         "spec": {"selector": {"app": "origin"}, "ports": [{"name": "http", "port": 80, "targetPort": "http", "appProtocol": "http"}]}})))

    def sidecar(account, admin, *options, environment=None):
        token = place.write(f"{account}.token", meshctl("token", "create", "--namespace", "bench", "--service-account", account))
        return Process([programs["meshproxy"], "--control", f"127.0.0.1:{control_port}", "--join-token-file", token, "--namespace", "bench",
                        "--service-account", account, "--name", f"{account}-1", "--state-dir", os.path.join(place.folder, account),
                        "--admin", f"127.0.0.1:{admin}", *options, *_access_log(scenario, place, account)], place.log(account), environment)

    inbound, outbound, ready, admin = free_port(), free_port(), [free_port(), free_port()], [free_port(), free_port()]
    server = sidecar("origin", admin[0], "--label", "app=origin", "--app-port", f"http={place.origin.http1}", "--outbound", "off",
                     "--inbound", f"127.0.0.1:{inbound}", "--metrics", f"127.0.0.1:{ready[0]}")
    client = sidecar("client", admin[1], "--inbound", "off", "--outbound", f"127.0.0.1:{outbound}", "--metrics", f"127.0.0.1:{ready[1]}",
                     environment=client_environment)
    server.wait_for_port(inbound)
    return Running(outbound, False, "origin.bench", measured=[server, client], beside=[control], metrics=ready, admin=admin, ready_ms=client.wait_for_port(outbound),
                   note="HTTP/2 between the hops; the control plane is not counted")


ALL = {"direct": direct, "haproxy": haproxy, "nginx": nginx, "yarp": yarp, "yarp-inline": yarp_inline, "meshproxy": meshproxy}
LABELS = {"direct": "no proxy", "haproxy": "HAProxy", "nginx": "nginx", "yarp": "YARP as shipped", "yarp-inline": "YARP, inline switches",
          "meshproxy": "MeshProxy"}
