"""A plan as one HTML page that needs nothing else: bars, tariff, stops, late jobs, what changed."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from datetime import datetime, timezone

from shopfloor.scheduling.explain import ChangeKind, diff
from shopfloor.scheduling.objective import FAR, Score, blocked
from shopfloor.scheduling.problem import Assignment, Problem

_ROW, _LEFT, _TOP, _WIDTH = 30, 130, 64, 1180
_COLOURS = ("#4e79a7", "#59a14f", "#9c755f", "#b07aa1", "#76b7b2", "#8a8f3c", "#5f6caf", "#a0677f")
_NO_DATE_MS = 365 * 86_400_000
_STEPS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 28_800, 86_400)
Place = Callable[[float], float]
_STYLE = """
body{font:14px/1.45 system-ui,sans-serif;margin:24px;color:#1d2733;background:#fff}
h1{font-size:20px;margin:0 0 4px} table{border-collapse:collapse;margin:14px 0}
td,th{padding:3px 14px 3px 0;text-align:left;font-variant-numeric:tabular-nums}
th{color:#5b6673;font-weight:500}
"""
_CHART_STYLE = """
.gantt text{font:11px system-ui,sans-serif;fill:#1d2733} .gantt .axis{fill:#5b6673}
.gantt .on{fill:#fff;pointer-events:none} .legend span{margin-right:18px;white-space:nowrap}
.key{display:inline-block;width:14px;height:11px;margin-right:5px;border-radius:2px}
"""


def gantt_html(
    problem: Problem,
    plan: Sequence[Assignment],
    score: Score,
    *,
    title: str = "Plan",
    before: Sequence[Assignment] = (),
    baseline: tuple[str, Score] | None = None,
) -> str:
    """The page. before: the plan to compare with; baseline: name and score of the best rule."""
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(title)}</title>"
        f"<style>{_STYLE}</style><h1>{html.escape(title)}</h1>"
        f"<div>{_span(problem, plan)}, "
        f"{len(plan)} operations on {len({a.machine_id for a in plan})} machines</div>"
        f"{_figures(score, baseline)}{chart(problem, plan, before)}"
        f"{_late(problem, plan)}{_changes(plan, before)}</html>"
    )


def _end(problem: Problem, plan: Sequence[Assignment]) -> int:
    return max((a.end for a in plan), default=problem.now + 3_600_000)


def _span(problem: Problem, plan: Sequence[Assignment]) -> str:
    end = _end(problem, plan)
    if not problem.now:
        return f"{end / 1000:g} s"
    return f"{_time(problem.now, day=True)} to {_time(end, day=True)}"


def _time(ms: int, day: bool = False) -> str:
    """Time of day, UTC; a problem that begins at 0, as a job shop does, has seconds alone."""
    if ms < _NO_DATE_MS:
        return f"{ms / 1000:g}"
    when = datetime.fromtimestamp(ms / 1000, timezone.utc)
    return when.strftime("%Y-%m-%d %H:%M UTC" if day else "%H:%M:%S" if ms % 60_000 else "%H:%M")


def _figures(score: Score, baseline: tuple[str, Score] | None) -> str:
    rows = [("this plan", score)] + (
        [(f"best rule, {baseline[0]}", baseline[1])] if baseline else []
    )
    cells = "".join(
        f"<tr><th>{html.escape(name)}</th><td><b>{s.objective:.4f}</b></td>"
        f"<td>{100 * s.utilisation:.1f} %</td><td>{s.tardiness:.4f}</td><td>{s.energy:.3f}</td>"
        f"<td>{s.makespan_s / 3600:.2f} h</td><td>{s.late_jobs}</td><td>{s.energy_kwh:.0f} kWh</td>"
        f"<td>{s.energy_cost:.2f}</td></tr>"
        for name, s in rows
    )
    return (
        "<table><tr><th></th><th>J</th><th>utilisation</th><th>tardiness</th><th>energy</th>"
        "<th>until the last end</th><th>late jobs</th><th>energy</th><th>cost</th></tr>"
        f"{cells}</table>"
    )


def chart(problem: Problem, plan: Sequence[Assignment], before: Sequence[Assignment] = ()) -> str:
    """The bars and their legend for any page; what differs from `before` has an edge."""
    holds = {a.key: problem.operation_by_key[a.key].resource_ids for a in plan}
    machines = [m for m in problem.machines if m.kind.name == "PRODUCTION"]
    machines += [m for m in problem.machines if m.kind.name == "RESOURCE"]
    row_of = {m.machine_id: n for n, m in enumerate(machines)}
    begin = min([problem.now, *(a.start for a in plan)])
    span = max(_end(problem, plan) - begin, 1000)
    height = _TOP + _ROW * len(machines) + 8

    def x(ms: float) -> float:
        return _LEFT + min(max((ms - begin) / span, 0.0), 1.0) * _WIDTH

    size = f"viewBox='0 0 {_LEFT + _WIDTH + 20} {height}' width='100%'"
    parts = [f"<svg class=gantt {size} role=img><style>{_CHART_STYLE}</style>", _PATTERN]
    parts += _tariff(problem, begin, span, x)
    for m in machines:
        y = _TOP + _ROW * row_of[m.machine_id]
        label = html.escape(m.machine_id + (f"  ({m.line})" if m.line else ""))
        parts.append(f"<text x=4 y={y + 19}>{label}</text>")
        parts.append(_rect(_LEFT, y + 2, _WIDTH, _ROW - 4, "#f2f4f7"))
        for start, end in blocked(m, problem.now):
            left = x(max(start + problem.now, begin))
            right = x(min(end, FAR - problem.now) + problem.now)
            if right > left:
                why = m.state_reason or m.state.name if m.is_stopped else "downtime or off shift"
                parts.append(_rect(left, y + 2, right - left, _ROW - 4, "url(#stop)", why))
    colour = {j.job_id: _COLOURS[n % len(_COLOURS)] for n, j in enumerate(problem.jobs)}
    ends: dict[str, int] = {}
    for a in plan:
        ends[a.job_id] = max(ends.get(a.job_id, 0), a.end)
    late = {j.job_id for j in problem.jobs
            if j.due is not None and ends.get(j.job_id, 0) > j.due}  # fmt: skip
    changed = {c.after.key for c in diff(before, plan) if c.after is not None} if before else set()
    for a in plan:
        for line in (a.machine_id, *holds[a.key]):
            fill = colour[a.job_id]
            parts.append(_bar(a, _TOP + _ROW * row_of[line], x, fill, a.job_id in late,
                              a.key in changed))  # fmt: skip
    parts.append(
        f"<line x1={x(problem.now):.1f} x2={x(problem.now):.1f} y1={_TOP - 6} y2={height} "
        "stroke='#1d2733' stroke-dasharray='3 3'/>"
    )
    return "".join(parts) + "</svg>" + _legend(bool(before))


_PATTERN = (
    "<defs><pattern id=stop width=6 height=6 patternUnits=userSpaceOnUse "
    "patternTransform='rotate(45)'><rect width=6 height=6 fill='#d5d9df'/>"
    "<rect width=2.5 height=6 fill='#9aa3ad'/></pattern></defs>"
)


def _rect(x: float, y: float, w: float, h: float, fill: str, title: str = "") -> str:
    inside = f"<title>{html.escape(title)}</title>" if title else ""
    return f"<rect x={x:.1f} y={y} width={w:.1f} height={h} fill='{fill}'>{inside}</rect>"


def _tariff(problem: Problem, begin: int, span: int, x: Place) -> list[str]:
    parts = []
    prices = [problem.default_price, *(w.value for w in problem.tariff)]
    low, high = min(prices), max(prices)
    for window in problem.tariff:
        left, right = x(window.start), x(window.end)
        if right <= left or high <= low:
            continue
        share = (window.value - low) / (high - low)
        fill = f"hsl({130 - 110 * share:.0f} 55% {88 - 12 * share:.0f}%)"
        title = f"{window.label} {window.value:g} per kWh"
        parts.append(_rect(left, 24, right - left, 16, fill, title))
        if right - left > 6 * len(title):
            parts.append(f"<text x={left + 5:.1f} y=36>{html.escape(title)}</text>")
    if parts:
        parts.append("<text x=4 y=36 class=axis>tariff</text>")
    step = 1000 * next((s for s in _STEPS_S if span / 1000 / s <= 14), 10**6)
    tick = -(-begin // step) * step
    while tick <= begin + span:
        parts.append(
            f"<text class=axis x={x(tick):.1f} y=14 text-anchor=middle>{_time(tick)}</text>"
        )
        parts.append(f"<line x1={x(tick):.1f} x2={x(tick):.1f} y1=18 y2=22 stroke='#9aa3ad'/>")
        tick += step
    return parts


def _bar(a: Assignment, y: int, x: Place, fill: str, late: bool, changed: bool) -> str:
    left, right = x(a.start), x(a.end)
    setup = x(a.start + a.setup_ms) - left
    width = max(right - left - 1, 1.5)
    words = (
        f"{a.job_id} {a.operation_id} on {a.machine_id}: {_time(a.start)} to {_time(a.end)}"
        f"{', set-up ' + format(a.setup_ms / 60000, '.0f') + ' min' if a.setup_ms else ''}"
        f"{', LATE' if late else ''}{', changed' if changed else ''}"
        f"{', frozen' if a.frozen else ''}{', pinned' if a.pinned else ''}"
    )
    edge = " stroke='#f28e2b' stroke-width='2.5'" if changed else ""
    parts = [
        f"<g><title>{html.escape(words)}</title>"
        f"<rect x={left:.1f} y={y + 4} width={width:.1f} height={_ROW - 8} rx=2"
        f" fill='{fill}'{edge}/>"
    ]
    if setup > 1:
        parts.append(_rect(left, y + 4, setup, _ROW - 8, "rgba(255,255,255,.45)"))
    if late:
        parts.append(_rect(left, y + _ROW - 8, width, 4, "#e15759"))
    if right - left - setup > 7 * len(a.job_id) + 4:
        mark = "◆ " if a.pinned or a.frozen else ""
        parts.append(f"<text class=on x={left + setup + 4:.1f} y={y + 19}>{mark}"
                     f"{html.escape(a.job_id)}</text>")  # fmt: skip
    return "".join(parts) + "</g>"


def _legend(compares: bool) -> str:
    keys = [
        ("url", "stopped or off shift"),
        ("#e15759", "job ends late"),
        ("#cfd8e3", "set-up (light part of a bar)"),
    ]
    if compares:
        keys.append(("#f28e2b", "changed against the plan before"))
    spans = "".join(
        f"<span><i class=key style='background:"
        f"{'repeating-linear-gradient(45deg,#9aa3ad 0 2px,#d5d9df 2px 5px)' if c == 'url' else c}'>"
        f"</i>{text}</span>"
        for c, text in keys
    )
    return f"<p class=legend>{spans}<span>◆ frozen or pinned</span></p>"


def _late(problem: Problem, plan: Sequence[Assignment]) -> str:
    rows = []
    for job in problem.jobs:
        end = max((a.end for a in plan if a.job_id == job.job_id), default=0)
        if job.due is not None and end > job.due:
            rows.append((end - job.due, job.job_id, job.due, end))
    if not rows:
        return "<p>No job is late.</p>"
    cells = "".join(
        f"<tr><td>{html.escape(name)}</td><td>{_time(due)}</td><td>{_time(end)}</td>"
        f"<td>{late / 60_000:.0f} min</td></tr>"
        for late, name, due, end in sorted(rows, reverse=True)
    )
    return f"<table><tr><th>late job</th><th>due</th><th>ends</th><th>late</th></tr>{cells}</table>"


def _changes(plan: Sequence[Assignment], before: Sequence[Assignment]) -> str:
    if not before:
        return ""
    rows = [c for c in diff(before, plan) if c.kind is not ChangeKind.REMOVED]
    if not rows:
        return "<p>Nothing changed.</p>"
    cells = "".join(
        f"<tr><td>{html.escape('/'.join(c.after.key))}</td><td>{c.kind.name.lower()}</td>"
        f"<td>{_place(c.before)}</td><td>{_place(c.after)}</td></tr>"
        for c in rows
        if c.after is not None
    )
    return f"<table><tr><th>changed</th><th>how</th><th>before</th><th>now</th></tr>{cells}</table>"


def _place(a: Assignment | None) -> str:
    return "" if a is None else f"{html.escape(a.machine_id)} {_time(a.start)}"
