"""Plain SVG bar charts: one panel for each scenario with its own scale, one bar for each peer, the whisker from the least to the greatest round."""
import html

import peers as peer_adapters
import report

COLOURS = {"direct": "#9aa0a6", "haproxy": "#4878a8", "nginx": "#5b9b6b", "yarp": "#b9a3cf", "yarp-inline": "#8d6cab", "meshproxy": "#d9722b"}
PANEL_WIDTH, BAR, GAP, LABEL, TITLE, COLUMNS = 520, 20, 6, 150, 30, 2


def _text(x, y, text, anchor="start", size=12, weight="normal", colour="#202124"):
    return (f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" font-weight="{weight}" fill="{colour}">{html.escape(text)}</text>')


def _panel(x, y, title, bars, form):
    parts = [_text(x, y + 16, title, size=13, weight="bold")]
    greatest = max((bar["max"] for bar in bars if bar.get("median") is not None), default=1) or 1
    width = PANEL_WIDTH - LABEL - 110
    for index, bar in enumerate(bars):
        top = y + TITLE + index * (BAR + GAP)
        middle = top + BAR / 2 + 4
        parts.append(_text(x + LABEL - 8, middle, peer_adapters.LABELS[bar["peer"]], "end"))
        if bar.get("median") is None:
            parts.append(_text(x + LABEL + 4, middle, bar["state"], colour="#80868b"))
            continue
        length = max(1.0, width * bar["median"] / greatest)
        parts.append(f'<rect x="{x + LABEL}" y="{top}" width="{length:.1f}" height="{BAR}" fill="{COLOURS[bar["peer"]]}"/>')
        low, high = (x + LABEL + width * bar[k] / greatest for k in ("min", "max"))
        if high - low > 1:
            line = top + BAR / 2
            parts.append(f'<path d="M{low:.1f} {line}H{high:.1f}M{low:.1f} {line - 4}v8M{high:.1f} {line - 4}v8" stroke="#202124" fill="none"/>')
        parts.append(_text(max(x + LABEL + length, high) + 6, middle, form(bar["median"]) + bar.get("mark", "")))
    return parts


def chart(result, kind, title, subtitle, pick, form, skip=()):
    """pick(cell) gives {median, min, max} or None."""
    panels = []
    for data in result["scenarios"].values():
        bars = []
        for peer, cell in data["peers"].items():
            if peer in skip:
                continue
            found = pick(cell)
            if found and kind == "latency" and report.fell_behind(cell, data.get("rate")):
                found = found | {"mark": " (fell behind)"}
            state = "n/a" if "not_applicable" in cell else "failed" if "failed" in cell else "not measured"
            bars.append({"peer": peer, "state": state, **(found or {})})
        if any(bar.get("median") is not None for bar in bars):
            panels.append((data["title"], bars))
    if not panels:
        return None
    rows = [panels[i:i + COLUMNS] for i in range(0, len(panels), COLUMNS)]
    body, y = [], 70
    for row in rows:
        for column, (name, bars) in enumerate(row):
            body += _panel(20 + column * (PANEL_WIDTH + 20), y, name, bars, form)
        y += TITLE + max(len(bars) for _, bars in row) * (BAR + GAP) + 22
    width = 40 + COLUMNS * PANEL_WIDTH + 20
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{y}" viewBox="0 0 {width} {y}" font-family="system-ui, sans-serif" role="img">',
        f"<title>{html.escape(title)}</title>", f'<rect width="{width}" height="{y}" fill="#ffffff"/>',
        _text(20, 30, title, size=18, weight="bold"), _text(20, 50, subtitle, colour="#5f6368"), *body, "</svg>"]) + "\n"


def _median(name):
    return lambda cell: cell.get("median", {}).get(name) if not ({"failed", "not_applicable", "not_run"} & set(cell)) else None


def _memory(cell):
    size = cell.get("memory", {}).get("connections_1000")
    return {"median": size, "min": size, "max": size} if size else None


def all_charts(result):
    """Names and texts of the charts that have anything to show."""
    where = f"{result['machine']['cpu']}, {result['machine']['cores']} cores, {result['date']}; {report.rounds_text(result)}, whiskers: least and greatest round"
    kinds = [
        ("cpu", "CPU µs per request at saturation (less is better)", _median("cpu_us_per_request"), lambda v: f"{v:,.1f} µs", ("direct",)),
        ("throughput", "Requests per second at saturation (more is better)", _median("requests_per_second"), lambda v: f"{v:,.0f}", ()),
        ("latency", "p99 latency at one open-loop rate for all (less is better)", _median("p99_us"), lambda v: f"{v / 1000:,.2f} ms", ()),
        ("memory", "RSS with 1,000 idle connections (less is better)", _memory, lambda v: f"{v / 1e6:,.0f} MB", ("direct",)),
    ]
    drawn = ((name, chart(result, name, title, where, pick, form, skip)) for name, title, pick, form, skip in kinds)
    return {name: text for name, text in drawn if text}
