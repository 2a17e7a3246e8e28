"""What each machine does when, and the earliest time at which one more operation fits."""

from __future__ import annotations

from bisect import bisect_right

from shopfloor.scheduling.model import Model
from shopfloor.scheduling.objective import FAR
from shopfloor.scheduling.problem import MachineKind

Row = tuple[int, int, int, int]
"""start, end, family (-1: none), set-up."""


class Timeline:
    """What each machine does when; finds the earliest time at which an operation fits."""

    def __init__(self, model: Model) -> None:
        self.m = model
        count = len(model.capacity)
        machines = model.problem.machines
        # rows of work on lines with capacity above 1 don't exclude each other
        self._counted = [
            model.capacity[k] > 1 or machines[k].kind is MachineKind.RESOURCE for k in range(count)
        ]
        self._start0: list[list[int]] = []
        self._end0: list[list[int]] = []
        self._family0: list[list[int]] = []
        self._setup0: list[list[int]] = []
        for k in range(count):
            rows = [(s, e, -1, 0) for s, e in model.blocks[k]]
            if not self._counted[k]:
                rows += model.fixed_rows[k]
            rows = _apart(rows)
            self._start0.append([r[0] for r in rows])
            self._end0.append([r[1] for r in rows])
            self._family0.append([r[2] for r in rows])
            self._setup0.append([r[3] for r in rows])
        self._work0 = [sorted((r[0], r[1]) for r in model.fixed_rows[k]) for k in range(count)]
        self._tracked = [bool(model.partners[k]) or self._counted[k] for k in range(count)]
        self.reset()

    def reset(self) -> None:
        """Back to stops and fixed operations alone."""
        self.start = [row[:] for row in self._start0]
        self.end = [row[:] for row in self._end0]
        self.family = [row[:] for row in self._family0]
        self.setups = [row[:] for row in self._setup0]
        self.work_start = [[s for s, _ in row] for row in self._work0]
        self.work_end = [[e for _, e in row] for row in self._work0]

    def earliest(self, i: int, m: int, duration: int, est: int) -> tuple[int, int]:
        """(start, set-up) of operation `i` on machine `m` from `est` on; start >= FAR: never."""
        starts, ends = self.start[m], self.end[m]
        count = len(starts)
        k = bisect_right(ends, est)
        model = self.m
        family = model.family[i] if model.has_setups else -1
        others = model.resources[i]
        partners = model.partners[m]
        counted = self._counted[m]
        setup = 0
        while True:
            if family >= 0:
                families = self.family[m]
                p = k - 1
                while p >= 0 and families[p] < 0:
                    p -= 1
                setup = model.setup[families[p]][family] if p >= 0 else 0
            length = setup + duration
            if k < count:
                if est + length > starts[k]:
                    est = max(est, ends[k])
                    k += 1
                    continue
                if family >= 0:
                    q = k
                    while q < count and families[q] < 0:
                        q += 1
                    if q < count and model.setup[family][families[q]] > self.setups[m][q]:
                        est = ends[k]
                        k += 1
                        continue
            if est >= FAR or not (others or partners or counted):
                return est, setup
            moved = est
            for partner in partners:
                moved = self._after_work(partner, moved, length)
            for resource in others:
                moved = self._free(resource, moved, length)
            if counted:
                moved = self._below_capacity(m, moved, length)
            if moved == est:
                return est, setup
            est = moved
            while k < count and ends[k] <= est:
                k += 1

    def place(self, i: int, m: int, start: int, end: int, setup: int) -> None:
        """Take the time from start to end."""
        if not self._counted[m]:
            k = bisect_right(self.end[m], start)
            self.start[m].insert(k, start)
            self.end[m].insert(k, end)
            self.family[m].insert(k, self.m.family[i])
            self.setups[m].insert(k, setup)
        for line in (m, *self.m.resources[i]):
            if self._tracked[line]:
                k = bisect_right(self.work_start[line], start)
                self.work_start[line].insert(k, start)
                self.work_end[line].insert(k, end)

    def _after_work(self, line: int, est: int, length: int) -> int:
        """Earliest time from which the line does not work for `length`."""
        starts, ends = self.work_start[line], self.work_end[line]
        if self._counted[line]:
            for s, e in sorted(zip(starts, ends, strict=True)):
                if s < est + length and e > est:
                    est = e
            return est
        k = bisect_right(ends, est)
        while k < len(starts) and starts[k] < est + length:
            est = ends[k]
            k += 1
        return est

    def _free(self, line: int, est: int, length: int) -> int:
        """Earliest time from which the line is not stopped and below capacity for `length`."""
        starts, ends = self.start[line], self.end[line]
        k = bisect_right(ends, est)
        while k < len(starts) and starts[k] < est + length:
            est = ends[k]
            k += 1
        return self._below_capacity(line, est, length)

    def _below_capacity(self, line: int, est: int, length: int) -> int:
        starts, ends = self.work_start[line], self.work_end[line]
        capacity = self.m.capacity[line]
        while True:
            stop = bisect_right(starts, est + length - 1)
            there = [k for k in range(stop) if ends[k] > est]
            if len(there) < capacity:
                return est
            points = [est, *(starts[k] for k in there if starts[k] > est)]
            for point in points:
                at = [ends[k] for k in there if starts[k] <= point < ends[k]]
                if len(at) >= capacity:
                    est = min(at)
                    break
            else:
                return est


def _apart(rows: list[Row]) -> list[Row]:
    """Sorted, and cut where facts overlap, so that ends are sorted as well."""
    apart: list[Row] = []
    for start, end, family, setup in sorted(rows):
        reached = apart[-1][1] if apart else -FAR
        # what lies inside a stop still leaves its family on the machine
        if end > reached or family >= 0:
            apart.append((max(start, reached), max(end, reached), family, setup))
    return apart
