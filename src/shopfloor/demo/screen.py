"""What the demo shows on the terminal: the live table, and the summary at the end."""

from __future__ import annotations

from collections import Counter
from typing import Any

from rich.console import Group
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from shopfloor.demo.tally import Tally, Usage

_COLOURS = {"PASS": "green", "FAIL": "red", "REVIEW": "yellow", "UNKNOWN": "magenta"}
_LATEST = 6


def live(
    tally: Tally,
    usage: list[Usage],
    hosts: list[tuple[str, str, str]],
    elapsed_s: float,
    total_s: float,
) -> Group:
    """The live view: progress, stations, latest verdicts, processes, alarms."""
    done = tally.finished()
    counts = Counter(part.verdict for part in done)
    head = Text.assemble(
        ("shopfloor demo  ", "bold"),
        f"{elapsed_s:4.0f} s   parts {len(done)}   ",
        (f"PASS {counts['PASS']}  ", "green"),
        (f"FAIL {counts['FAIL']}  ", "red"),
        (f"REVIEW {counts['REVIEW']}  ", "yellow"),
    )
    for host, state, cause in hosts:
        head.append(f"  {host}: {state}{' (' + cause + ')' if cause else ''}", style="dim")
    floor = [Text(f"board of {host}: {heat.text()}") for host, heat in tally.floor.heat.items()]
    floor += [Text(f"machine {name}: {m.text()}") for name, m in tally.floor.machines.items()]
    bar = ProgressBar(total=total_s, completed=min(elapsed_s, total_s), width=60)
    stations = Table("station", "frames", "age p50 ms", "age p99 ms", "infer ms", "drops",
                     title="stations", title_justify="left")  # fmt: skip
    summary = tally.summary(elapsed_s)
    for name, station in summary["stations"].items():
        stations.add_row(name, str(station["processed"]), *_ages(station), _infer(station),
                         _drops(station["drops"]))  # fmt: skip
    latest = Table("part", "verdict", "truth", "why", title="latest verdicts", title_justify="left")
    for part in done[-_LATEST:]:
        truth = {True: "defective", False: "good", None: ""}[part.defective]
        why = part.reasons[0] if part.reasons else ""
        latest.add_row(part.part_id, Text(part.verdict, _COLOURS.get(part.verdict, "")), truth, why)
    return Group(head, bar, *floor, stations, latest, processes(usage), *_alarms(tally))


def processes(usage: list[Usage]) -> Table:
    """CPU and memory of each process with the nodes in it."""
    table = Table("process", "nodes", "CPU %", "memory MB", "restarts",
                  title="processes", title_justify="left")  # fmt: skip
    for row in usage:
        table.add_row(row.process, ", ".join(row.nodes), f"{row.cpu_percent:.0f}",
                      f"{row.memory_mb:.0f}", str(row.restarts))  # fmt: skip
    return table


def final(summary: dict[str, Any], tally: Tally) -> Group:
    """The answer at the end."""
    title = f"summary, interrupted after {summary['seconds']:g} s"
    table = Table("question", "answer", title_justify="left",
                  title=title if summary["interrupted"] else "summary")  # fmt: skip
    table.add_row("first verdict after", f"{summary['started_to_first_verdict_s']} s")
    table.add_row(
        "parts judged",
        f"{summary['parts']}: {summary['pass']} PASS, {summary['fail']} FAIL, "
        f"{summary['review']} REVIEW; {summary['late_or_missing']} late or missing",
    )
    truth = summary["truth"]
    if truth is not None:
        table.add_row(
            "defective parts",
            f"{truth['caught']} of {truth['defective']} caught, {truth['escaped']} escaped",
        )
        table.add_row(
            "good parts",
            f"{truth['passed']} of {truth['good']} passed, {truth['false_rejects']} rejected, "
            f"{truth['false_reviews']} sent to review",
        )
        table.add_row(
            "defects",
            f"{truth['defects_found']} of {truth['defects']} found, {truth['defects_missed']} "
            f"missed; {truth['false_boxes']} boxes where nothing is",
        )
    age = summary["frame_age_ms"]
    if age is not None:
        table.add_row("frame age at the result", f"p50 {age['p50']} ms, p99 {age['p99']} ms")
    detail = summary["detail"]
    if detail is not None:
        late = f", p50 {detail['age_ms']['p50'] / 1e3:.2f} s after exposure"
        table.add_row("second look", f"{_drops(detail['answers'])}{late}")
        table.add_row("parts refined", _drops(detail["refined"]))
    output = summary["reject_output"]
    if output is not None:
        table.add_row(
            "reject output",
            f"{output['rejected_rightly']} of {output['rejected']} rejected parts rightly, "
            f"{output['went_on_rightly']} of {output['went_on']} went on rightly; "
            f"{output['late_rejects']} too late",
        )
    for host, heat in tally.floor.heat.items():
        table.add_row(f"board of {host}", f"{heat.text()}, {heat.steps} steps")
    for name, machine in tally.floor.machines.items():
        table.add_row(f"machine {name}", machine.text())
    if tally.floor.plan is not None:
        table.add_row("plan", tally.floor.plan.text())
    table.add_row("frames dropped", _drops(summary["drops"]))
    return Group(table, processes(tally.usage), *_alarms(tally))


def _ages(station: dict[str, Any]) -> tuple[str, str]:
    age = station["frame_age_ms"]
    return (f"{age['p50']:.1f}", f"{age['p99']:.1f}") if age else ("", "")


def _infer(station: dict[str, Any]) -> str:
    infer = station["stages_ms"].get("infer")
    return f"{infer['p50']:.1f}" if infer else ""


def _drops(drops: dict[str, int]) -> str:
    return ", ".join(f"{cause} {count}" for cause, count in drops.items() if count) or "none"


def _alarms(tally: Tally) -> list[Text]:
    return [Text(f"! {text} (x{count})", "red") for text, count in tally.alarms.items()]
