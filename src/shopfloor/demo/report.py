"""The demo's report: one HTML file with figures, plots and annotated failures inside."""

from __future__ import annotations

import base64
import html
import io
from pathlib import Path
from typing import Any

from shopfloor.demo.tally import Part, Tally

_STYLE = """
body{font:15px/1.45 system-ui,sans-serif;max-width:1180px;margin:2em auto;padding:0 1em;
  color:#1b1f24}
h1{margin-bottom:.1em} .sub{color:#57606a;margin-top:0}
.tiles{display:flex;flex-wrap:wrap;gap:12px;margin:1.2em 0}
.tile{border:1px solid #d0d7de;border-radius:8px;padding:.6em 1em;min-width:8.5em}
.tile b{display:block;font-size:1.7em}
table{border-collapse:collapse;margin:.6em 0 1.4em}
td,th{padding:.25em .8em;border-bottom:1px solid #d0d7de;text-align:left}
td.n{text-align:right;font-variant-numeric:tabular-nums}
.gallery{display:grid;grid-template-columns:repeat(auto-fill,minmax(270px,1fr));gap:14px}
figure{margin:0} figure img{width:100%;border-radius:6px} figcaption{font-size:.85em;color:#57606a}
img.plot{width:100%}
"""


def write(path: Path, tally: Tally, summary: dict[str, Any], title: str) -> None:
    """Write the report to `path`."""
    parts = [part for part in tally.finished() if part.picture]
    worst = sorted(parts, key=lambda part: (part.verdict != "FAIL", part.part_id))
    body = [
        f"<h1>{html.escape(title)}</h1>",
        f"<p class=sub>{summary['seconds']:g} s, first verdict after "
        f"{summary['started_to_first_verdict_s']} s</p>",
        _tiles(summary),
        _truth(summary["truth"]),
        _detail(summary["detail"]),
        _reject_output(summary["reject_output"]),
        f"<h2>Failures and reviews ({len(worst)} pictures)</h2>",
        '<div class="gallery">' + "".join(_figure(part) for part in worst) + "</div>",
        "<h2>Stations</h2>",
        _stations(summary),
        "<h2>Processes</h2>",
        _processes(summary),
        "<h2>Over time</h2>",
        f'<img class=plot alt="frame age, stage times, CPU" src="{_plots(tally)}">',
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(title)}</title>"
        f"<style>{_STYLE}</style><body>{''.join(body)}</body></html>\n",
        encoding="utf-8",
    )


def _tiles(summary: dict[str, Any]) -> str:
    age = summary["frame_age_ms"] or {"p50": float("nan"), "p99": float("nan")}
    tiles = [
        ("parts", summary["parts"]),
        ("PASS", summary["pass"]),
        ("FAIL", summary["fail"]),
        ("REVIEW", summary["review"]),
        ("frame age p50", f"{age['p50']:.0f} ms"),
        ("frame age p99", f"{age['p99']:.0f} ms"),
        ("frames dropped", sum(summary["drops"].values())),
        ("late or missing", summary["late_or_missing"]),
    ]
    cells = "".join(f"<div class=tile><b>{value}</b>{name}</div>" for name, value in tiles)
    return f"<div class=tiles>{cells}</div>"


def _truth(truth: dict[str, Any] | None) -> str:
    if truth is None:
        return (
            "<p>The truth of these parts is not known, so nothing is said of hits and misses.</p>"
        )
    rows = [
        ("defective parts", truth["defective"]),
        ("caught (FAIL or REVIEW)", truth["caught"]),
        ("escaped (PASS)", truth["escaped"]),
        ("good parts", truth["good"]),
        ("passed", truth["passed"]),
        ("false rejects (FAIL)", truth["false_rejects"]),
        ("false reviews", truth["false_reviews"]),
        ("defects made", truth["defects"]),
        ("defects found", truth["defects_found"]),
        ("defects missed", truth["defects_missed"]),
        ("boxes where nothing is", truth["false_boxes"]),
    ]
    return "<h2>Against the truth</h2>" + _table([[name, value] for name, value in rows])


def _detail(detail: dict[str, Any] | None) -> str:
    if detail is None:
        return ""
    rows: list[list[object]] = [["model", detail["model"]]]
    rows += [[f"crops {name}", count] for name, count in sorted(detail["answers"].items())]
    rows += [[f"parts {name}", count] for name, count in sorted(detail["refined"].items())]
    age = detail["age_ms"]
    rows.append(["exposure to answer, p50 and p99", f"{age['p50']:.0f} and {age['p99']:.0f} ms"])
    return "<h2>Second look</h2>" + _table(rows)


def _reject_output(output: dict[str, int] | None) -> str:
    if output is None:
        return ""
    rows = [[name.replace("_", " "), count] for name, count in output.items()]
    return "<h2>Reject output, by the verdict in force</h2>" + _table(rows)


def _stations(summary: dict[str, Any]) -> str:
    rows: list[list[object]] = []
    for name, station in summary["stations"].items():
        age = station["frame_age_ms"] or {"p50": 0.0, "p99": 0.0}
        infer = station["stages_ms"].get("infer") or {"p50": 0.0}
        rows.append(
            [name, station["model"], station["engine"], station["processed"],
             f"{age['p50']:.1f}", f"{age['p99']:.1f}", f"{infer['p50']:.1f}",
             ", ".join(f"{k} {v}" for k, v in station["drops"].items() if v) or "none"]
        )  # fmt: skip
    head = [
        "station",
        "model",
        "engine",
        "frames",
        "age p50 ms",
        "age p99 ms",
        "infer p50 ms",
        "drops",
    ]
    return _table(rows, head)


def _processes(summary: dict[str, Any]) -> str:
    rows: list[list[object]] = [
        [p["process"], ", ".join(p["nodes"]), f"{p['cpu_percent']:.0f}", f"{p['memory_mb']:.0f}",
         p["restarts"]]
        for p in summary["processes"]
    ]  # fmt: skip
    return _table(rows, ["process", "nodes", "CPU % of a core", "memory MB", "restarts"])


def _table(rows: list[list[Any]], head: list[str] | None = None) -> str:
    top = "<tr>" + "".join(f"<th>{name}</th>" for name in head) + "</tr>" if head else ""
    lines = []
    for row in rows:
        cells = []
        for value in row:
            number = isinstance(value, (int, float)) or str(value).replace(".", "").isdigit()
            kind = " class=n" if number else ""
            cells.append(f"<td{kind}>{html.escape(str(value))}</td>")
        lines.append("<tr>" + "".join(cells) + "</tr>")
    return f"<table>{top}{''.join(lines)}</table>"


def _figure(part: Part) -> str:
    known = {True: "defective", False: "good", None: ""}[part.defective]
    truth = f" (truth: {known})" if known else ""
    why = html.escape(part.reasons[0] if part.reasons else "")
    name = html.escape(part.part_id)
    pictures = _picture(name, part.picture) + _picture(f"score map of {name}", part.score_map)
    verdict = f"{part.verdict} {part.refinement}".strip()
    return (
        f"<figure>{pictures}<figcaption><b>{verdict}</b> {name}{truth}<br>{why}"
        "</figcaption></figure>"
    )


def _picture(name: str, jpeg: bytes) -> str:
    if not jpeg:
        return ""
    return f'<img alt="{name}" src="data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}">'


def _plots(tally: Tally) -> str:
    """Frame age over time, stage times and CPU as a PNG data URL."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 4), layout="constrained")
    age, stages, cpu = figure.subplots(1, 3)
    for station in tally.stations.values():
        age.plot(station.arrival_s, station.frame_age_ms, ".", markersize=3, label=station.name)
    age.set(title="Frame age at the result", xlabel="s", ylabel="ms", ylim=(0, None))
    if tally.stations:
        age.legend(frameon=False)
    names = list(tally.stations)
    left = [0.0] * len(names)
    stage_names = list(dict.fromkeys(s for st in tally.stations.values() for s in st.stages_ms))
    for stage in stage_names:
        medians = [
            sorted(values)[len(values) // 2] if (values := tally.stations[n].stages_ms.get(stage))
            else 0.0
            for n in names
        ]  # fmt: skip
        stages.barh(names, medians, left=left, label=stage)
        left = [a + b for a, b in zip(left, medians, strict=True)]
    stages.set(title="Stages, median", xlabel="ms")
    if stage_names:
        stages.legend(frameon=False, fontsize=8, ncols=3, loc="upper center")
        stages.margins(y=0.6)
    usage = tally.usage
    cpu.barh([u.process for u in usage], [u.cpu_percent for u in usage], color="#57606a")
    cpu.set(title="CPU, % of one core", xlabel="%")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
