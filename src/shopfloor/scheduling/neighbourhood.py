"""A neighbourhood of a schedule as a CP-SAT model.

Some operations are free; the others keep their machine and their turn on it, but may shift in time
(a partial order is relaxed, not a timetable). The model is a good guess and not the truth: energy
is priced where the middle of an operation lies, utilisation is linear around the present makespan,
a set-up only has to fit between two operations. What CP-SAT finds is decoded and valued exactly,
so a bad guess costs time and never quality. Where nothing had to be guessed, `is_exact` is true.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from itertools import pairwise

from ortools.sat.python import cp_model

from shopfloor.scheduling.decoder import Candidate, Schedule
from shopfloor.scheduling.model import Model
from shopfloor.scheduling.objective import FAR

Linear = cp_model.LinearExpr

_UNITS = 1_000_000
"""Objective units for a difference of 1 in J."""


class Neighbourhood:
    """The CP-SAT model around `schedule` with the operations in `free` to be placed anew."""

    def __init__(self, model: Model, schedule: Schedule, free: Iterable[int]) -> None:
        self.model = model
        self.schedule = schedule
        self.free = frozenset(free)
        self.cp = cp_model.CpModel()
        self.tick = _tick(model)
        self.is_exact = not model.has_setups and not model.objective.weights.energy
        self._starts: list[Linear] = []
        self._ends: list[Linear] = []
        self._setup_vars: list[cp_model.IntVar | None] = []
        self._choice: list[dict[int, cp_model.LiteralT]] = []
        self._intervals: dict[int, list[cp_model.IntervalVar]] = defaultdict(list)
        self._work_of: dict[int, list[cp_model.IntervalVar]] = defaultdict(list)
        self._loss: list[tuple[float, Linear]] = []
        # room to move work around, and never more than what stands
        slack = max(model.standard, default=0)
        self.limit = self._ticks(schedule.makespan + slack)
        for i in range(model.n):
            self._operation(i)
        self._precedence()
        self._lines()
        self._turns()
        if model.has_setups:
            self._setups()
        self._objective()

    def solve(
        self,
        limit_s: float,
        seed: int,
        workers: int = 1,
        on_solution: Callable[[Candidate], None] | None = None,
    ) -> tuple[int, Candidate | None]:
        """CP-SAT status, and the last candidate that it found, if any."""
        solver = cp_model.CpSolver()
        solver.parameters.max_time_in_seconds = limit_s
        solver.parameters.num_workers = workers
        solver.parameters.random_seed = seed
        solver.parameters.symmetry_level = 0
        solver.parameters.linearization_level = 0
        watch = None if on_solution is None else _Watch(self, on_solution)
        status = solver.solve(self.cp, watch)
        if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
            return int(status), None
        return int(status), self._candidate(solver.value, solver.boolean_value)

    def _candidate(
        self,
        value: Callable[[Linear], int],
        is_true: Callable[[cp_model.LiteralT], bool],
    ) -> Candidate:
        model = self.model
        start = [value(s) * self.tick for s in self._starts]
        choice = []
        for i in range(model.n):
            numbers = [k for k, literal in self._choice[i].items() if is_true(literal)]
            choice.append(numbers[0] if numbers else self._present_option(i))
        rank = {i: r for r, i in enumerate(model.topological())}
        order = sorted(range(model.n), key=lambda i: (start[i], rank[i]))
        return Candidate(order, choice, start)

    def _present_option(self, i: int) -> int:
        machine = self.schedule.machine[i]
        return next(k for k, (m, _) in enumerate(self.model.options[i]) if m == machine)

    def _ticks(self, ms: int) -> int:
        return -(-ms // self.tick)

    def _operation(self, i: int) -> None:
        model, cp, schedule = self.model, self.cp, self.schedule
        present = self._present_option(i)
        low = self._ticks(model.ready[i])
        high = max(min(self.limit, model.latest[i] // self.tick), low)
        pin = model.pinned_start[i]
        if pin is not None:
            low = max(low, pin // self.tick)
            start: Linear = cp.new_int_var(low, low, "")
        else:
            start = cp.new_int_var(low, high, "")
            cp.add_hint(start, min(max(schedule.start[i] // self.tick, low), high))
        options = range(len(model.options[i])) if i in self.free else (present,)
        self._starts.append(start)
        setup = self._setup_of(i)
        literals: dict[int, cp_model.LiteralT] = {}
        if len(options) == 1:
            m, duration = model.options[i][options[0]]
            length = self._ticks(duration)
            if setup is None:
                end: Linear = start + length
                self._add_interval(i, m, cp.new_fixed_size_interval_var(start, length, ""))
            else:
                end = self._end_of(i, low)
                cp.add(end == start + setup + length)
                self._add_interval(i, m, cp.new_interval_var(start, setup + length, end, ""))
            whole = cp.new_interval_var(start, end - start, end, "") if setup is None else None
        else:
            end = self._end_of(i, low)
            size = cp.new_int_var(0, self.limit, "")
            cp.add_hint(size, self._ticks(schedule.end[i] - schedule.start[i]))
            for k in options:
                m, duration = model.options[i][k]
                literal = cp.new_bool_var("")
                literals[k] = literal
                cp.add_hint(literal, k == present)
                work = self._ticks(duration)
                cp.add(size == (work if setup is None else setup + work)).only_enforce_if(literal)
                interval = cp.new_optional_interval_var(start, size, end, literal, "")
                self._add_interval(i, m, interval)
            cp.add_exactly_one(literals.values())
            whole = cp.new_interval_var(start, size, end, "")
        for resource in model.resources[i]:
            if whole is None:
                span = cp.new_int_var(0, self.limit, "")
                whole = cp.new_interval_var(start, span, end, "")
            self._intervals[resource].append(whole)
        cp.add(end <= high)
        self._ends.append(end)
        self._choice.append(literals)
        if model.objective.weights.energy and model.objective.energy_scale and i in self.free:
            self._energy(i, start, present, literals)
        if model.move_cost and model.base_place[i] is not None:
            self._stability(i, start, present, literals)

    def _end_of(self, i: int, low: int) -> cp_model.IntVar:
        end = self.cp.new_int_var(low, self.limit, "")
        self.cp.add_hint(end, self._ticks(self.schedule.end[i]))
        return end

    def _setup_of(self, i: int) -> cp_model.IntVar | None:
        """A variable for the set-up; None where there can be none."""
        model = self.model
        longest = 0
        if model.has_setups and model.family[i] >= 0:
            longest = max(row[model.family[i]] for row in model.setup)
        if not longest:
            self._setup_vars.append(None)
            return None
        setup = self.cp.new_int_var(0, self._ticks(longest), "")
        self.cp.add_hint(setup, self._ticks(self.schedule.setup[i]))
        self._setup_vars.append(setup)
        return setup

    def _add_interval(self, i: int, m: int, interval: cp_model.IntervalVar) -> None:
        self._intervals[m].append(interval)
        if self.model.partners[m]:
            self._work_of[m].append(interval)

    def _energy(
        self,
        i: int,
        work: Linear,
        present: int,
        literals: dict[int, cp_model.LiteralT],
    ) -> None:
        """Cost of energy on each machine, by the price in which the middle of the work lies."""
        model, cp = self.model, self.cp
        objective = model.objective
        scale = objective.weights.energy / objective.energy_scale / 3_600_000.0
        price = objective.price
        last = self.limit * self.tick
        pieces = [
            (start, end, rate)
            for start, end, rate in zip(
                price.times, [*price.times[1:], FAR], price.rates, strict=True
            )
            if start <= last and end > model.ready[i]
        ]
        for k, literal in literals.items() if literals else ((present, None),):
            m, duration = model.options[i][k]
            modes = []
            for start, end, rate in pieces:
                if literal is not None and len(pieces) == 1:
                    mode: cp_model.LiteralT = literal
                else:
                    mode = cp.new_bool_var("")
                    middle = duration // 2
                    cp.add(work >= self._ticks(start - middle)).only_enforce_if(mode)
                    cp.add(work <= max((end - middle) // self.tick, 0)).only_enforce_if(mode)
                    at = self.schedule.start[i] + middle
                    cp.add_hint(mode, k == present and start <= at < end)
                modes.append(mode)
                self._loss.append((scale * objective.net_power[m] * duration * rate, _linear(mode)))
            if literal is None:
                cp.add_exactly_one(modes)
            elif len(pieces) > 1:
                cp.add(sum(modes) == literal)

    def _stability(
        self,
        i: int,
        start: Linear,
        present: int,
        literals: dict[int, cp_model.LiteralT],
    ) -> None:
        place = self.model.base_place[i]
        assert place is not None
        machine, at = place
        option = next((k for k, o in enumerate(self.model.options[i]) if o[0] == machine), None)
        if option is None or (not literals and option != present):
            return
        stays = self.cp.new_bool_var("")
        target = self._ticks(at)
        if target > self.limit:
            return
        self.cp.add(start == target).only_enforce_if(stays)
        if literals:
            self.cp.add_implication(stays, literals[option])
        self.cp.add_hint(stays, self.schedule.start[i] == at)
        self._loss.append((-self.model.move_cost, _linear(stays)))

    def _precedence(self) -> None:
        for i in range(self.model.n):
            for p in self.model.before[i]:
                self.cp.add(self._starts[i] >= self._ends[p])

    def _lines(self) -> None:
        """Capacity of every line with its stops, and pairs that may not run together."""
        model, cp = self.model, self.cp
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
        low = max(start, 0) // self.tick
        high = max(min(self._ticks(end), 2 * self.limit), low)
        return self.cp.new_fixed_size_interval_var(low, high - low, "")

    def _turns(self) -> None:
        """Operations that are not free keep their order on a line."""
        model, schedule = self.model, self.schedule
        lines: dict[int, list[int]] = defaultdict(list)
        for i in range(model.n):
            if i not in self.free:
                for m in (schedule.machine[i], *model.resources[i]):
                    if model.capacity[m] == 1:
                        lines[m].append(i)
        for rows in lines.values():
            rows.sort(key=schedule.start.__getitem__)
            for first, second in pairwise(rows):
                self.cp.add(self._starts[second] >= self._ends[first])

    def _setups(self) -> None:
        """A round trip over the operations with a family on each machine gives the set-ups."""
        model, cp = self.model, self.cp
        on: dict[int, list[tuple[int, cp_model.LiteralT | None]]] = defaultdict(list)
        for i in range(model.n):
            if self._setup_vars[i] is None and model.family[i] < 0:
                continue
            for k, literal in self._choice[i].items():
                on[model.options[i][k][0]].append((i, literal))
            if not self._choice[i]:
                on[self.schedule.machine[i]].append((i, None))
        into: dict[int, list[tuple[int, cp_model.LiteralT]]] = defaultdict(list)
        for m, rows in on.items():
            self._round_trip(m, rows, into)
        for i, setup in enumerate(self._setup_vars):
            if setup is not None:
                cp.add(setup == sum(gap * literal for gap, literal in into[i]))

    def _round_trip(
        self,
        m: int,
        rows: list[tuple[int, cp_model.LiteralT | None]],
        into: dict[int, list[tuple[int, cp_model.LiteralT]]],
    ) -> None:
        model, cp, schedule = self.model, self.cp, self.schedule
        present = sorted(
            (i for i, _ in rows if schedule.machine[i] == m), key=schedule.start.__getitem__
        )
        following = dict(pairwise([-1, *present, -1])) if present else {}
        fixed = max((row for row in model.fixed_rows[m] if row[2] >= 0), default=None)
        arcs: list[tuple[int, int, cp_model.LiteralT]] = []
        for node, (i, here) in enumerate(rows, start=1):
            first, last = cp.new_bool_var(""), cp.new_bool_var("")
            cp.add_hint(first, bool(present) and present[0] == i)
            cp.add_hint(last, bool(present) and present[-1] == i)
            arcs += [(0, node, first), (node, 0, last)]
            gap = self._ticks(model.setup[fixed[2]][model.family[i]]) if fixed is not None else 0
            into[i].append((gap, first))
            if here is not None:
                arcs.append((node, node, ~here))
            for other, (j, _) in enumerate(rows, start=1):
                both_stay = i not in self.free and j not in self.free
                if other == node or (both_stay and schedule.start[i] > schedule.start[j]):
                    continue
                if self._comes_before(j, i):
                    continue
                arc = cp.new_bool_var("")
                cp.add_hint(arc, following.get(i) == j)
                arcs.append((node, other, arc))
                cp.add(self._starts[j] >= self._ends[i]).only_enforce_if(arc)
                into[j].append((self._ticks(model.setup[model.family[i]][model.family[j]]), arc))
        if all(here is not None for _, here in rows):
            empty = cp.new_bool_var("")
            cp.add_hint(empty, not present)
            arcs.append((0, 0, empty))
        cp.add_circuit(arcs)

    def _comes_before(self, first: int, second: int) -> bool:
        return second in self.model.after[first]

    def _objective(self) -> None:
        """Minimise the loss of J, linear around the present makespan, and ask for less of it."""
        model, objective, cp = self.model, self.model.objective, self.cp
        weights = objective.weights
        now = self.schedule.makespan
        available = objective.available(now)
        slope = 0.0
        if available > 0:
            rate = objective.available.rate(now)
            slope = weights.utilisation * objective.work * rate / available**2
        if objective.energy_scale:
            idle = objective.idle.rate(now) / 3_600_000.0
            slope += weights.energy * idle / objective.energy_scale
        loss: list[tuple[float, Linear]] = [(w, e) for w, e in self._loss]
        if slope > 0:
            makespan = cp.new_int_var(0, self.limit, "")
            cp.add_hint(makespan, min(self._ticks(now), self.limit))
            for i in range(model.n):
                if not model.after[i]:
                    cp.add(makespan >= self._ends[i])
            cp.add(makespan >= self._ticks(model.fixed_makespan))
            loss.append((slope * self.tick, makespan))
        for rows, fixed_end, due, cost in model.due_rows:
            factor = weights.tardiness * cost * self.tick
            if not rows or factor <= 0 or self.limit * self.tick <= due:
                continue
            late = cp.new_int_var(0, self.limit, "")
            last = max(fixed_end, *(self.schedule.end[i] for i in rows))
            cp.add_hint(late, max(self._ticks(last) - due // self.tick, 0))
            for i in rows:
                if not any(model.job[k] == model.job[i] for k in model.after[i]):
                    cp.add(late >= self._ends[i] - due // self.tick)
            if fixed_end > due:
                cp.add(late >= self._ticks(fixed_end - due))
            loss.append((factor, late))
        if not loss:
            return
        # whole numbers with six digits for the whole range, or one unit a tick where that is all
        if len(loss) == 1:
            cp.minimize(loss[0][1])
            return
        smallest = min(abs(w) for w, _ in loss if w) if any(w for w, _ in loss) else 1.0
        scale = max(_UNITS, min(1.0 / smallest, 1000.0 * _UNITS))
        cp.minimize(sum(round(w * scale) * e for w, e in loss if round(w * scale)))


class _Watch(cp_model.CpSolverSolutionCallback):
    def __init__(self, part: Neighbourhood, on_solution: Callable[[Candidate], None]) -> None:
        super().__init__()
        self._part, self._on_solution = part, on_solution

    def on_solution_callback(self) -> None:
        """CP-SAT has a better one."""
        self._on_solution(self._part._candidate(self.value, self.boolean_value))


def _tick(model: Model) -> int:
    """The largest span that divides every time of the problem, milliseconds."""
    tick = 0
    for rows in model.options:
        tick = math.gcd(tick, *(d for _, d in rows))
    for line in model.blocks:
        tick = math.gcd(tick, *(t for span in line for t in span if 0 < t < FAR))
    for rows_of_line in model.fixed_rows:
        tick = math.gcd(tick, *(time for row in rows_of_line for time in row[:2]))
    tick = math.gcd(tick, *(s for row in model.setup for s in row))
    tick = math.gcd(tick, *model.ready, *(p for p in model.pinned_start if p is not None))
    tick = math.gcd(tick, *(t for t in model.latest if t < FAR))
    return max(tick, 1)


def _linear(literal: cp_model.LiteralT) -> Linear:
    """0 or 1 as an expression."""
    return cp_model.LinearExpr.sum([literal])
