"""Repair: the plan in force, made valid again by moving as little as possible.

Operations that can stay keep machine and start. What a stop, a new fact or a new rule makes
impossible is placed anew, earliest end first, and pushes only what depends on it.
"""

from __future__ import annotations

from collections.abc import Sequence

from shopfloor.scheduling.decoder import Candidate, Decoder
from shopfloor.scheduling.problem import Assignment, Key
from shopfloor.scheduling.rules import behind_predecessors
from shopfloor.scheduling.timeline import Timeline


def repair(decoder: Decoder, base: Sequence[Assignment]) -> Candidate:
    """The candidate that stays closest to `base`; operations that are new count as moved."""
    model = decoder.model
    now = model.problem.now
    planned: dict[Key, Assignment] = {a.key: a for a in base}
    rank = {i: r for r, i in enumerate(model.topological())}
    latest = max((a.end for a in base), default=now)
    # new work goes behind what was planned
    turn = {
        i: (planned[key].start - now, rank[i])
        if (key := model.keys[i]) in planned
        else (latest - now, rank[i])
        for i in range(model.n)
    }
    order = behind_predecessors(model, sorted(turn, key=turn.__getitem__))
    choice, not_before = [0] * model.n, [0] * model.n
    timeline = Timeline(model)
    end: dict[int, int] = {}
    moved: list[int] = []
    kept: set[int] = set()
    for i in order:
        before = planned.get(model.keys[i])
        if before is None or any(p not in kept for p in model.before[i]):
            moved.append(i)
            continue
        m = model.machine_index.get(before.machine_id, -1)
        numbers = [k for k, option in enumerate(model.options[i]) if option[0] == m]
        start = before.start - now
        ready = max([model.ready[i], *(end[p] for p in model.before[i])])
        pin = model.pinned_start[i]
        fits = numbers and start >= ready and (pin is None or pin == start)
        if fits:
            duration = model.options[i][numbers[0]][1]
            at, setup = timeline.earliest(i, m, duration, start)
            fits = at == start and at + setup + duration <= max(model.latest[i], before.end - now)
        if not fits:
            moved.append(i)
            continue
        end[i] = start + setup + duration
        timeline.place(i, m, start, end[i], setup)
        choice[i], not_before[i] = numbers[0], start
        kept.add(i)
    for i in moved:
        ready = max([model.ready[i], *(end[p] for p in model.before[i])])
        pin = model.pinned_start[i]
        if pin is not None:
            ready = max(ready, pin)
        places = []
        for k, (m, duration) in enumerate(model.options[i]):
            at, setup = timeline.earliest(i, m, duration, ready)
            places.append((at + setup + duration, k, at, m, setup))
        done, k, at, m, setup = min(places)
        timeline.place(i, m, at, done, setup)
        end[i], choice[i] = done, k
    placed = [i for i in order if i in kept]
    return Candidate([*placed, *moved], choice, not_before)
