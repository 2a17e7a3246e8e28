"""A neighbourhood of a schedule as a CP-SAT model.

Some operations are free; the others keep their machine and their turn on it, but may shift in time
(a partial order is relaxed, not a timetable). The model is a good guess and not the truth: see
`cp_losses`, and a set-up only has to fit between two operations. What CP-SAT finds is decoded and
valued exactly, so a bad guess costs time and never quality. Where nothing had to be guessed,
`is_exact` is true: then the last end is all that counts, and the model's bound is a bound.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from itertools import pairwise

from ortools.sat.python import cp_model

from shopfloor.scheduling.cp_losses import add_energy, add_stability, minimise
from shopfloor.scheduling.cp_part import Linear, Part, common_tick
from shopfloor.scheduling.cp_setups import add_setups, setup_variable
from shopfloor.scheduling.decoder import Candidate, Schedule
from shopfloor.scheduling.model import Model


class Neighbourhood:
    """The CP-SAT model around `schedule` with the operations in `free` to be placed anew."""

    def __init__(self, model: Model, schedule: Schedule, free: Iterable[int]) -> None:
        self.model = model
        self.schedule = schedule
        tick = common_tick(model)
        everything = frozenset(free)
        # room to move work around; where only the last end counts it must not get later
        slack = 0 if model.only_makespan else max(model.standard, default=0)
        limit = -(-(schedule.makespan + slack) // tick)
        self.part = Part(model, schedule, everything, tick, limit)
        self._intervals: dict[int, list[cp_model.IntervalVar]] = defaultdict(list)
        self._work_of: dict[int, list[cp_model.IntervalVar]] = defaultdict(list)
        for i in range(model.n):
            self._operation(i)
        for i in range(model.n):
            for p in model.before[i]:
                self.part.cp.add(self.part.starts[i] >= self.part.ends[p])
        self._lines()
        self._turns()
        if model.has_setups:
            add_setups(self.part)
        only_makespan = minimise(self.part)
        self.is_exact = only_makespan and not model.has_setups and len(everything) == model.n

    def solve(
        self,
        limit_s: float,
        seed: int,
        workers: int = 1,
        on_solution: Callable[[Candidate, int], None] | None = None,
    ) -> tuple[int, Candidate | None, int]:
        """CP-SAT status, the last candidate that it found, if any, and the bound.

        The bound is the least last end in milliseconds, and means nothing unless `is_exact`.
        on_solution: called with each candidate and the bound.
        """
        solver = cp_model.CpSolver()
        solver.parameters.max_time_in_seconds = limit_s
        solver.parameters.num_workers = workers
        solver.parameters.random_seed = seed
        if len(self.part.free) < self.model.n:  # small and many: no time for what pays off later
            solver.parameters.symmetry_level = 0
            solver.parameters.linearization_level = 0
        # alone, a worker would never look at neighbourhoods of its own
        solver.parameters.interleave_search = workers == 1 and self.is_exact
        watch = None if on_solution is None else _Watch(self, on_solution)
        status = solver.solve(self.part.cp, watch)
        bound = self.bound_ms(solver.best_objective_bound)
        if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
            return int(status), None, bound
        return int(status), self.candidate(solver.value, solver.boolean_value), bound

    def bound_ms(self, objective_bound: float) -> int:
        """CP-SAT's bound as the least last end, milliseconds."""
        return max(round(objective_bound), 0) * self.part.tick if self.is_exact else 0

    def candidate(
        self,
        value: Callable[[Linear], int],
        is_true: Callable[[cp_model.LiteralT], bool],
    ) -> Candidate:
        """What CP-SAT has found."""
        model, part = self.model, self.part
        start = [value(s) * part.tick for s in part.starts]
        choice = []
        for i in range(model.n):
            numbers = [k for k, literal in part.choice[i].items() if is_true(literal)]
            choice.append(numbers[0] if numbers else part.present_option(i))
        rank = {i: r for r, i in enumerate(model.topological())}
        order = sorted(range(model.n), key=lambda i: (start[i], rank[i]))
        return Candidate(order, choice, start)

    def _operation(self, i: int) -> None:
        model, part, schedule = self.model, self.part, self.schedule
        cp = part.cp
        present = part.present_option(i)
        low = part.ticks(model.ready[i])
        high = max(min(part.limit, model.latest[i] // part.tick), low)
        pin = model.pinned_start[i]
        if pin is not None:
            low = max(low, pin // part.tick)
            start: Linear = cp.new_int_var(low, low, "")
        else:
            start = cp.new_int_var(low, high, "")
            cp.add_hint(start, min(max(schedule.start[i] // part.tick, low), high))
        part.starts.append(start)
        setup = setup_variable(part, i)
        part.setups.append(setup)
        options = range(len(model.options[i])) if i in part.free else (present,)
        literals: dict[int, cp_model.LiteralT] = {}
        if len(options) == 1 and setup is None:
            m, duration = model.options[i][options[0]]
            end: Linear = start + part.ticks(duration)
            self._work(m, cp.new_fixed_size_interval_var(start, part.ticks(duration), ""))
        else:
            end = cp.new_int_var(low, max(high, low), "")
            cp.add_hint(end, min(max(part.ticks(schedule.end[i]), low), max(high, low)))
            for k in options:
                m, duration = model.options[i][k]
                size = part.ticks(duration) if setup is None else setup + part.ticks(duration)
                if len(options) == 1:
                    self._work(m, cp.new_interval_var(start, size, end, ""))
                    break
                chosen = literals[k] = cp.new_bool_var("")
                cp.add_hint(chosen, k == present)
                self._work(m, cp.new_optional_interval_var(start, size, end, chosen, ""))
            if literals:
                cp.add_exactly_one(literals.values())
        if model.resources[i]:
            whole = cp.new_interval_var(start, cp.new_int_var(0, part.limit, ""), end, "")
            for resource in model.resources[i]:
                self._intervals[resource].append(whole)
        cp.add(end <= high)
        part.ends.append(end)
        part.choice.append(literals)
        if model.objective.weights.energy and model.objective.energy_scale and i in part.free:
            add_energy(part, i)
        if model.move_cost:
            add_stability(part, i)

    def _work(self, m: int, interval: cp_model.IntervalVar) -> None:
        self._intervals[m].append(interval)
        if self.model.partners[m]:
            self._work_of[m].append(interval)

    def _lines(self) -> None:
        """Capacity of every line with its stops, and pairs that may not run together."""
        model, cp = self.model, self.part.cp
        fixed = [[(row[0], row[1]) for row in rows] for rows in model.fixed_rows]
        for m, intervals in self._intervals.items():
            if model.capacity[m] == 1:
                taken = self._spans([*model.blocks[m], *fixed[m]])
                cp.add_no_overlap([*intervals, *taken])
                continue
            stops = self._spans(model.blocks[m])
            work = [*intervals, *(self._span(*span) for span in fixed[m])]
            demands = [1] * len(work) + [model.capacity[m]] * len(stops)
            cp.add_cumulative([*work, *stops], demands, model.capacity[m])
        for m, partners in enumerate(model.partners):
            for other in partners:
                if other > m and model.capacity[m] == model.capacity[other] == 1:
                    taken = self._spans([*fixed[m], *fixed[other]])
                    cp.add_no_overlap([*self._work_of[m], *self._work_of[other], *taken])

    def _spans(self, spans: Iterable[tuple[int, int]]) -> list[cp_model.IntervalVar]:
        """Fixed intervals over the union of the spans."""
        merged: list[tuple[int, int]] = []
        for start, end in sorted(spans):
            if merged and start <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(merged[-1][1], end))
            else:
                merged.append((start, end))
        return [self._span(start, end) for start, end in merged if end > 0]

    def _span(self, start: int, end: int) -> cp_model.IntervalVar:
        part = self.part
        low = max(start, 0) // part.tick
        high = max(min(part.ticks(end), 2 * part.limit), low)
        return part.cp.new_fixed_size_interval_var(low, high - low, "")

    def _turns(self) -> None:
        """Operations that are not free keep their order on a line."""
        model, part, schedule = self.model, self.part, self.schedule
        lines: dict[int, list[int]] = defaultdict(list)
        for i in range(model.n):
            if i not in part.free:
                for m in (schedule.machine[i], *model.resources[i]):
                    if model.capacity[m] == 1:
                        lines[m].append(i)
        for rows in lines.values():
            rows.sort(key=schedule.start.__getitem__)
            for first, second in pairwise(rows):
                part.cp.add(part.starts[second] >= part.ends[first])


class _Watch(cp_model.CpSolverSolutionCallback):
    def __init__(self, around: Neighbourhood, tell: Callable[[Candidate, int], None]) -> None:
        super().__init__()
        self._around, self._tell = around, tell

    def on_solution_callback(self) -> None:
        """CP-SAT has a better one."""
        bound = self._around.bound_ms(self.best_objective_bound)
        self._tell(self._around.candidate(self.value, self.boolean_value), bound)
