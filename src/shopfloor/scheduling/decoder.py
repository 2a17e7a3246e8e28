"""Candidates to schedules.

A candidate is an order of operations, a machine each, and a time before which each is not started;
decoding it places one after the other as early as it fits, so every rule is kept by construction,
save the three that can only be asked for: pinned starts, hard due dates and the horizon. What is
missed there is summed up as `violation`, and a schedule with a violation never leaves the solvers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shopfloor.scheduling.model import Model
from shopfloor.scheduling.objective import FAR
from shopfloor.scheduling.problem import Assignment, OperationState, in_plan_order
from shopfloor.scheduling.timeline import Timeline


@dataclass
class Candidate:
    """What search changes: an order, machine option numbers, and times not to start before."""

    order: list[int]
    choice: list[int]
    not_before: list[int]

    def copy(self) -> Candidate:
        """A copy that can be changed."""
        return Candidate(self.order[:], self.choice[:], self.not_before[:])


@dataclass
class Schedule:
    """A decoded candidate. `value` is J less the cost of moves; larger is better."""

    start: list[int]
    end: list[int]
    setup: list[int]
    machine: list[int]
    violation: int
    value: float
    makespan: int

    @property
    def rank(self) -> tuple[int, float]:
        """Larger is better: fewer violations first."""
        return (-self.violation, self.value)


class Decoder:
    """Candidates to schedules, and their value."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.timeline = Timeline(model)
        self.decoded = 0

    def decode(self, candidate: Candidate) -> Schedule:
        """Place the operations in order, which must be topological, each as early as it fits."""
        model, timeline = self.model, self.timeline
        timeline.reset()
        self.decoded += 1
        n = model.n
        start, end, setup, machine = [0] * n, [0] * n, [0] * n, [0] * n
        before, ready, options = model.before, model.ready, model.options
        pinned = model.pinned_start
        earliest, place = timeline.earliest, timeline.place
        choice, not_before = candidate.choice, candidate.not_before
        for i in candidate.order:
            m, duration = options[i][choice[i]]
            est = ready[i] if ready[i] > not_before[i] else not_before[i]
            for p in before[i]:
                if end[p] > est:
                    est = end[p]
            pin = pinned[i]
            if pin is not None and pin > est:
                est = pin
            s, prepared = earliest(i, m, duration, est)
            e = s + prepared + duration
            place(i, m, s, e, prepared)
            start[i], end[i], setup[i], machine[i] = s, e, prepared, m
        return self.valued(start, end, setup, machine)

    def valued(
        self, start: list[int], end: list[int], setup: list[int], machine: list[int]
    ) -> Schedule:
        """The schedule with violation and value; it is not checked."""
        model = self.model
        objective = model.objective
        violation = 0
        for i in range(model.n):
            if end[i] > model.latest[i]:
                violation += min(end[i] - model.latest[i], FAR)
            pin = model.pinned_start[i]
            if pin is not None and start[i] != pin:
                violation += min(abs(start[i] - pin), FAR)
        makespan = max(max(end, default=0), model.fixed_makespan)
        if makespan >= FAR:
            return Schedule(start, end, setup, machine, max(violation, FAR), -1e9, makespan)
        tardiness = 0.0
        for rows, fixed_end, due, cost in model.due_rows:
            last = fixed_end
            for i in rows:
                if end[i] > last:
                    last = end[i]
            if last > due:
                tardiness += (last - due) * cost
        working = model.fixed_cost
        if objective.weights.energy and objective.energy_scale:
            for i in range(model.n):
                working += objective.working_cost(machine[i], start[i], end[i])
        value = objective.total(makespan, tardiness, working)
        if model.move_cost:
            value -= model.move_cost * self.moved(start, machine)
        return Schedule(start, end, setup, machine, violation, value, makespan)

    def moved(self, start: Sequence[int], machine: Sequence[int]) -> int:
        """Operations that are elsewhere or at another time than in the base plan."""
        places = zip(self.model.base_place, machine, start, strict=True)
        return sum(place is not None and place != (m, s) for place, m, s in places)

    def assignments(self, schedule: Schedule) -> tuple[Assignment, ...]:
        """The schedule and the fixed operations as a plan, by start, then machine."""
        problem = self.model.problem
        planned = [
            Assignment(
                job.job_id,
                operation.operation_id,
                problem.machines[schedule.machine[i]].machine_id,
                schedule.start[i] + problem.now,
                schedule.end[i] + problem.now,
                schedule.setup[i],
                OperationState.WAITING,
                pinned=bool(operation.pinned_machine) or operation.pinned_start is not None,
            )
            for i, (job, operation) in enumerate(problem.to_plan)
        ]
        return in_plan_order([*problem.fixed, *planned])

    def candidate_of(self, assignments: Sequence[Assignment]) -> Candidate | None:
        """The candidate that decodes to a plan or better; None where an operation is missing."""
        model = self.model
        found = {model.index_of[a.key]: a for a in assignments if a.key in model.index_of}
        if len(found) < model.n:
            return None
        choice = []
        for i in range(model.n):
            m = model.machine_index.get(found[i].machine_id, -1)
            numbers = [k for k, option in enumerate(model.options[i]) if option[0] == m]
            if not numbers:
                return None
            choice.append(numbers[0])
        rank = {i: r for r, i in enumerate(model.topological())}
        order = sorted(found, key=lambda i: (found[i].start, rank[i]))
        not_before = [max(found[i].start - model.problem.now, 0) for i in range(model.n)]
        return Candidate(order, choice, not_before)


def by_start(schedule: Schedule, order: Sequence[int]) -> list[int]:
    """`order` sorted by start; equal starts keep their turn, so it stays topological."""
    return sorted(order, key=schedule.start.__getitem__)
