"""A problem with everything numbered: what the solvers work on.

Operation `i` is `problem.to_plan[i]`; machine `m` is `problem.machines[m]`; times are milliseconds
from `now`.
"""

from __future__ import annotations

from dataclasses import dataclass

from shopfloor.scheduling.objective import FAR, Objective, blocked
from shopfloor.scheduling.problem import Assignment, Key, Problem


@dataclass(frozen=True)
class Base:
    """The plan to stay close to, and what a moved operation costs."""

    assignments: tuple[Assignment, ...]
    stability_weight: float = 0.0


class Model:
    """The numbered problem. Lists are indexed by operation unless they say otherwise."""

    def __init__(self, problem: Problem, base: Base | None = None) -> None:
        self.problem = problem
        self.objective = Objective(problem)
        now = problem.now
        to_plan = problem.to_plan
        self.n = len(to_plan)
        self.keys: list[Key] = [(j.job_id, o.operation_id) for j, o in to_plan]
        self.index_of = {key: i for i, key in enumerate(self.keys)}
        self.machine_index = {m.machine_id: i for i, m in enumerate(problem.machines)}
        self.options: list[list[tuple[int, int]]] = []
        self.resources: list[tuple[int, ...]] = []
        families = {name: i for i, name in enumerate(problem.setup_families)}
        self.setup = problem.setup_ms
        self.family = [families[o.setup_family] if o.setup_family else -1 for _, o in to_plan]
        self.pinned_start: list[int | None] = []
        self.latest: list[int] = []
        self.standard = [o.standard_ms or min(o.durations_ms) for _, o in to_plan]
        self.job = [j.job_id for j, _ in to_plan]
        horizon = FAR if problem.horizon is None else problem.horizon - now
        for job, operation in to_plan:
            rows = [
                (self.machine_index[m], d)
                for m, d in zip(operation.machine_ids, operation.durations_ms, strict=True)
                if not operation.pinned_machine or m == operation.pinned_machine
            ]
            self.options.append(rows)
            self.resources.append(tuple(self.machine_index[r] for r in operation.resource_ids))
            pin = operation.pinned_start
            self.pinned_start.append(None if pin is None else pin - now)
            hard = job.due - now if job.due_is_hard and job.due is not None else FAR
            self.latest.append(min(hard, horizon))
        self._precedence()
        self._lines()
        self._jobs()
        self.base = base
        self.base_place: list[tuple[int, int] | None] = [None] * self.n
        self.base_setup = [0] * self.n
        self.move_cost = 0.0
        if base is not None:
            for a in base.assignments:
                if a.key in self.index_of:
                    place = (self.machine_index.get(a.machine_id, -1), a.start - now)
                    self.base_place[self.index_of[a.key]] = place
                    self.base_setup[self.index_of[a.key]] = a.setup_ms
            known = sum(place is not None for place in self.base_place)
            self.move_cost = base.stability_weight / max(known, 1)

    def _precedence(self) -> None:
        problem, now = self.problem, self.problem.now
        self.before: list[list[int]] = [[] for _ in range(self.n)]
        self.after: list[list[int]] = [[] for _ in range(self.n)]
        self.ready = [0] * self.n
        by_job: dict[str, list[Key]] = {
            j.job_id: [(j.job_id, o.operation_id) for o in j.operations] for j in problem.jobs
        }
        for i, (job, operation) in enumerate(problem.to_plan):
            keys = [(job.job_id, o) for o in operation.predecessors]
            for name in job.predecessors:
                keys += by_job[name]
            ready = 0 if job.release is None else max(job.release - now, 0)
            for key in keys:
                if key in self.index_of:
                    self.before[i].append(self.index_of[key])
                    self.after[self.index_of[key]].append(i)
                elif key in problem.fixed_by_key:
                    ready = max(ready, problem.fixed_by_key[key].end - now)
            self.ready[i] = ready
        # a fixed operation that follows an open one bounds it from above
        for key, fact in problem.fixed_by_key.items():
            operation = problem.operation_by_key[key]
            keys = [(key[0], o) for o in operation.predecessors]
            for name in problem.job_by_id[key[0]].predecessors:
                keys += by_job[name]
            for before in keys:
                if before in self.index_of:
                    i = self.index_of[before]
                    self.latest[i] = min(self.latest[i], fact.start - now)

    def _lines(self) -> None:
        """The timelines before anything is planned: stops, and what is fixed."""
        problem = self.problem
        machines = problem.machines
        self.capacity = [m.capacity for m in machines]
        self.blocks = [blocked(m, problem.now) for m in machines]
        self.partners: list[list[int]] = [[] for _ in machines]
        for first, second in problem.forbidden_pairs:
            a, b = self.machine_index[first], self.machine_index[second]
            self.partners[a].append(b)
            self.partners[b].append(a)
        families = {name: i for i, name in enumerate(problem.setup_families)}
        self.fixed_rows: list[list[tuple[int, int, int, int]]] = [[] for _ in machines]
        for fact in problem.fixed:
            operation = problem.operation_by_key[fact.key]
            family = families[operation.setup_family] if operation.setup_family else -1
            row = (fact.start - problem.now, fact.end - problem.now, family, fact.setup_ms)
            self.fixed_rows[self.machine_index[fact.machine_id]].append(row)
            for resource in operation.resource_ids:
                self.fixed_rows[self.machine_index[resource]].append((row[0], row[1], -1, 0))
        self.has_setups = any(f >= 0 for f in self.family) and any(map(any, self.setup))

    def _jobs(self) -> None:
        """Jobs that have a due date, and what is fixed of each."""
        problem, objective = self.problem, self.objective
        self.fixed_end: dict[str, int] = {}
        self.fixed_cost, self.fixed_makespan = 0.0, 0
        for a in problem.fixed:
            start, end = a.start - problem.now, a.end - problem.now
            self.fixed_end[a.job_id] = max(self.fixed_end.get(a.job_id, 0), end)
            self.fixed_makespan = max(self.fixed_makespan, end)
            m = self.machine_index[a.machine_id]
            self.fixed_cost += objective.working_cost(m, start, end)
        rows: dict[str, list[int]] = {}
        for i, job_id in enumerate(self.job):
            rows.setdefault(job_id, []).append(i)
        self.job_rows = rows
        self.due_rows = [
            (
                rows.get(job_id, []),
                self.fixed_end.get(job_id, 0),
                due,
                objective.lateness_cost[job_id],
            )
            for job_id, due in objective.due.items()
        ]

    @property
    def only_makespan(self) -> bool:
        """Whether the last end is all that counts: the shortest plan is the best."""
        objective, weights = self.objective, self.objective.weights
        return bool(
            weights.utilisation
            and not self.move_cost
            and not (weights.tardiness and self.due_rows)
            and not (weights.energy and objective.energy_scale)
        )

    def remaining_ms(self) -> list[int]:
        """Standard work from each operation to the end of its job, itself included."""
        left = [0] * self.n
        for i in reversed(self.topological()):
            same = [left[k] for k in self.after[i] if self.job[k] == self.job[i]]
            left[i] = self.standard[i] + max(same, default=0)
        return left

    def topological(self) -> list[int]:
        """An order in which every operation comes after its predecessors."""
        waiting = [len(rows) for rows in self.before]
        ready = [i for i in range(self.n) if not waiting[i]]
        for i in ready:
            for k in self.after[i]:
                waiting[k] -= 1
                if not waiting[k]:
                    ready.append(k)
        return ready
