"""The demo's report: one HTML file with figures, plots and annotated parts inside."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from shopfloor.demo import report_plots
from shopfloor.demo.floor import MachineHealthSeen, PlanSeen
from shopfloor.demo.tally import Part, Tally
from shopfloor.ros.html_page import image, table, write_page
from shopfloor.scheduling import gantt

_STYLE = """
.tiles{display:flex;flex-wrap:wrap;gap:12px;margin:1.2em 0}
.tile{border:1px solid #d0d7de;border-radius:8px;padding:.6em 1em;min-width:8.5em}
.tile b{display:block;font-size:1.7em}
.gallery{display:grid;grid-template-columns:repeat(auto-fill,minmax(270px,1fr));gap:14px}
figcaption{font-size:.85em} .alarm{color:#b42318}
.seen{position:relative} .seen svg{position:absolute;inset:0;width:100%}
.seen rect{fill:none;stroke:#ff2bd6;stroke-width:4;stroke-dasharray:9 5}
"""


def write(path: Path, tally: Tally, summary: dict[str, Any], title: str) -> None:
    """Write the report to `path`."""
    parts = [part for part in tally.finished() if part.picture]
    escaped = [part for part in parts if part.escaped]
    others = [part for part in parts if not part.escaped]
    worst = sorted(others, key=lambda part: (part.verdict != "FAIL", part.part_id))
    body = [
        f"<p class=sub>{'interrupted after ' if summary['interrupted'] else ''}"
        f"{summary['seconds']:g} s, first verdict after "
        f"{summary['started_to_first_verdict_s']} s</p>",
        _tiles(summary),
        _alarms(summary["alarms"]),
        _truth(summary["truth"]),
        _detail(summary["detail"]),
        _reject_output(summary["reject_output"]),
        _escapes(escaped, summary["truth"]),
        f"<h2>Failures and reviews ({len(worst)} pictures)</h2>",
        '<div class="gallery">' + "".join(_figure(part) for part in worst) + "</div>",
        *(_machine(name, seen) for name, seen in sorted(tally.floor.machines.items())),
        _plan(tally.floor.plan, tally.floor.plan_events),
        "<h2>Stations</h2>",
        _stations(summary),
        "<h2>Processes</h2>",
        _processes(summary),
        "<h2>Over time</h2>",
        image(report_plots.line(tally), "frame age, stage times, CPU", "png"),
    ]
    write_page(path, title, body, _STYLE)


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
    return "<h2>Against the truth</h2>" + table([[name, value] for name, value in rows])


def _detail(detail: dict[str, Any] | None) -> str:
    if detail is None:
        return ""
    rows: list[list[object]] = [["model", detail["model"]]]
    rows += [[f"crops {name}", count] for name, count in sorted(detail["answers"].items())]
    rows += [[f"parts {name}", count] for name, count in sorted(detail["refined"].items())]
    age = detail["age_ms"]
    rows.append(["exposure to answer, p50 and p99", f"{age['p50']:.0f} and {age['p99']:.0f} ms"])
    return "<h2>Second look</h2>" + table(rows)


def _reject_output(output: dict[str, int] | None) -> str:
    if output is None:
        return ""
    rows = [[name.replace("_", " "), count] for name, count in output.items()]
    return "<h2>Reject output, by the verdict in force</h2>" + table(rows)


def _alarms(alarms: dict[str, int]) -> str:
    if not alarms:
        return "<p>No alarms.</p>"
    lines = "".join(
        f"<li>{html.escape(text)}{f' (x{count})' if count > 1 else ''}</li>"
        for text, count in alarms.items()
    )
    return f"<h2>Alarms ({sum(alarms.values())})</h2><ul class=alarm>{lines}</ul>"


def _escapes(escaped: list[Part], truth: dict[str, Any] | None) -> str:
    if truth is None or not truth["escaped"]:
        return ""
    pictures = "".join(_figure(part, show_truth=True) for part in escaped)
    return (
        f"<h2>Escaped: defective parts that passed ({truth['escaped']})</h2>"
        f"<p>Dashed: where the defects are.</p><div class=gallery>{pictures}</div>"
    )


def _machine(name: str, seen: MachineHealthSeen) -> str:
    first = seen.summary()["tier_first_seen_s"]
    rows: list[list[object]] = [
        ["tier", f"{seen.tier}: {seen.reason}"],
        ["diagnosis", f"{seen.diagnosis}: {seen.diagnosis_text}"],
        ["baseline", f"{seen.baseline}, {seen.baseline_windows} windows"],
        ["tiers since", ", ".join(f"{tier} {at_s:g} s" for tier, at_s in first.items())],
    ]
    plot = image(report_plots.machine(seen), f"scores and tier of {name}", "png")
    return f"<h2>Machine {html.escape(name)}</h2>{table(rows)}{plot}"


def _plan(plan: PlanSeen | None, events: dict[str, int]) -> str:
    if plan is None:
        return ""
    happened = ", ".join(f"{name.lower().replace('_', ' ')} {n}" for name, n in events.items())
    rows: list[list[object]] = [
        ["in force", plan.text()],
        ["found by", plan.solver_stage + (f" in {plan.solve_ms:g} ms" if plan.solve_ms else "")],
        ["utilisation", f"{100 * plan.utilisation:.1f} %"],
        ["happened", happened or "nothing"],
    ]
    return f"<h2>Plan</h2>{table(rows)}{gantt.chart(plan.problem, plan.assignments)}"


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
    return table(rows, head)


def _processes(summary: dict[str, Any]) -> str:
    rows: list[list[object]] = [
        [p["process"], ", ".join(p["nodes"]), f"{p['cpu_percent']:.0f}", f"{p['memory_mb']:.0f}",
         p["restarts"]]
        for p in summary["processes"]
    ]  # fmt: skip
    return table(rows, ["process", "nodes", "CPU % of a core", "memory MB", "restarts"])


def _figure(part: Part, show_truth: bool = False) -> str:
    known = {True: "defective", False: "good", None: ""}[part.defective]
    truth = f" (truth: {known})" if known else ""
    why = html.escape(part.reasons[0] if part.reasons else "")
    name = html.escape(part.part_id)
    seen = image(part.picture, part.part_id) + (_truth_boxes(part) if show_truth else "")
    pictures = f"<div class=seen>{seen}</div>"
    if part.score_map:
        pictures += image(part.score_map, f"score map of {part.part_id}")
    verdict = f"{part.verdict} {part.refinement}".strip()
    return (
        f"<figure>{pictures}<figcaption><b>{verdict}</b> {name}{truth}<br>{why}"
        "</figcaption></figure>"
    )


def _truth_boxes(part: Part) -> str:
    """The true defects over the annotated picture: the frame, enlarged, under a banner."""
    canvas = cv2.imdecode(np.frombuffer(part.picture, np.uint8), cv2.IMREAD_GRAYSCALE)
    if canvas is None or not part.image_size[0]:
        return ""
    height, width = canvas.shape[:2]
    factor = width / part.image_size[0]
    top = height - part.image_size[1] * factor
    margin = 6
    boxes = "".join(
        f'<rect x="{x1 * factor - margin:.1f}" y="{y1 * factor + top - margin:.1f}" '
        f'width="{(x2 - x1) * factor + 2 * margin:.1f}" '
        f'height="{(y2 - y1) * factor + 2 * margin:.1f}"/>'
        for _, _, x1, y1, x2, y2 in part.defects
    )
    return f'<svg viewBox="0 0 {width} {height}">{boxes}</svg>'
