"""Large-neighbourhood search: CP-SAT on a part of the plan at a time, each time another part.

A part is chosen by time, by machines, by jobs or around one operation, and grows while CP-SAT
searches such parts through without finding anything, until it is the whole problem.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable

from ortools.sat.python import cp_model

from shopfloor.scheduling.decoder import Candidate, Decoder, Schedule, by_start
from shopfloor.scheduling.local_search import Found
from shopfloor.scheduling.model import Model
from shopfloor.scheduling.neighbourhood import Neighbourhood

_FIRST_SIZE = 20
_FIRST_LIMIT_S = 0.5


def search(
    decoder: Decoder,
    start: Found,
    rng: random.Random,
    deadline: float,
    on_better: Callable[[Found], None],
    incoming: Callable[[], Found | None] = lambda: None,
    workers: int = 1,
) -> Found:
    """Search until `deadline` (steady seconds); returns the best.

    incoming: a better schedule that somebody else has found meanwhile.
    """
    model = decoder.model
    best = start
    size, limit_s = float(min(_FIRST_SIZE, model.n)), _FIRST_LIMIT_S
    while (left := deadline - time.monotonic()) > 0.05 and model.n:
        other = incoming()
        if other is not None and other.schedule.rank > best.schedule.rank:
            best = other
        everything = size >= model.n
        free = range(model.n) if everything else choose(model, best.schedule, int(size), rng)
        part = Neighbourhood(model, best.schedule, free)
        status, candidate, _ = part.solve(min(limit_s, left), rng.randrange(1 << 30), workers)
        found = None if candidate is None else _decoded(decoder, candidate, best)
        better = found is not None and found.schedule.rank > best.schedule.rank
        if found is not None and better:
            best = found
            on_better(best)
        searched_through = status in (cp_model.OPTIMAL, cp_model.INFEASIBLE)
        if searched_through and not better:
            size = min(size * 1.1 + 1, model.n)
        elif not searched_through and not better:
            if everything:
                limit_s = min(2 * limit_s, 8.0)
            size = max(size * 0.9, min(8, model.n))
    return best


def whole(
    decoder: Decoder,
    start: Found,
    rng: random.Random,
    deadline: float,
    on_better: Callable[[Found, float], None],
    workers: int = 1,
) -> tuple[Found, float]:
    """CP-SAT on the whole problem at once, from the hint: the best, and the bound of J.

    With two workers or more CP-SAT looks at neighbourhoods of its own beside its search. on_better
    hears of each better one with the bound so far; inf: not known.
    """
    model = decoder.model
    best = start
    part = Neighbourhood(model, start.schedule, range(model.n))

    def bound(least_end_ms: int) -> float:
        if not part.is_exact:
            return math.inf
        return model.objective.weights.utilisation * model.objective.utilisation(least_end_ms)

    def seen(candidate: Candidate, least_end_ms: int) -> None:
        nonlocal best
        found = _decoded(decoder, candidate, best)
        if found.schedule.rank > best.schedule.rank:
            best = found
            on_better(best, bound(least_end_ms))

    left = max(deadline - time.monotonic(), 0.01)
    _, _, least_end_ms = part.solve(left, rng.randrange(1 << 30), workers, seen)
    return best, bound(least_end_ms)


def _decoded(decoder: Decoder, candidate: Candidate, best: Found) -> Found:
    """The best that a candidate stands for: as early as possible, or as CP-SAT timed it."""
    base = decoder.model.base_place
    stays = [
        t if place is not None and place[1] == t else 0
        for t, place in zip(candidate.not_before, base, strict=True)
    ]
    found = []
    for not_before in ([0] * len(stays), candidate.not_before, stays):
        tried = Candidate(candidate.order, candidate.choice, not_before)
        schedule = decoder.decode(tried)
        found.append(
            Found(Candidate(by_start(schedule, tried.order), tried.choice, not_before), schedule)
        )
    return max(found, key=lambda f: f.schedule.rank)


def choose(model: Model, schedule: Schedule, size: int, rng: random.Random) -> list[int]:
    """`size` operations that belong together in some way."""
    everyone = range(model.n)
    way = rng.random()
    middle = [(schedule.start[i] + schedule.end[i]) / 2 for i in everyone]
    if way < 0.35:  # at about the same time
        centre = middle[rng.randrange(model.n)]
        return sorted(everyone, key=lambda i: abs(middle[i] - centre))[:size]
    if way < 0.6:  # on the same machines
        chosen: list[int] = []
        machines = sorted(set(schedule.machine))
        rng.shuffle(machines)
        for m in machines:
            rows = [i for i in everyone if schedule.machine[i] == m]
            if len(chosen) + len(rows) > size:
                rows.sort(key=lambda i: middle[i])
                first = rng.randrange(max(len(rows) - (size - len(chosen)), 0) + 1)
                rows = rows[first : first + size - len(chosen)]
            chosen += rows
            if len(chosen) >= size:
                break
        return chosen
    if way < 0.8:  # of the same jobs, late ones first
        jobs = list(model.job_rows)
        rng.shuffle(jobs)
        late = {
            model.job[rows[0]]
            for rows, fixed_end, due, _ in model.due_rows
            if rows and max(schedule.end[i] for i in rows) > due
        }
        jobs.sort(key=lambda job: (job not in late) if rng.random() < 0.6 else rng.random())
        chosen = []
        for job in jobs:
            chosen += model.job_rows[job]
            if len(chosen) >= size:
                break
        return chosen[:size]
    # competing for the machines of one operation at about its time
    seed = rng.randrange(model.n)
    wanted = {m for m, _ in model.options[seed]}
    span = max(schedule.makespan, 1)

    def distance(i: int) -> float:
        shared = sum(m in wanted for m, _ in model.options[i])
        return abs(middle[i] - middle[seed]) / span - 0.3 * bool(shared) + 0.1 * rng.random()

    return sorted(everyone, key=distance)[:size]
