"""Why there is no plan: a small set of rules that contradict each other.

Only jobs that can fail matter: those with a hard due date, a pinned start, or nowhere to run. They
are put to CP-SAT, first each alone and then together, every rule behind a literal of its own; what
CP-SAT names as contradictory is made smaller by leaving out one rule after the other. Set-ups are
left out, so what is named here contradicts itself even without them.
"""

from __future__ import annotations

import time
from collections import defaultdict

from ortools.sat.python import cp_model

from shopfloor.scheduling.problem import Constraint, Job, Key, Operation, Problem, Rule


def find_conflicts(problem: Problem, limit_s: float = 0.8) -> list[Constraint]:
    """A minimal set, as far as time allows; empty: none was found in `limit_s`."""
    deadline = time.monotonic() + limit_s
    jobs = [job for job in problem.jobs if _can_fail(problem, job)]
    groups = [[job] for job in jobs]
    if len(jobs) > 1:
        groups.append(jobs)
    for group in groups:
        core = _core(problem, group, None, deadline)
        if core:
            return _smaller(problem, group, core, deadline)
        if time.monotonic() > deadline:
            break
    return []


def _can_fail(problem: Problem, job: Job) -> bool:
    if job.job_id in problem.waiting_jobs:
        return False
    stuck = any(
        all(
            problem.machine_by_id[m].is_stopped and problem.machine_by_id[m].state_until is None
            for m in o.machine_ids
        )
        for o in job.operations
    )
    pinned = any(o.pinned_start is not None for o in job.operations)
    ends = any(problem.machine_by_id[m].calendar for o in job.operations for m in o.machine_ids)
    return bool(
        (job.due_is_hard and job.due is not None)
        or pinned
        or stuck
        or ends
        or problem.horizon is not None
    )


def _smaller(
    problem: Problem, jobs: list[Job], core: list[Constraint], deadline: float
) -> list[Constraint]:
    for rule in list(core):
        if time.monotonic() > deadline or len(core) == 1:
            break
        rest = [c for c in core if c != rule]
        if _core(problem, jobs, rest, deadline):
            core = rest
    return core


def _core(
    problem: Problem, jobs: list[Job], only: list[Constraint] | None, deadline: float
) -> list[Constraint]:
    """Rules that CP-SAT finds contradictory; empty: a plan exists, or time is up."""
    built = _Rules(problem, jobs, only)
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.max_time_in_seconds = max(deadline - time.monotonic(), 0.01)
    built.cp.add_assumptions(list(built.literals.values()))
    if solver.solve(built.cp) != cp_model.INFEASIBLE:
        return []
    if only is not None:
        return only
    named = set(solver.sufficient_assumptions_for_infeasibility())
    structural = (Rule.CAPACITY, Rule.FORBIDDEN_PAIR)
    return [
        c for c, literal in built.literals.items() if literal.index in named or c.rule in structural
    ]


class _Rules:
    """The hard rules of some jobs, each behind a literal. only: the rules that hold."""

    def __init__(self, problem: Problem, jobs: list[Job], only: list[Constraint] | None) -> None:
        self.cp = cp_model.CpModel()
        self.literals: dict[Constraint, cp_model.IntVar] = {}
        self._problem = problem
        self._only = None if only is None else set(only)
        self._work: dict[str, list[cp_model.IntervalVar]] = defaultdict(list)
        self._limit = self._horizon(jobs)
        self._start: dict[Key, cp_model.IntVar] = {}
        self._end: dict[Key, cp_model.IntVar] = {}
        wanted = {j.job_id for j in jobs}
        rows = [row for row in problem.to_plan if row[0].job_id in wanted]
        for job, operation in rows:
            self._operation(job, operation)
        for job, operation in rows:
            self._order(job, operation)
        self._lines()

    def _horizon(self, jobs: list[Job]) -> int:
        p = self._problem
        times = [p.now, *(w.end for m in p.machines for w in (*m.downtimes, *m.calendar))]
        times += [m.state_until for m in p.machines if m.state_until is not None]
        times += [a.end for a in p.fixed]
        times += [j.release for j in jobs if j.release is not None]
        times += [o.pinned_start for j in jobs for o in j.operations if o.pinned_start is not None]
        work = sum(max(o.durations_ms) for j in jobs for o in j.operations)
        return max(times) - p.now + 2 * work + 1

    def _literal(self, constraint: Constraint) -> cp_model.IntVar | None:
        """The literal of a rule; None where it does not hold in this trial."""
        if self._only is not None and constraint not in self._only:
            return None
        if constraint not in self.literals:
            self.literals[constraint] = self.cp.new_bool_var("")
        return self.literals[constraint]

    def _demand(
        self, constraint: Constraint, expression: cp_model.BoundedLinearExpression | bool
    ) -> None:
        literal = self._literal(constraint)
        if literal is not None:
            self.cp.add(expression).only_enforce_if(literal)

    def _operation(self, job: Job, operation: Operation) -> None:
        cp, p = self.cp, self._problem
        key = (job.job_id, operation.operation_id)
        start = self._start[key] = cp.new_int_var(0, self._limit, "")
        end = self._end[key] = cp.new_int_var(0, self._limit, "")
        name = "/".join(key)
        chosen = {}
        size = cp.new_int_var(0, self._limit, "")
        for machine, duration in zip(operation.machine_ids, operation.durations_ms, strict=True):
            literal = chosen[machine] = cp.new_bool_var("")
            cp.add(size == duration).only_enforce_if(literal)
            interval = cp.new_optional_interval_var(start, size, end, literal, "")
            self._work[machine].append(interval)
        cp.add_exactly_one(chosen.values())
        whole = cp.new_interval_var(start, size, end, "")
        for resource in operation.resource_ids:
            self._work[resource].append(whole)
        if operation.pinned_machine:
            text = f"{name} is pinned to {operation.pinned_machine}"
            pin = Constraint(Rule.PIN, text, *key, operation.pinned_machine)
            self._demand(pin, chosen[operation.pinned_machine] == 1)
        if operation.pinned_start is not None:
            at = operation.pinned_start - p.now
            text = f"{name} is pinned to start {at / 1000:g} s from now"
            self._demand(Constraint(Rule.PIN, text, *key), start == at)
        if job.release is not None and job.release > p.now:
            after = (job.release - p.now) / 1000
            text = f"job {job.job_id} is released {after:g} s from now"
            self._demand(Constraint(Rule.RELEASE, text, job.job_id), start >= job.release - p.now)
        if job.due_is_hard and job.due is not None:
            text = f"job {job.job_id} has to end within {(job.due - p.now) / 1000:g} s"
            self._demand(Constraint(Rule.DUE_DATE, text, job.job_id), end <= job.due - p.now)
        if p.horizon is not None:
            text = f"everything has to end within {(p.horizon - p.now) / 1000:g} s"
            self._demand(Constraint(Rule.HORIZON, text), end <= p.horizon - p.now)

    def _order(self, job: Job, operation: Operation) -> None:
        p = self._problem
        key = (job.job_id, operation.operation_id)
        before = [(job.job_id, o) for o in operation.predecessors]
        for name in job.predecessors:
            before += [(name, o.operation_id) for o in p.job_by_id[name].operations]
        for other in before:
            text = f"{'/'.join(key)} comes after {'/'.join(other)}"
            rule = Constraint(Rule.PREDECESSOR, text, *key, other_id=other[0])
            if other in self._end:
                self._demand(rule, self._start[key] >= self._end[other])
            elif other in p.fixed_by_key:
                self._demand(rule, self._start[key] >= p.fixed_by_key[other].end - p.now)

    def _lines(self) -> None:
        p = self._problem
        for machine_id, work in self._work.items():
            machine = p.machine_by_id[machine_id]
            stops = []
            for window in machine.downtimes:
                text = f"{machine_id} is down: {window.label or 'downtime'}"
                rule = Constraint(Rule.DOWNTIME, text, machine_id=machine_id, window=window)
                stops.append((rule, window.start, window.end))
            if machine.is_stopped:
                until = machine.state_until or p.now + self._limit
                text = f"{machine_id} is {machine.state.name} {machine.state_reason}".rstrip()
                rule = Constraint(Rule.MACHINE_STATE, text, machine_id=machine_id)
                stops.append((rule, p.now, max(until, p.now)))
            if machine.calendar:
                rule = Constraint(Rule.CALENDAR, f"calendar of {machine_id}", machine_id=machine_id)
                reached = p.now
                for shift in sorted(machine.calendar, key=lambda w: w.start):
                    if shift.start > reached:
                        stops.append((rule, reached, shift.start))
                    reached = max(reached, shift.end)
                stops.append((rule, reached, max(p.now + self._limit, reached)))
            for fact in p.fixed:
                holds = p.operation_by_key[fact.key].resource_ids
                if fact.end > p.now and machine_id in (fact.machine_id, *holds):
                    text = f"{fact.job_id}/{fact.operation_id} runs or is frozen on {machine_id}"
                    rule = Constraint(Rule.FROZEN, text, *fact.key, machine_id)
                    stops.append((rule, fact.start, fact.end))
            if machine.capacity == 1:
                self._together(Constraint(
                    Rule.CAPACITY, f"{machine_id} does one thing at a time", machine_id=machine_id
                ), work)  # fmt: skip
            for rule, start, end in stops:
                self._keep_clear(rule, start - p.now, end - p.now, work)
        for first, second in sorted(p.forbidden_pairs):
            rule = Constraint(
                Rule.FORBIDDEN_PAIR, f"{first} and {second} may not run together",
                machine_id=first, other_id=second,
            )  # fmt: skip
            self._together(rule, [*self._work.get(first, []), *self._work.get(second, [])])

    def _together(self, rule: Constraint, work: list[cp_model.IntervalVar]) -> None:
        """No two at the same time, if the rule holds."""
        if len(work) > 1 and self._literal(rule) is not None:
            # no_overlap takes no literal: the rule holds always, and is named if it is needed
            self.cp.add_no_overlap(work)

    def _keep_clear(
        self, rule: Constraint, start: int, end: int, work: list[cp_model.IntervalVar]
    ) -> None:
        literal = self._literal(rule)
        begin, length = max(start, 0), min(end, 4 * self._limit) - max(start, 0)
        if literal is None or length <= 0:
            return
        stop = self.cp.new_optional_fixed_size_interval_var(begin, length, literal, "")
        for interval in work:
            self.cp.add_no_overlap([interval, stop])
