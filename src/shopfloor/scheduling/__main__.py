"""Plan a file without ROS: compare rules and solver, write the Gantt chart.

examples:
  python -m shopfloor.sim.orders > factory.json             a problem to start from
  python -m shopfloor.scheduling plan factory.json --seconds 10 --gantt plan.html
  python -m shopfloor.scheduling plan ft06                  a job shop, OR-Library or Taillard rows
  python -m shopfloor.scheduling plan mk01.fjs              a flexible job shop
  python -m shopfloor.scheduling plan jobshop1.txt --instance abz5
  python -m shopfloor.scheduling gantt journal.sqlite       the plan in force, from a journal
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from shopfloor.scheduling.conflicts import find_conflicts
from shopfloor.scheduling.decoder import Decoder
from shopfloor.scheduling.gantt import gantt_html
from shopfloor.scheduling.model import Model
from shopfloor.scheduling.objective import Score
from shopfloor.scheduling.problem import Problem, ProblemError
from shopfloor.scheduling.problem_file import load_problem
from shopfloor.scheduling.rules import LEAST_LOAD, RULES, dispatch
from shopfloor.scheduling.solver import Incumbent, Solution, solve
from shopfloor.scheduling.stored import read_plan


def main(arguments: list[str] | None = None) -> int:
    """The command; 1 where there is no valid plan, 2 where the input is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m shopfloor.scheduling",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    plan = verbs.add_parser("plan", help="plan a file")
    plan.add_argument("file", type=Path, help="a problem (JSON) or a job shop in rows of numbers")
    plan.add_argument("--instance", default="", help="which one, of a file of several job shops")
    plan.add_argument("--seconds", type=float, default=5.0, help="time budget, default 5")
    plan.add_argument("--processes", type=int, default=2, help="processes that search, default 2")
    plan.add_argument("--gantt", type=Path, help="write the chart here")
    chart = verbs.add_parser("gantt", help="draw a plan of a journal")
    chart.add_argument("journal", type=Path)
    chart.add_argument("--version", type=int, default=0, help="default: the plan in force")
    chart.add_argument("--output", type=Path, default=Path("plan.html"))
    args = parser.parse_args(arguments)
    console = Console()
    try:
        if args.verb == "gantt":
            return _gantt(console, args.journal, args.version, args.output)
        problem = load_problem(args.file, round(time.time()) * 1000, args.instance)
        return _plan(console, problem, args)
    except (ProblemError, OSError, KeyError) as error:
        console.print(f"scheduling: {error}", style="red", markup=False)
        return 2


def _plan(console: Console, problem: Problem, args: argparse.Namespace) -> int:
    solution = _solved(console, problem, args.seconds, args.processes)
    best = solution.best
    if best is None:
        console.print("No valid plan.", style="red")
        for constraint in solution.conflicts or find_conflicts(problem):
            console.print(f"  {constraint}", markup=False)
        return 1
    console.print(_comparison(problem, solution, problem.problem_id or str(args.file)))
    if solution.proven:
        console.print("Proven: no plan is better.")
    else:
        console.print(f"No plan has J above {solution.bound:.4f}.")
    if args.gantt is not None:
        baseline = (solution.baseline_rule, solution.baseline) if solution.baseline else None
        page = gantt_html(
            problem, best.assignments, best.score,
            title=problem.problem_id or args.file.stem, baseline=baseline,
        )  # fmt: skip
        args.gantt.write_text(page, encoding="utf-8")
        console.print(f"written: {args.gantt}", markup=False)
    return 0


def _comparison(problem: Problem, solution: Solution, title: str) -> Table:
    """The rules and the solver, a row each; where only the last end counts, it alone."""
    decoder = Decoder(Model(problem))
    shown = slice(4, 5) if decoder.model.only_makespan else slice(0, None)
    table = Table(title=title)
    table.add_column("", no_wrap=True)
    columns = ("J", "util.", "tardy", "energy", "last end", "late")
    for column in (*columns[shown], "found"):
        table.add_column(column, justify="right", no_wrap=True)
    for rule in (LEAST_LOAD, *RULES):
        schedule = decoder.decode(dispatch(decoder.model, rule))
        if not schedule.violation:
            score = decoder.model.objective.score(decoder.assignments(schedule))
            table.add_row(rule, *_cells(score)[shown], "")
    best = solution.best
    assert best is not None
    cells = (*_cells(best.score)[shown], f"{best.elapsed_s:.2f} s")
    table.add_row(f"[bold]{best.stage}[/]", *cells, style="green")
    return table


def _cells(s: Score) -> list[str]:
    return [
        f"{s.objective:.4f}", f"{100 * s.utilisation:.1f} %", f"{s.tardiness:.4f}",
        f"{s.energy:.3f}", f"{s.makespan_s:,.0f} s", str(s.late_jobs),
    ]  # fmt: skip


def _solved(console: Console, problem: Problem, seconds: float, processes: int) -> Solution:
    columns = (BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("rules", total=seconds)
        began = time.monotonic()

        def seen(incumbent: Incumbent) -> None:
            words = f"{incumbent.stage}: J {incumbent.score.objective:.4f}"
            progress.update(task, completed=time.monotonic() - began, description=words)

        return solve(problem, seconds, on_incumbent=seen, processes=processes)


def _gantt(console: Console, journal: Path, version: int, output: Path) -> int:
    plan, before = read_plan(journal, version)
    baseline = (plan.baseline_rule, plan.baseline_score) if plan.baseline_score else None
    page = gantt_html(
        plan.problem, plan.assignments, plan.score, title=f"Plan {plan.version}",
        before=before.assignments if before is not None else (), baseline=baseline,
    )  # fmt: skip
    output.write_text(page, encoding="utf-8")
    console.print(f"written: {output}", markup=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
