"""Load: wrk and h2load for saturation (closed loop), meshproxy-load for stated rates (open loop), for churn and for idle connections."""
import json
import re
import subprocess
import time

from machine import PeerFailed, _end_with_parent

WORST_FAILURE_SHARE = 0.001
REST_SECONDS = 8  # connections to the origin that the burst left over are closed by then


def _run(command, seconds):
    """Every load has its own end; the timeout is for a tool that hangs."""
    try:
        result = subprocess.run([str(c) for c in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                timeout=seconds + 15, preexec_fn=_end_with_parent)
    except subprocess.TimeoutExpired:
        raise PeerFailed(f"{command[0]} hung") from None
    except OSError as error:
        raise PeerFailed(f"{command[0]}: {error}") from None
    return result


def _judge(result, failed, what):
    if result["requests"] == 0:
        raise PeerFailed(f"no request succeeded: {what}")
    if failed / (result["requests"] + failed) > WORST_FAILURE_SHARE:
        raise PeerFailed(f"{failed} of {result['requests'] + failed} requests failed: {what}")
    result["failed"] = failed
    return result


def wrk(target, scenario, seconds):
    """Requests with a status other than 2xx or 3xx, and socket errors, count as failed."""
    url = f"{'https' if target.tls else 'http'}://127.0.0.1:{target.port}{scenario.path}"
    result = _run(["wrk", "-t1", f"-c{scenario.connections}", f"-d{max(1, round(seconds))}s", "-H", f"Host: {target.authority}", url], seconds)
    text = result.stdout
    done = re.search(r"(\d+) requests in", text)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
    if not done or not rate:
        raise PeerFailed(f"wrk: {(result.stderr or text).strip()[-200:]}")
    bad = int((re.search(r"Non-2xx or 3xx responses: (\d+)", text) or [0, 0])[1])
    errors = [int(n) for n in (re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text) or [0, 0, 0, 0, 0])[1:]] \
        if "Socket errors" in text else [0, 0, 0, 0]
    answer = {"tool": "wrk", "requests": int(done[1]) - bad, "requests_per_second": float(rate[1])}
    return _judge(answer, bad + sum(errors), f"{bad} with a bad status, socket errors {errors}")


def h2load(target, scenario, seconds):
    result = _run(["h2load", "-t1", f"-c{scenario.connections}", f"-m{scenario.streams}", f"-D{max(1, round(seconds))}", "-H", f":authority: {target.authority}",
                   f"http://127.0.0.1:{target.port}{scenario.path}"], seconds)
    text = result.stdout
    rate = re.search(r"finished in [\d.]+\w+, ([\d.]+) req/s", text)
    counts = re.search(r"requests: (\d+) total, (\d+) started, (\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", text)
    codes = re.search(r"status codes: (\d+) 2xx", text)
    if not rate or not counts or not codes:
        raise PeerFailed(f"h2load: {(result.stderr or text).strip()[-200:]}")
    answer = {"tool": "h2load", "requests": int(codes[1]), "requests_per_second": float(rate[1])}
    return _judge(answer, int(counts[5]), f"{counts[5]} failed, {counts[6]} errored, status codes {codes[0]}")


def _load_command(tool, target, scenario):
    command = [tool, "--target", f"127.0.0.1:{target.port}", "--authority", target.authority, "--path", scenario.path,
               "--protocol", "h2c" if scenario.protocol == "h2" else "h1"]
    return command + (["--tls"] if target.tls else []) + (["--churn"] if scenario.churn else [])


def meshproxy_load(tool, target, scenario, seconds, rate=None, warm_up=0.5):
    """Closed loop without a rate, open loop with one."""
    command = _load_command(tool, target, scenario) + ["--warmup", f"{warm_up:.2f}", "--duration", f"{seconds:.2f}", "--streams", scenario.streams]
    command += ["--connections", scenario.open_connections if rate else scenario.connections] + (["--rate", f"{rate:.0f}"] if rate else [])
    result = _run(command, seconds + warm_up)
    try:
        answer = json.loads(result.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        raise PeerFailed(f"meshproxy-load: {result.stderr.strip()[-200:]}") from None
    if "fatal" in answer:
        raise PeerFailed(answer["fatal"])
    if answer["resumed_handshakes"]:
        raise PeerFailed("a TLS session was resumed, although none was offered")
    answer["tool"] = "meshproxy-load"
    failed = answer["bad_status"] + answer["errors"]
    answer["requests"] -= answer["bad_status"]
    return _judge(answer, failed, str(answer["notes"]))


def saturate(tool, target, scenario, seconds):
    if scenario.churn:
        return meshproxy_load(tool, target, scenario, seconds)
    return h2load(target, scenario, seconds) if scenario.protocol == "h2" else wrk(target, scenario, seconds)


def hold_idle(tool, target, scenario, count, measure):
    """Opens the connections, sends one request on each, calls measure() when they have been at rest for a while, and closes them."""
    keep = _load_command(tool, target, scenario)
    keep = [c for c in keep if c != "--churn"] + ["--connections", str(count), "--idle", "--warmup", "0", "--duration", "30"]
    with subprocess.Popen(keep, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=_end_with_parent) as process:
        try:
            line = process.stdout.readline().strip()
            if line != "idle":
                raise PeerFailed(f"{count} connections: {line or process.stderr.read().strip()}"[:300])
            time.sleep(REST_SECONDS)
            value = measure()
            answer = json.loads(process.communicate(timeout=10)[0].splitlines()[-1])
            if answer["errors"] or answer["bad_status"] or answer["reconnects"]:
                raise PeerFailed(f"{count} connections: {answer['notes'] or 'some were closed'}")
            return value
        finally:
            if process.poll() is None:
                process.kill()
