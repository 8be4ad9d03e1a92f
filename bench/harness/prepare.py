"""Everything that must be there before the first measurement: packages, builds, keys, the origin."""
import os
import shutil
import subprocess
import sys

from machine import PeerFailed, Process, free_port

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BODY = '{"id":"pay-01","status":"booked","ok":true }'
LARGE_BODY_BYTES = 1 << 20
STREAM_MODULE = "/usr/lib/nginx/modules/ngx_stream_module.so"
PACKAGES = [("haproxy", "/usr/sbin/haproxy"), ("nginx-light", "/usr/sbin/nginx"), ("libnginx-mod-stream", STREAM_MODULE), ("wrk", "/usr/bin/wrk"),
            ("nghttp2-client", "/usr/bin/h2load"), ("openssl", "/usr/bin/openssl")]
assert len(BODY) == 44


def say(text):
    print(text, file=sys.stderr, flush=True)


def install():
    missing = [package for package, path in PACKAGES if not os.path.exists(path)]
    if not missing:
        return
    say(f"installing {' '.join(missing)}")
    # RUNLEVEL=1 keeps the packages from starting their services.
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    for command in (["apt-get", "update", "-qq"], ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing]):
        result = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if result.returncode != 0:
            say(f"{' '.join(command)} failed; peers without their program will be reported as failed\n{result.stdout[-1000:]}")
            return


def _newest(paths):
    newest = 0.0
    for path in paths:
        if os.path.isfile(path):
            newest = max(newest, os.path.getmtime(path))
        for folder, folders, files in os.walk(path):
            folders[:] = [f for f in folders if f not in ("bin", "obj")]
            newest = max([newest, *(os.path.getmtime(os.path.join(folder, f)) for f in files)])
    return newest


def publish(project, output, sources, *options):
    """`dotnet publish`, unless what stands in the output folder is younger than all sources."""
    output = os.path.join(ROOT, output)
    stamp = os.path.join(output, ".published")
    shared = [os.path.join(ROOT, f) for f in ("Directory.Build.props", "Directory.Packages.props", "global.json")]
    if os.path.exists(stamp) and os.path.getmtime(stamp) > _newest([os.path.join(ROOT, s) for s in sources] + shared):
        return output
    say(f"publishing {project}")
    result = subprocess.run(["dotnet", "publish", "-c", "Release", os.path.join(ROOT, project), "-o", output, "-v", "q", "--nologo", *options],
                            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if result.returncode != 0:
        errors = sorted({line.strip() for line in result.stdout.splitlines() if "error" in line})
        raise PeerFailed(f"dotnet publish {project} failed: {errors[0][:300] if errors else result.stdout[-300:]}")
    with open(stamp, "w"):
        pass
    return output


def publish_load():
    return os.path.join(publish("bench/MeshProxy.Load", "artifacts/bench/load", ["bench/MeshProxy.Load"], "-r", "linux-x64"), "meshproxy-load")


def publish_yarp():
    return os.path.join(publish("bench/MeshProxy.YarpPeer", "artifacts/bench/yarp", ["bench/MeshProxy.YarpPeer"]), "yarp-peer.dll")


def executables(published, mesh):
    """Paths of meshproxy and, for the mesh, meshproxy-control and meshctl: from --bin, or published here."""
    wanted = {"meshproxy": "src/MeshProxy.Sidecar"}
    if mesh:
        wanted |= {"meshproxy-control": "src/MeshProxy.ControlPlane", "meshctl": "src/MeshProxy.Cli"}
    found = {}
    for name, project in wanted.items():
        if published:
            candidates = [os.path.join(published, name), os.path.join(published, name, name)]
            path = next((c for c in candidates if os.path.isfile(c) and os.access(c, os.X_OK)), None)
            if path is None:
                raise PeerFailed(f"no {name} in {published}")
            found[name] = os.path.abspath(path)
        else:
            found[name] = os.path.join(publish(project, f"artifacts/publish/{name}", ["src"], "-r", "linux-x64"), name)
    return found


def keys(folder):
    """A P-256 authority with a server and a client certificate; NAME.both.pem is certificate and key in one, as HAProxy wants it."""
    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=bench CA", "-days", "2")
    for name, usage in (("server", "serverAuth"), ("client", "clientAuth")):
        with open(os.path.join(folder, f"{name}.ext"), "w") as extensions:
            extensions.write(f"subjectAltName=DNS:{name}.bench,DNS:bench.local,IP:127.0.0.1\nextendedKeyUsage={usage}\nbasicConstraints=CA:FALSE\n")
        openssl("req", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}.bench")
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-out", f"{name}.pem", "-days", "2",
                "-extfile", f"{name}.ext")
        with open(os.path.join(folder, f"{name}.both.pem"), "w") as both:
            for part in (f"{name}.pem", f"{name}.key"):
                with open(os.path.join(folder, part)) as text:
                    both.write(text.read())


class Origin:
    """nginx with one worker: HTTP/1.1, and cleartext HTTP/2 with prior knowledge."""

    def __init__(self, scratch):
        self.scratch, self.http1, self.http2 = scratch, free_port(), free_port()
        folder = os.path.join(scratch, "www")
        os.makedirs(folder)
        with open(os.path.join(folder, "1m"), "wb") as large:
            large.write(b"x" * LARGE_BODY_BYTES)
        self.process = self._start("origin", 1, {self.http1: "", self.http2: "http2"})

    def start_https(self, name, workers):
        """The no-proxy twin of TLS scenarios. It gets as many workers as the proxies get threads: ending TLS is their work there, not the origin's.
        reuseport spreads the connections over them."""
        port = free_port()
        return self._start(name, workers, {port: "ssl reuseport"}), port

    def _start(self, name, workers, listeners):
        folder = os.path.join(self.scratch, name)
        os.makedirs(folder)
        listen = " ".join(f"listen 127.0.0.1:{port} {options} backlog=4096;" for port, options in listeners.items())
        config = os.path.join(folder, "nginx.conf")
        with open(config, "w") as text:
            text.write(f"""
daemon off; pid {folder}/pid; error_log {folder}/error.log warn; worker_processes {workers}; worker_rlimit_nofile 20000;
{"user root;" if os.geteuid() == 0 else ""}
events {{ worker_connections 10000; }}
http {{
  access_log off; sendfile on; tcp_nodelay on; keepalive_requests 1000000000; keepalive_timeout 600s; default_type application/json;
  root {self.scratch}/www;
  client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3; uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
  ssl_protocols TLSv1.3; ssl_session_tickets off; ssl_session_cache off;
  ssl_certificate {self.scratch}/server.pem; ssl_certificate_key {self.scratch}/server.key;
  server {{
    {listen}
    location = / {{ return 200 '{BODY}'; }}
  }}
}}
""")
        process = Process(["nginx", "-p", folder, "-c", config], os.path.join(folder, "log"))
        for port in listeners:
            process.wait_for_port(port)
        return process


def versions(published):
    def line(*command):
        try:
            result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=20)
            return next((text.strip() for text in result.stdout.splitlines() if text.strip()), "")
        except (OSError, subprocess.TimeoutExpired):
            return "missing"

    with open(os.path.join(ROOT, "Directory.Packages.props")) as packages:
        yarp = next((text.split('Version="')[1].split('"')[0] for text in packages if "Yarp.ReverseProxy" in text), "")
    commit = line("git", "-C", ROOT, "rev-parse", "--short", "HEAD")
    dirty = subprocess.run(["git", "-C", ROOT, "diff", "--quiet", "HEAD", "--", "src"], stderr=subprocess.DEVNULL).returncode != 0
    return {
        "meshproxy": "executables given by --bin" if published else commit + ("+changes" if dirty else ""),
        "haproxy": line("haproxy", "-v").split(" ")[2] if shutil.which("haproxy") else "missing",
        "nginx": line("nginx", "-v").split("/")[-1],
        "yarp": yarp,
        "dotnet": line("dotnet", "--version"),
        "openssl": line("openssl", "version").split(" ")[1],
        "wrk": line("wrk", "-v").split(" ")[1] if shutil.which("wrk") else "missing",
        "h2load": line("h2load", "--version").split("/")[-1],
    }
