"""What is measured. The same body, key, TLS version and origin for every peer."""
import dataclasses


@dataclasses.dataclass(frozen=True)
class Scenario:
    name: str
    title: str
    protocol: str = "h1"  # what the client speaks: h1, or h2 in cleartext with prior knowledge
    upstream_protocol: str = ""  # what the origin speaks, when it is not the client's protocol
    client_tls: bool = False
    hops: int = 1
    tcp: bool = False  # the proxy sees only bytes; the load still is HTTP/1.1, so that figures compare
    churn: bool = False
    logged: bool = False
    path: str = "/"
    connections: int = 32  # at saturation
    streams: int = 1
    open_connections: int = 64  # at the stated rate
    rate_factor: float = 0.7

    @property
    def upstream(self):
        return self.upstream_protocol or self.protocol


ALL = [
    Scenario("h1", "HTTP/1.1, one hop"),
    Scenario("h2", "HTTP/2, one hop, cleartext both sides", protocol="h2", connections=8, streams=16, open_connections=8),
    Scenario("h1-tls", "HTTP/1.1, one hop, TLS on the client side", client_tls=True),
    Scenario("mesh", "Two hops, mutual TLS between them", hops=2),
    Scenario("body-1m", "1 MB bodies, HTTP/1.1, one hop", path="/1m", connections=8, open_connections=16),
    Scenario("tcp", "TCP pass-through", tcp=True),
    Scenario("tcp-tls", "TCP, TLS ended at the proxy", tcp=True, client_tls=True),
    Scenario("churn", "A new TLS connection for each request", client_tls=True, churn=True, connections=16, open_connections=64),
    Scenario("h1-log", "HTTP/1.1, one hop, access log on", logged=True),
]
