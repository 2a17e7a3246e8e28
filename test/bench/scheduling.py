"""The scheduler: plans against rules, monolithic CP-SAT and published gaps; repair, crash, repeats.

Every plan is verified by the independent checker; the count of broken rules is a row. Nothing was
tuned on what is measured here: ta04 and ta05 and factories 31 and 32 served for that.

  ./run bench scheduling                   everything, about 18 minutes on two quiet cores
  ./run bench scheduling --only repair     one part, into build/bench/scheduling_repair.json
  ./run bench scheduling --quick           a first look, about 2 minutes
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from rich.progress import track
from table import FOLDER, Results

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit"))

from scheduling_crash import Killer, killed_at, run_shop, started

from shopfloor.ros.commands import Answer, Ledger, Order, Outcome, Refused, accepted, rejected
from shopfloor.ros.paths import data_folder
from shopfloor.scheduling.checker import check
from shopfloor.scheduling.commands import Commands
from shopfloor.scheduling.conflicts import find_conflicts
from shopfloor.scheduling.decoder import Decoder
from shopfloor.scheduling.floor import Floor
from shopfloor.scheduling.journal import Journal
from shopfloor.scheduling.large_neighbourhood import whole
from shopfloor.scheduling.local_search import Found
from shopfloor.scheduling.model import Base, Model
from shopfloor.scheduling.objective import Score
from shopfloor.scheduling.problem import Job, JobState, Machine, MachineState, Problem, Window
from shopfloor.scheduling.problem_file import from_data, load_problem
from shopfloor.scheduling.rules import LEAST_LOAD, best_rule, dispatch
from shopfloor.scheduling.solver import Incumbent, Solution, solve
from shopfloor.sim.orders import factory

NOW = 1_700_000_000_000
PARTS = {
    "classic": "1.7 min  ft10 at 5 s, ta01-03 at 30 s, against the best known",
    "flexible": "5 min    mk01-10 at 30 s, against the best known",
    "factory": "1 min    10 factories: first plan, J at 5 s against rules and least-load",
    "monolithic": "3 min    5 factories: J at 15 s against CP-SAT alone at 20 s",
    "repair": "6 min    5 breakdowns: first repair, at 5 s, at 30 s, and planned anew",
    "infeasible": "10 s     demands that contradict each other",
    "crash": "1 min    kill -9 at every step of the journal, 100 runs",
    "calls": "0.5 min  10,000 duplicated, reordered and stale commands",
}
SEEDS = range(101, 111)
"""Factories that are measured."""

L2D = "L2D, learned dispatching (Zhang 2020): 24 % mean on 15x15"


class Bench:
    """One run: what is measured, and how many rules were broken in all plans."""

    def __init__(self, results: Results, quick: bool) -> None:
        self.results = results
        self.quick = quick
        self.broken = 0
        self.plans = 0

    def checked(self, problem: Problem, solution: Solution) -> Incumbent:
        """The plan, after the checker has looked at it once more."""
        assert solution.best is not None, solution.violations
        self.broken += len(check(problem, solution.best.assignments)) + solution.refused
        self.plans += 1
        return solution.best

    def _gaps(self, rows: list[tuple[str, Problem, float]], seconds: float, limit: str) -> None:
        gaps, rules = [], []
        for name, problem, known in track(rows, description=f"{seconds:g} s each"):
            solution = solve(problem, seconds)
            found = self.checked(problem, solution).score.makespan_s
            decoder = Decoder(Model(problem))
            rule = best_rule(decoder)[2].makespan / 1000.0
            gaps.append(100 * (found / known - 1))
            rules.append(100 * (rule / known - 1))
            proven = ", proven" if solution.proven else ""
            self.results.add(
                f"{name} gap at {seconds:g} s", gaps[-1], "%", rules[-1], limit,
                f"{found:g} of best known {known:g}{proven}; baseline: best rule",
            )  # fmt: skip
        if len(rows) > 1:
            mean = statistics.mean(gaps)
            self.results.add(f"mean gap of {len(rows)}", mean, "%", statistics.mean(rules), limit)

    def classic(self) -> None:
        """Job shops, against the best known makespan."""
        path = data_folder() / "job-shop" / "jsp.json"
        known = json.loads(path.read_text())

        def rows(names: list[str]) -> list[tuple[str, Problem, float]]:
            return [
                (n, load_problem(path, 0, n), float(known[n]["meta"]["upper_bound"])) for n in names
            ]

        self._gaps(rows(["ft10"]), 5.0, "<= 1 %")
        taillard = ["ta01"] if self.quick else ["ta01", "ta02", "ta03"]
        self._gaps(rows(taillard), 5.0 if self.quick else 30.0, f"<= 1 %; {L2D}")

    def flexible(self) -> None:
        """Flexible job shops of Brandimarte."""
        folder = data_folder() / "job-shop" / "brandimarte"
        rows = []
        for row in json.loads((folder / "instances.json").read_text()):
            known = row["optimum"] or row["bounds"]["upper"]
            rows.append((row["name"], load_problem(folder / f"{row['name']}.txt"), float(known)))
        self._gaps(rows[:2] if self.quick else rows, 3.0 if self.quick else 30.0, "mean <= 4 %")

    def factory(self) -> None:
        """Problems of the size of a small factory: the first plan, and J at 5 s."""
        seconds = 2.0 if self.quick else 5.0
        gains, first, better = [], [], []
        ours: list[Score] = []
        theirs: list[Score] = []
        for seed in track(SEEDS[: 2 if self.quick else None], description="factory"):
            problem = from_data(factory(seed), NOW)
            seen: list[Incumbent] = []
            solution = solve(problem, seconds, on_incumbent=seen.append)
            best = self.checked(problem, solution)
            assert solution.baseline is not None
            decoder = Decoder(Model(problem))
            least = decoder.decode(dispatch(decoder.model, LEAST_LOAD))
            ours.append(best.score)
            theirs.append(decoder.model.objective.score(decoder.assignments(least)))
            first.append(1000 * seen[0].elapsed_s)
            gains.append(100 * (best.score.objective / solution.baseline.objective - 1))
            better.append(best.score.objective - theirs[-1].objective)
        results = self.results
        results.add("first valid plan", statistics.median(first), "ms", None, "<= 50 ms",
                    f"max {max(first):.1f} ms, median of {len(first)}")  # fmt: skip
        results.add(f"J at {seconds:g} s over best rule", statistics.median(gains), "%", None,
                    ">= +10 %", f"median of {len(gains)}, least {min(gains):.1f} %")  # fmt: skip
        # J has no zero that means anything: least-load's is negative, so no ratio of J is told
        negative = sum(score.objective <= 0 for score in theirs)
        results.add(f"J at {seconds:g} s less least-load's", statistics.median(better), "J", None,
                    "3x has no meaning", f"least {min(better):.3f}; least-load's J is not above 0 "
                    f"in {negative} of {len(theirs)}")  # fmt: skip
        parts = (("utilisation", ">= 1"), ("tardiness", "<= 1"), ("energy", "<= 1"))
        for name, limit in parts:
            mine, other = (statistics.median(getattr(score, name) for score in scores)
                           for scores in (ours, theirs))  # fmt: skip
            key = f"{name} beside least-load"
            results.add(key, mine, "", other, f"ratio {limit}", "medians")

    def monolithic(self) -> None:
        """J at 15 s against CP-SAT on the whole problem for 20 s, two workers, same start."""
        ours_s, theirs_s = (3.0, 4.0) if self.quick else (15.0, 20.0)
        ours, theirs = [], []
        for seed in track(SEEDS[: 1 if self.quick else 5], description="monolithic"):
            problem = from_data(factory(seed), NOW)
            decoder = Decoder(Model(problem))
            _, candidate, schedule = best_rule(decoder)
            start = decoder.assignments(schedule)
            ours.append(self.checked(problem, solve(problem, ours_s, hint=start)).value)
            deadline = time.monotonic() + theirs_s
            found, _ = whole(decoder, Found(candidate, schedule), random.Random(seed), deadline,
                             lambda found, bound: None, workers=2)  # fmt: skip
            theirs.append(found.schedule.value)
        worst = min(a - b for a, b in zip(ours, theirs, strict=True))
        self.results.add(
            f"J at {ours_s:g} s", statistics.median(ours), "J", statistics.median(theirs),
            f">= monolithic CP-SAT at {theirs_s:g} s",
            f"median of {len(ours)}; least difference {worst:+.4f}",
        )  # fmt: skip

    def repair(self) -> None:
        """A machine breaks in the middle of a plan: the valid repair, and the one after 5 s."""
        first, changed, apart, anew = [], [], [], []
        short, long = (2.0, 5.0) if self.quick else (5.0, 30.0)
        for seed in track(SEEDS[: 1 if self.quick else 5], description="repair"):
            problem = from_data(factory(seed), NOW)
            plan = self.checked(problem, solve(problem, short)).assignments
            broken = breakdown(problem, plan, seed)
            base = Base(plan, 0.2)
            seen: list[Incumbent] = []
            solution = solve(broken, short, base=base, keep_base=True, on_incumbent=seen.append)
            best = self.checked(broken, solution)
            reference = self.checked(broken, solve(broken, long, base=base, keep_base=True))
            first.append(1000 * seen[0].elapsed_s)
            changed.append(100 * best.score.changed_fraction)
            apart.append(100 * (reference.value - best.value) / abs(reference.value))
            free = self.checked(broken, solve(broken, long, base=Base(plan, 0.0)))
            anew.append((best.score.objective - free.score.objective, free.score.changed_fraction))
        results = self.results
        results.add("first valid repair", statistics.median(first), "ms", None, "<= 20 ms",
                    f"max {max(first):.1f} ms")  # fmt: skip
        results.add(f"repair at {short:g} s below reference", statistics.median(apart), "%", None,
                    "<= 1 %", f"reference: {long:g} s, same objective; max {max(apart):.2f} "
                    "%")  # fmt: skip
        results.add("J of the repair less that of planning anew",
                    statistics.median(j for j, _ in anew), "J", None, "",
                    f"{long:g} s that may move everything; that changes "
                    f"{100 * statistics.median(c for _, c in anew):.0f} %")  # fmt: skip
        results.add("operations changed", statistics.median(changed), "% of remaining", None,
                    "<= 25 %", f"max {max(changed):.1f} %")  # fmt: skip

    def infeasible(self) -> None:
        """Demands that contradict each other: how soon the rules are named, and which."""
        times, sizes, named = [], [], 0
        seeds = range(1, 6 if self.quick else 21)
        for seed in seeds:
            problem, job_id = impossible(seed)
            began = time.monotonic()
            conflicts = find_conflicts(problem)
            times.append(time.monotonic() - began)
            sizes.append(len(conflicts))
            named += any(c.job_id == job_id for c in conflicts)
        self.results.add("conflict named", statistics.median(times), "s", None, "<= 1 s",
                         f"max {max(times):.2f} s; right job in {named} of {len(seeds)}; "
                         f"{statistics.median(sizes):g} rules")  # fmt: skip

    def crash(self) -> None:
        """kill -9 at every step of the journal."""
        wanted = 20 if self.quick else 100
        runs = twice = lost = 0
        at = 1
        with tempfile.TemporaryDirectory() as name:
            while runs < wanted:
                folder = Path(tempfile.mkdtemp(dir=name))
                if not killed_at(folder, at, tells=runs % 2 == 0):
                    at = 1
                    continue
                seen = run_shop(folder, Killer(0), tells=runs % 2 == 0)
                states = seen["states"]
                assert isinstance(states, dict)
                held = sum(s is JobState.HELD for s in states.values())
                twice += max(started(folder).values(), default=0) > 1
                lost += held != seen["doubt"] or (
                    not held and set(states.values()) != {JobState.DONE}
                )
                runs += 1
                at += 1
        self.results.add("kill -9 runs", runs, "runs", None, "100",
                         "at every step in turn; half with machines that forget")  # fmt: skip
        self.results.add("started twice", twice, "runs", None, "0")
        self.results.add("jobs lost", lost, "runs", None, "0",
                         "neither done nor told as in doubt")  # fmt: skip

    def calls(self) -> None:
        """Duplicated, reordered and stale commands through the ledger and the floor."""
        count = 1000 if self.quick else 10_000
        with tempfile.TemporaryDirectory() as name:
            figures = storm(Path(name), count)
        for key, value in figures.items():
            limit = "0" if key in ("repeated acts", "answers that differ") else ""
            self.results.add(key, value, "calls", None, limit)


def breakdown(problem: Problem, plan: tuple, seed: int) -> Problem:
    """A third into the plan a machine breaks for an hour; what runs elsewhere goes on."""
    span = max(a.end for a in plan) - problem.now
    now = problem.now + span // 3
    random_ = random.Random(seed)
    later = sorted({a.machine_id for a in plan if a.start > now})
    machine_id = random_.choice(later)
    done = {a.key for a in plan if a.end <= now}
    running = tuple(
        replace(a, frozen=True)
        for a in plan
        if a.start < now < a.end and a.machine_id != machine_id
    )
    jobs = []
    for job in problem.jobs:
        rows = tuple(
            replace(o, predecessors=tuple(p for p in o.predecessors if (job.job_id, p) not in done))
            for o in job.operations
            if (job.job_id, o.operation_id) not in done
        )
        if rows:
            jobs.append(replace(job, operations=rows))
    machines = tuple(
        replace(m, state=MachineState.DOWN, state_until=now + 3_600_000)
        if m.machine_id == machine_id
        else m
        for m in problem.machines
    )
    return replace(problem, now=now, jobs=tuple(jobs), machines=machines, fixed=running)


def impossible(seed: int) -> tuple[Problem, str]:
    """A hard due date, a pin and a downtime that cannot be kept together, in a whole factory."""
    problem = from_data(factory(seed), NOW)
    job: Job = problem.jobs[seed % len(problem.jobs)]
    first = job.operations[0]
    machine: Machine = problem.machine_by_id[first.machine_ids[0]]
    stop = Window(NOW, NOW + 7_200_000, label="overhaul")
    pinned = replace(first, pinned_machine=machine.machine_id)
    changed = replace(
        job, operations=(pinned, *job.operations[1:]), release=None, due=NOW + 6_000_000,
        due_is_hard=True,
    )  # fmt: skip
    jobs = tuple(changed if j is job else j for j in problem.jobs)
    machines = tuple(
        replace(m, downtimes=(*m.downtimes, stop)) if m is machine else m for m in problem.machines
    )
    return replace(problem, jobs=jobs, machines=machines), job.job_id


def storm(folder: Path, count: int) -> dict[str, float]:
    """`count` calls, of which most were made before: what acted, and what was answered."""
    rng = random.Random(1)
    journal = Journal(folder / "journal.sqlite", synchronous="OFF")
    floor = Floor(journal)
    floor.load(from_data(factory(1), NOW), NOW)
    commands = Commands(floor, lambda: NOW * 1_000_000)
    ledger = Ledger(None, per_caller=count)
    jobs = list(floor.state.jobs)
    orders = [
        (Order("hold_job", f"hmi{n % 3}", str(n), b"%d" % n, deadline_ns=1 if n % 7 == 0 else 0),
         rng.choice(jobs), rng.random() < 0.5)
        for n in range(count // 5)
    ]  # fmt: skip
    sent = [order for order in orders for _ in range(5)]
    rng.shuffle(sent)
    first: dict[tuple[str, str], Answer] = {}
    acted: dict[tuple[str, str], int] = {}
    differ = repeats = 0
    for order, job_id, hold in track(sent, description="calls"):
        key = (order.caller, order.command_id)
        answer = ledger.begin(order, NOW * 1_000_000)
        if answer is None:
            acted[key] = acted.get(key, 0) + 1
            try:
                commands.hold_job(job_id, hold, "bench")
                answer = accepted(1, int(floor.state.jobs[job_id].state))
            except Refused as refusal:
                answer = rejected(refusal.reason, str(refusal))
            answer = ledger.finish(order, answer)
        before = first.setdefault(key, answer)
        repeats += answer.outcome is Outcome.DUPLICATE
        differ += (answer.first_outcome, answer.reason, answer.state) != (
            before.first_outcome, before.reason, before.state,
        )  # fmt: skip
    journal.close()
    return {
        "calls": len(sent),
        "answered as duplicates": repeats,
        "repeated acts": sum(n > 1 for n in acted.values()),
        "answers that differ": differ,
    }


def main() -> None:
    """Run all parts, or one."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="short runs, for a first look")
    parser.add_argument("--only", choices=PARTS, help="one part, into a file of its own")
    parser.epilog = "parts:\n" + "\n".join(f"  {part:<11} {text}" for part, text in PARTS.items())
    args = parser.parse_args()
    results = Results("scheduling")
    bench = Bench(results, args.quick)
    for part in PARTS if args.only is None else (args.only,):
        getattr(bench, part)()
    if bench.plans:
        results.add("broken rules", bench.broken, "in all plans", None, "0",
                    f"{bench.plans} plans, independent checker")  # fmt: skip
    results.finish()
    if args.only is not None:
        part_file = FOLDER / f"scheduling_{args.only}.json"
        (FOLDER / "scheduling.json").replace(part_file)
        print(f"kept as: {part_file}")


if __name__ == "__main__":
    main()
