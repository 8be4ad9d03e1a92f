"""Medians, the Markdown table, the goals and the ordering law."""
import statistics

import peers as peer_adapters

# Scenario, its name in a goal, and the most that a request may cost of what HAProxy's costs.
COST_GOALS = [
    ("h1", "HTTP/1.1 one hop", 1.1),
    ("h2", "HTTP/2 one hop", 1.3),
    ("h1-tls", "TLS one hop", 1.15),
    ("mesh", "Two hops with mutual TLS", 1.2),
    ("body-1m", "1 MB bodies", 1.25),
]
# And of what YARP's costs, as shipped, in each of them.
YARP_GOAL = 0.4
# p99 at the common rate, of HAProxy's.
TAIL_GOAL = 1.3
# Below this the difference of two medians is noise of one machine, not a broken law.
ORDER_TOLERANCE = 1.02


def summary(values):
    values = sorted(v for v in values if v is not None)
    if not values:
        return None
    return {"median": statistics.median(values), "min": values[0], "max": values[-1], "rounds": len(values)}


def summarise(cell):
    """Adds the medians of a cell's rounds."""
    saturation, at_rate = cell.get("saturation", []), cell.get("at_rate", [])
    cell["median"] = {
        "requests_per_second": summary([r["requests_per_second"] for r in saturation]),
        "cpu_us_per_request": summary([r["cpu_us_per_request"] for r in saturation]),
        "origin_cpu_us_per_request": summary([r["origin_cpu_us_per_request"] for r in saturation]),
        "cpu_us_per_request_at_rate": summary([r["cpu_us_per_request"] for r in at_rate]),
        "achieved_per_second": summary([r["requests_per_second"] for r in at_rate]),
        "p50_us": summary([r["p50_us"] for r in at_rate]),
        "p99_us": summary([r["p99_us"] for r in at_rate]),
        "foreign_cpu_share": summary([r["foreign_cpu_share"] for r in saturation + at_rate]),
    }


def value(result, scenario, peer, name):
    cell = result["scenarios"].get(scenario, {}).get("peers", {}).get(peer, {})
    found = cell.get("median", {}).get(name)
    return found["median"] if found else None


def fell_behind(cell, rate):
    """Whether a peer answered less than the stated rate: its percentiles then describe a growing queue."""
    found = cell.get("median", {}).get("achieved_per_second")
    return bool(found and rate and found["median"] < 0.98 * rate)


def rounds_text(result):
    return "one round" if result["rounds"] == 1 else f"medians of {result['rounds']} interleaved rounds"


def goals(result):
    rows = []
    for scenario, title, limit in COST_GOALS:
        for peer, name, most, figure, what in (
                ("haproxy", "HAProxy", limit, "cpu_us_per_request", "CPU per request"),
                ("yarp", "YARP", YARP_GOAL, "cpu_us_per_request", "CPU per request"),
                ("haproxy", "HAProxy", TAIL_GOAL, "p99_us", "p99 at the common rate")):
            ours, theirs = (value(result, scenario, p, figure) for p in ("meshproxy", peer))
            ratio = ours / theirs if ours and theirs else None
            rows.append({"goal": f"{title}: {what} at most {most}x {name}'s", "limit": most, "ratio": ratio, "met": None if ratio is None else ratio <= most})
    start = [c["ready_ms"] for s, data in result["scenarios"].items() if s != "mesh" for p, c in data["peers"].items() if p == "meshproxy" and c.get("ready_ms")]
    idle = [c["memory"]["idle"] for s, data in result["scenarios"].items() if s != "mesh"
            for p, c in data["peers"].items() if p == "meshproxy" and c.get("memory")]
    size = result.get("published_bytes")
    tls = result["scenarios"].get("h1-tls", {}).get("peers", {}).get("meshproxy", {}).get("memory", {})
    for text, limit, seen in (("`meshproxy` published, MB (at most 25)", 25, size / 1e6 if size else None),
                              ("ready after, ms (at most 150)", 150, statistics.median(start) if start else None),
                              ("RSS idle, MB (at most 30)", 30, statistics.median(idle) / 1e6 if idle else None),
                              ("RSS with 1,000 idle TLS connections, MB (at most 60)", 60, tls["connections_1000"] / 1e6 if tls.get("connections_1000") else None)):
        rows.append({"goal": text, "limit": limit, "ratio": seen, "met": None if seen is None else seen <= limit})
    return rows


def ordering(result):
    """direct >= one proxy >= two, in requests per second and for each peer. A violation means that the run measured something else than it says."""
    broken = []
    for name, data in result["scenarios"].items():
        base = value(result, name, "direct", "requests_per_second")
        for peer in data["peers"]:
            rate = value(result, name, peer, "requests_per_second")
            if peer != "direct" and base and rate and rate > base * ORDER_TOLERANCE:
                broken.append(f"{name}: {peer_adapters.LABELS[peer]} ({rate:,.0f}/s) is above no proxy ({base:,.0f}/s)")
    for peer in peer_adapters.ALL:
        one, two = value(result, "h1", peer, "requests_per_second"), value(result, "mesh", peer, "requests_per_second")
        if peer != "direct" and one and two and two > one * ORDER_TOLERANCE:
            broken.append(f"{peer_adapters.LABELS[peer]}: two hops ({two:,.0f}/s) are above one ({one:,.0f}/s)")
    return broken


def _spread(found, form):
    if not found:
        return "-"
    if found["rounds"] == 1:
        return form(found["median"])
    return f"{form(found['median'])} ({form(found['min'])} to {form(found['max'])})"


def _count(number):
    return f"{number:,.0f}"


def _micro(number):
    return f"{number:,.0f}" if number >= 100 else f"{number:.1f}"


def _milli(number):
    return f"{number / 1000:.2f}" if number < 100_000 else f"{number / 1000:,.0f}"


def _mega(number):
    return f"{number / 1e6:.0f}"


def _state(cell):
    for key, word in (("not_applicable", "n/a"), ("failed", "failed"), ("not_run", "not run")):
        if key in cell:
            return word
    return None


def _matrix(result, title, name, form, skip=()):
    shown = [p for p in result["peers"] if p not in skip]
    lines = [f"### {title}", "", "| | " + " | ".join(peer_adapters.LABELS[p] for p in shown) + " |", "| --- |" + " ---: |" * len(shown)]
    for scenario, data in result["scenarios"].items():
        row = []
        for peer in shown:
            cell = data["peers"].get(peer, {"not_run": ""})
            found = value(result, scenario, peer, name)
            row.append(_state(cell) or (form(found) if found is not None else "-"))
        lines.append(f"| {data['title']} | " + " | ".join(row) + " |")
    return lines + [""]


def markdown(result):
    machine = result["machine"]
    lines = ["# Measured side by side", ""]
    if result["quick"]:
        lines += ["**A quick run: short rounds, for checking the harness and for a first impression. Not for quoting.**", ""]
    lines += [
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, {machine['os']}, Linux {machine['kernel']}; {result['date']}.",
        "Proxies, load generator and origin share these cores, on loopback. " + ", ".join(f"{k} {v}" for k, v in result["versions"].items()) + ".",
        "", f"Command: `{result['command']}`; {rounds_text(result)} of {result['seconds']:g} s; in brackets the least and the greatest round.", ""]
    lines += _matrix(result, "CPU µs per request at saturation (all processes of the proxy)", "cpu_us_per_request", _micro, skip=("direct",))
    lines += _matrix(result, "Requests per second at saturation", "requests_per_second", _count)
    lines += ["### Goals", "", "| goal | limit | seen | met |", "| --- | ---: | ---: | --- |"]
    for row in result["goals"]:
        seen = "-" if row["ratio"] is None else f"{row['ratio']:.2f}" if row["limit"] < 10 else f"{row['ratio']:.0f}"
        lines.append(f"| {row['goal']} | {row['limit']} | {seen} | {'-' if row['met'] is None else 'yes' if row['met'] else '**no**'} |")
    lines += ["", "Ordering law (no proxy >= one proxy >= two, requests per second): " + ("; ".join(result["ordering_broken"]) or "holds") + ".", ""]
    for name, data in result["scenarios"].items():
        rate = data.get("rate")
        lines += [f"## {data['title']}", "", f"`{name}`" + (f"; open loop at {rate:,} requests/s ({data['rate_from']})" if rate else ""), "",
                  "| | requests/s | of no proxy | CPU µs/request | p50 ms | p99 ms | CPU µs/request at the rate | RSS MB idle / 1,000 idle connections / under load | ready ms |",
                  "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"]
        base = value(result, name, "direct", "requests_per_second")
        notes = []
        for peer, cell in data["peers"].items():
            label = peer_adapters.LABELS[peer]
            state = _state(cell)
            if state:
                lines.append(f"| {label} | {state} | | | | | | | |")
                notes.append(f"{label}: {state}: {cell.get('not_applicable') or cell.get('failed') or cell.get('not_run')}")
                if "median" not in cell:
                    continue
            if not state:
                median = cell["median"]
                rps = median["requests_per_second"]
                share = f"{rps['median'] / base:.0%}" if base and rps and peer != "direct" else ""
                short = fell_behind(cell, rate)
                if short:
                    notes.append(f"{label}: did not reach the rate (answered {median['achieved_per_second']['median']:,.0f}/s): its percentiles are those of a growing queue")
                memory = cell.get("memory")
                sizes = f"{_mega(memory['idle'])} / {_mega(memory['connections_1000']) if memory.get('connections_1000') else '-'} / {_mega(memory['load']) if memory.get('load') else '-'}" if memory else "-"
                own = peer != "direct"
                lines.append("| " + " | ".join([
                    label, _spread(rps, _count), share, _spread(median["cpu_us_per_request"], _micro) if own else "-",
                    _spread(median["p50_us"], _milli), _spread(median["p99_us"], _milli) + ("*" if short else ""),
                    _spread(median["cpu_us_per_request_at_rate"], _micro) if own else "-", sizes, f"{cell['ready_ms']:.0f}" if cell.get("ready_ms") else "-"]) + " |")
                if cell.get("note"):
                    notes.append(f"{label}: {cell['note']}")
                foreign = median["foreign_cpu_share"]
                if foreign and foreign["median"] > 0.05:
                    notes.append(f"{label}: {foreign['median']:.0%} of the machine went to other processes meanwhile")
                if cell.get("memory_failed"):
                    notes.append(f"{label}: memory: {cell['memory_failed']}")
        tls = {peer: cell["tls"] for peer, cell in data["peers"].items() if cell.get("tls")}
        if tls:
            kinds = {}
            for peer, seen in tls.items():
                kinds.setdefault(", ".join(f"{v}" for v in seen.values()), []).append(peer_adapters.LABELS[peer])
            notes += [f"TLS: {kind} ({', '.join(who)})" for kind, who in kinds.items()]
        lines += [""] + [f"- {note}" for note in notes] + ([""] if notes else [])
    return "\n".join(lines).rstrip() + "\n"
