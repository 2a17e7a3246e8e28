"""The value of a plan: J = w_u U - w_t T - w_e E, larger is better.

With C the last end, all times from `now` on:

U  utilisation: standard work content of all operations in the plan, over the time that the
   production machines are available in [now, C] (calendar, less downtimes and stops, times capacity
   and, for machines faster than standard, times speed_factor). The work content does not depend on
   the machine that is chosen, so slow machines don't raise it. 0..1.
T  tardiness: sum over jobs with a due date of weight * max(0, end - due) / allowed, over the sum
   of their weights; allowed = max(due - max(release, now), standard work of the job). 1 means that
   the average job takes twice the time it was given.
E  energy: cost of energy (power while working and setting up, idle power while available and idle
   in [now, C]) over the cost if every operation ran on its hungriest machine at the dearest price.

All terms are free of units and do not depend on the plan except through what they measure.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from shopfloor.scheduling.problem import (
    Assignment,
    Job,
    Machine,
    MachineKind,
    Problem,
    Weights,
)

FAR = 1 << 50
"""Later than any plan, milliseconds from now."""

_KWH = 1.0 / 3_600_000.0  # kW * ms to kWh


@dataclass(frozen=True)
class Score:
    """A plan's value and what it consists of."""

    objective: float
    utilisation: float
    tardiness: float
    energy: float
    makespan_s: float
    late_jobs: int
    total_tardiness_s: float
    energy_kwh: float
    energy_cost: float
    changed_fraction: float = 0.0


class Steps:
    """The integral from 0 of a step function given as (start, end, rate) pieces that add up."""

    def __init__(self, pieces: Iterable[tuple[int, int, float]]) -> None:
        change: dict[int, float] = defaultdict(float)
        for start, end, rate in pieces:
            if end > max(start, 0):
                change[max(start, 0)] += rate
                change[end] -= rate
        self.times = [0]
        self.values = [0.0]
        self.rates = [0.0]
        rate = 0.0
        for time in sorted(change):
            if time > self.times[-1]:
                step = self.rates[-1] * (time - self.times[-1])
                self.values.append(self.values[-1] + step)
                self.times.append(time)
                self.rates.append(rate)
            rate += change[time]
            self.rates[-1] = rate

    def __call__(self, time: int) -> float:
        """The integral over [0, time]."""
        if time <= 0:
            return 0.0
        i = bisect_right(self.times, time) - 1
        return self.values[i] + self.rates[i] * (time - self.times[i])

    def rate(self, time: int) -> float:
        """The step function itself."""
        return self.rates[max(bisect_right(self.times, time) - 1, 0)]


def blocked(machine: Machine, now: int) -> list[tuple[int, int]]:
    """When it may not work, as disjoint spans in milliseconds from `now`, the last may end FAR."""
    spans = [(w.start - now, w.end - now) for w in machine.downtimes]
    if machine.is_stopped:
        until = FAR if machine.state_until is None else machine.state_until - now
        spans.append((-FAR, until))
    if machine.calendar:
        reached = -FAR
        for window in sorted(machine.calendar, key=lambda w: w.start):
            if window.start - now > reached:
                spans.append((reached, window.start - now))
            reached = max(reached, window.end - now)
        spans.append((reached, FAR))
    merged: list[tuple[int, int]] = []
    for start, end in sorted(s for s in spans if s[1] > 0):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _free(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    free, reached = [], 0
    for start, end in spans:
        if start > reached:
            free.append((reached, start))
        reached = max(reached, end)
    return [*free, (reached, FAR)] if reached < FAR else free


class Objective:
    """The terms of J for one problem, prepared so that a plan is valued in microseconds."""

    def __init__(self, problem: Problem) -> None:
        self.now = problem.now
        self.weights: Weights = problem.weights
        production = [m for m in problem.machines if m.kind is MachineKind.PRODUCTION]
        prices = _prices(problem)
        self.price = Steps(prices)
        free = {m.machine_id: _free(blocked(m, problem.now)) for m in production}
        self.available = Steps(
            (start, end, float(m.capacity * max(1.0, m.speed_factor)))
            for m in production
            for start, end in free[m.machine_id]
        )
        self.idle = Steps(
            (max(start, low), min(end, high), m.idle_power_kw * price)
            for m in production
            if m.idle_power_kw
            for start, end in free[m.machine_id]
            for low, high, price in prices
        )
        self.idle_kw = Steps(
            (start, end, m.idle_power_kw) for m in production for start, end in free[m.machine_id]
        )
        self.net_power = [max(m.power_kw - m.idle_power_kw, 0.0) for m in problem.machines]
        self.index = {m.machine_id: i for i, m in enumerate(problem.machines)}
        self.work = float(_work(problem))
        self.energy_scale = _energy_reference(problem, max((p for _, _, p in prices), default=0.0))
        weighed = [j for j in problem.jobs if j.due is not None and _is_planned(problem, j)]
        total = sum(j.weight for j in weighed)
        self.due = {j.job_id: j.due - problem.now for j in weighed if j.due is not None}
        self.lateness_cost = {j.job_id: j.weight / (total * _allowed(problem, j)) for j in weighed}
        self.weight = {j.job_id: j.weight for j in weighed}

    def utilisation(self, makespan: int) -> float:
        """U for a plan that ends `makespan` ms from now."""
        available = self.available(makespan)
        return min(self.work / available, 1.0) if available > 0 else 0.0

    def working_cost(self, machine: int, start: int, end: int) -> float:
        """Cost of working above that of being idle, on the machine of that index."""
        return self.net_power[machine] * (self.price(end) - self.price(start)) * _KWH

    def total(self, makespan: int, tardiness: float, working_cost: float) -> float:
        """J from its parts; `tardiness` is T, `working_cost` the sum over operations."""
        w = self.weights
        cost = working_cost + self.idle(makespan) * _KWH
        return (
            w.utilisation * self.utilisation(makespan)
            - w.tardiness * tardiness
            - w.energy * (cost / self.energy_scale if self.energy_scale else 0.0)
        )

    def score(self, assignments: Iterable[Assignment], changed_fraction: float = 0.0) -> Score:
        """All figures of a plan."""
        ends: dict[str, int] = defaultdict(int)
        makespan, cost, kwh = 0, 0.0, 0.0
        for a in assignments:
            start, end, m = a.start - self.now, a.end - self.now, self.index[a.machine_id]
            ends[a.job_id] = max(ends[a.job_id], end)
            makespan = max(makespan, end)
            cost += self.working_cost(m, start, end)
            kwh += self.net_power[m] * (end - max(start, 0)) * _KWH
        late = {j: ends[j] - due for j, due in self.due.items() if ends[j] > due}
        tardiness = sum((late[j] * self.lateness_cost[j] for j in late), 0.0)
        cost_all = cost + self.idle(makespan) * _KWH
        return Score(
            objective=self.total(makespan, tardiness, cost),
            utilisation=self.utilisation(makespan),
            tardiness=tardiness,
            energy=cost_all / self.energy_scale if self.energy_scale else 0.0,
            makespan_s=makespan / 1000.0,
            late_jobs=len(late),
            total_tardiness_s=sum(late[j] * self.weight[j] for j in late) / 1000.0,
            energy_kwh=kwh + self.idle_kw(makespan) * _KWH,
            energy_cost=cost_all,
            changed_fraction=changed_fraction,
        )


def _prices(problem: Problem) -> list[tuple[int, int, float]]:
    found, reached = [], -FAR
    for window in sorted(problem.tariff, key=lambda w: w.start):
        start, end = window.start - problem.now, window.end - problem.now
        found += [(reached, start, problem.default_price), (start, end, window.value)]
        reached = end
    return [p for p in (*found, (reached, FAR, problem.default_price)) if p[1] > max(p[0], 0)]


def _is_planned(problem: Problem, job: Job) -> bool:
    return job.job_id not in problem.waiting_jobs


def _standard(problem: Problem, job: Job) -> list[int]:
    """Work content of what is left of the job, milliseconds an operation."""
    left = []
    for o in job.operations:
        whole = o.standard_ms or min(o.durations_ms)
        fact = problem.fixed_by_key.get((job.job_id, o.operation_id))
        if fact is not None:  # of what runs already, the share that lies ahead
            ahead = max(fact.end - max(fact.start, problem.now), 0) / (fact.end - fact.start)
            left.append(int(whole * ahead))
        elif o.is_open and _is_planned(problem, job):
            left.append(whole)
    return left


def _work(problem: Problem) -> int:
    return sum(sum(_standard(problem, job)) for job in problem.jobs)


def _allowed(problem: Problem, job: Job) -> int:
    assert job.due is not None
    begin = problem.now if job.release is None else max(job.release, problem.now)
    return max(job.due - begin, sum(_standard(problem, job)), 1)


def _energy_reference(problem: Problem, dearest: float) -> float:
    machines = problem.machine_by_id
    kw_ms = sum(
        max(machines[m].power_kw * d for m, d in zip(o.machine_ids, o.durations_ms, strict=True))
        for _, o in problem.to_plan
    )
    kw_ms += sum(
        machines[a.machine_id].power_kw * max(a.end - max(a.start, problem.now), 0)
        for a in problem.fixed
    )
    return kw_ms * _KWH * dearest
