"""Local search: simulated annealing over order, machines and delays.

A step changes one operation and decodes the whole candidate, which takes a third of a millisecond
for a hundred operations, so some thousand candidates a second are looked at. Delays (`not_before`)
are what moves work into cheap hours; all else follows from order and machine.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from shopfloor.scheduling.decoder import Candidate, Decoder, Schedule, by_start

_HOT, _COLD = 1.5e-3, 5e-5
"""Temperatures in units of J at start and end: a step down of about that much is taken."""

_HOT_REPAIR = 2e-4
"""A repair starts from a plan that is good already; more heat would only move what could stay."""


@dataclass
class Found:
    """The best so far."""

    candidate: Candidate
    schedule: Schedule


def improve(
    decoder: Decoder,
    start: Found,
    rng: random.Random,
    deadline: float,
    on_better: Callable[[Found], None],
    clock: Callable[[], float] = time.monotonic,
) -> Found:
    """Search until `deadline` of `clock`; returns the best, which is never worse than `start`."""
    steps = _Steps(decoder, rng)
    best = Found(start.candidate.copy(), start.schedule)
    if not decoder.model.n:
        return best
    present = Found(_sorted(start.candidate, start.schedule), start.schedule)
    began = clock()
    span = max(deadline - began, 1e-6)
    hot = _HOT_REPAIR if decoder.model.move_cost else _HOT
    while (now := clock()) < deadline:
        temperature = hot * (_COLD / hot) ** ((now - began) / span)
        candidate = present.candidate.copy()
        if not steps.change(candidate, present.schedule):
            continue
        schedule = decoder.decode(candidate)
        if not _accepts(present.schedule, schedule, temperature, rng):
            continue
        present = Found(_sorted(candidate, schedule), schedule)
        if schedule.rank > best.schedule.rank:
            best = Found(present.candidate.copy(), schedule)
            on_better(best)
    return best


def _accepts(old: Schedule, new: Schedule, temperature: float, rng: random.Random) -> bool:
    if new.violation != old.violation:
        return new.violation < old.violation
    worse = old.value - new.value
    return worse <= 0 or rng.random() < math.exp(-worse / temperature)


def _sorted(candidate: Candidate, schedule: Schedule) -> Candidate:
    return Candidate(by_start(schedule, candidate.order), candidate.choice, candidate.not_before)


class _Steps:
    """One change of one operation."""

    def __init__(self, decoder: Decoder, rng: random.Random) -> None:
        self.model = decoder.model
        self.rng = rng
        self.flexible = [i for i in range(self.model.n) if len(self.model.options[i]) > 1]
        weights = self.model.objective.weights
        price = self.model.objective.price
        # times at which energy becomes cheaper
        self.cheaper = [
            t
            for t, rate, before in zip(price.times[1:], price.rates[1:], price.rates, strict=False)
            if weights.energy and rate < before
        ]

    def change(self, candidate: Candidate, schedule: Schedule) -> bool:
        """Change the candidate in place; False: this step changes nothing."""
        i = self._pick(schedule)
        draw = self.rng.random()
        if self.model.move_cost and self.rng.random() < 0.15:
            return self._back(candidate, i)
        if draw < 0.08 and self.cheaper:
            return self._delay(candidate, schedule, i)
        if candidate.not_before[i] and self.rng.random() < 0.5:
            candidate.not_before[i] = 0
        if draw < 0.5 and len(self.model.options[i]) > 1:
            options = len(self.model.options[i])
            candidate.choice[i] = (candidate.choice[i] + self.rng.randrange(1, options)) % options
            if self.rng.random() < 0.5:
                return True
        if draw < 0.75:
            return self._before_neighbour(candidate, schedule, i) or draw < 0.5
        return self._shift(candidate, i)

    def _pick(self, schedule: Schedule) -> int:
        """Any operation, every second time one that a late job or the last end hangs on."""
        model, rng = self.model, self.rng
        if rng.random() < 0.5:
            return rng.randrange(model.n)
        late = [row for row in model.due_rows if row[0] and self._lateness(schedule, row) > 0]
        if late and rng.random() < 0.7:
            return rng.choice(rng.choice(late)[0])
        i = rng.randrange(model.n)
        return max(
            (i, rng.randrange(model.n), rng.randrange(model.n)), key=schedule.end.__getitem__
        )

    @staticmethod
    def _lateness(schedule: Schedule, row: tuple[list[int], int, int, float]) -> int:
        rows, _, due, _ = row
        return max(schedule.end[i] for i in rows) - due

    def _back(self, candidate: Candidate, i: int) -> bool:
        """To where it is in the base plan."""
        place = self.model.base_place[i]
        if place is None:
            return False
        options = [k for k, option in enumerate(self.model.options[i]) if option[0] == place[0]]
        if not options:
            return False
        before = (candidate.choice[i], candidate.not_before[i])
        candidate.choice[i], candidate.not_before[i] = options[0], max(place[1], 0)
        return before != (candidate.choice[i], candidate.not_before[i])

    def _delay(self, candidate: Candidate, schedule: Schedule, i: int) -> bool:
        later = [t for t in self.cheaper if schedule.start[i] < t]
        if candidate.not_before[i] or not later:
            changed = candidate.not_before[i] != 0
            candidate.not_before[i] = 0
            return changed
        candidate.not_before[i] = later[0]
        return True

    def _before_neighbour(self, candidate: Candidate, schedule: Schedule, i: int) -> bool:
        """Put it before the operation that runs before it on its machine."""
        m = self.model.options[i][candidate.choice[i]][0]
        start = schedule.start[i]
        before = [
            k for k in candidate.order if schedule.machine[k] == m and schedule.start[k] < start
        ]
        if not before:
            return False
        neighbour = before[-1] if self.rng.random() < 0.7 else self.rng.choice(before)
        return self._move(candidate, i, candidate.order.index(neighbour))

    def _shift(self, candidate: Candidate, i: int) -> bool:
        return self._move(candidate, i, self.rng.randrange(self.model.n))

    def _move(self, candidate: Candidate, i: int, target: int) -> bool:
        """Move it towards a place in the order, between its predecessors and its successors."""
        order = candidate.order
        place = order.index(i)
        if target < place:
            low = max((order.index(p) + 1 for p in self.model.before[i]), default=0)
            target = max(target, low)
        else:
            high = min((order.index(k) - 1 for k in self.model.after[i]), default=len(order) - 1)
            target = min(target, high)
        if target == place:
            return False
        order.insert(target, order.pop(place))
        return True
