"""Processes that a run starts, what they cost, and the ports they use. Only processes started here are ever signalled."""
import atexit
import ctypes
import os
import platform
import random
import signal
import socket
import subprocess
import time

TICKS = os.sysconf("SC_CLK_TCK")
CORES = os.cpu_count() or 1
_libc = ctypes.CDLL(None, use_errno=True)
_started = []
_taken = set()


class PeerFailed(Exception):
    """A peer that does not start or does not answer: reported in its cell, the run goes on."""


class NotApplicable(Exception):
    """A peer that has no such feature."""


def free_port():
    """A free port below the kernel's ephemeral range, so that outgoing connections of a load cannot take it before its listener starts."""
    for _ in range(1000):
        port = random.randrange(20000, 32000)
        if port in _taken:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _taken.add(port)
        return port
    raise RuntimeError("no free port on loopback")


class Process:
    """One started process and its children."""

    def __init__(self, command, log, environment=None, cwd=None):
        self.log = log
        self.command = [str(c) for c in command]
        self.started_at = time.monotonic()
        with open(log, "ab") as output:
            self.popen = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=cwd,
                                          env={**os.environ, **(environment or {})}, start_new_session=True, preexec_fn=_end_with_parent)
        _started.append(self)

    @property
    def alive(self):
        return self.popen.poll() is None

    def last_words(self):
        try:
            with open(self.log, "rb") as log:
                lines = [line for line in log.read()[-4000:].decode(errors="replace").splitlines() if line.strip()]
            return lines[-1][:300] if lines else "no output"
        except OSError:
            return "no output"

    def wait_for_port(self, port, seconds=10.0):
        """Milliseconds from the start of the process until it accepted a connection."""
        deadline = self.started_at + seconds
        while time.monotonic() < deadline:
            if not self.alive:
                raise PeerFailed(f"{os.path.basename(self.command[0])} ended with {self.popen.returncode}: {self.last_words()}")
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=1):
                    return (time.monotonic() - self.started_at) * 1000
            except OSError:
                time.sleep(0.001)
        raise PeerFailed(f"{os.path.basename(self.command[0])} did not listen on {port} within {seconds:.0f} s: {self.last_words()}")

    def stop(self):
        if self in _started:
            _started.remove(self)
        if self.popen.poll() is not None:
            return
        self.popen.terminate()
        try:
            self.popen.wait(3)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait(3)


def _end_with_parent():
    _libc.prctl(1, signal.SIGTERM, 0, 0, 0)


def stop_all():
    for process in list(reversed(_started)):
        process.stop()


atexit.register(stop_all)


def tree(pid):
    """The process and its descendants."""
    found, queue = [], [pid]
    while queue:
        current = queue.pop()
        found.append(current)
        try:
            for task in os.listdir(f"/proc/{current}/task"):
                with open(f"/proc/{current}/task/{task}/children") as children:
                    queue += [int(child) for child in children.read().split()]
        except OSError:
            pass
    return found


def cpu_seconds(processes):
    """utime + stime of the processes, of their living children, and of those they have already reaped."""
    total = 0
    for process in processes:
        for pid in tree(process.popen.pid):
            try:
                with open(f"/proc/{pid}/stat") as stat:
                    fields = stat.read().rsplit(")", 1)[1].split()
                total += sum(int(fields[i]) for i in (11, 12, 13, 14))
            except OSError:
                pass
    return total / TICKS


def _status_field(pid, name):
    try:
        with open(f"/proc/{pid}/status") as status:
            for line in status:
                if line.startswith(name):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def resident_bytes(processes, peak=False):
    """VmRSS (or its peak since the last reset) summed over the processes; pages that they share count once for each."""
    return sum(_status_field(pid, "VmHWM:" if peak else "VmRSS:") for p in processes for pid in tree(p.popen.pid))


def proportional_bytes(processes):
    """PSS: pages that processes share are split between them."""
    total = 0
    for process in processes:
        for pid in tree(process.popen.pid):
            try:
                with open(f"/proc/{pid}/smaps_rollup") as rollup:
                    total += next(int(line.split()[1]) * 1024 for line in rollup if line.startswith("Pss:"))
            except (OSError, StopIteration):
                pass
    return total


def reset_peak(processes):
    for process in processes:
        for pid in tree(process.popen.pid):
            try:
                with open(f"/proc/{pid}/clear_refs", "w") as refs:
                    refs.write("5")
            except OSError:
                pass


def machine_busy_seconds():
    """CPU time that the whole machine has spent on anything (steal included): shows when something else ran during a measurement."""
    with open("/proc/stat") as stat:
        fields = [int(f) for f in stat.readline().split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / TICKS


def describe():
    model = ""
    try:
        with open("/proc/cpuinfo") as info:
            model = next((line.split(":", 1)[1].strip() for line in info if line.startswith("model name")), "")
    except OSError:
        pass
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {"cpu": model or platform.machine(), "cores": CORES, "memory_gib": round(memory, 1), "kernel": platform.release(), "os": _os_name()}


def _os_name():
    try:
        with open("/etc/os-release") as release:
            return next((line.split("=", 1)[1].strip().strip('"') for line in release if line.startswith("PRETTY_NAME")), "")
    except OSError:
        return ""
