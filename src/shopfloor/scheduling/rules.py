"""Dispatching rules: a valid plan in milliseconds, and the baseline that search has to beat.

Each rule is non-delay dispatching: of the operations whose predecessors are placed, the one that
can start first is placed; where several can, the rule's priority decides. "first free" takes the
machine on which the operation starts first, EDD_EC the one on which it ends first. LEAST_LOAD is
what schedulers do that hand work to the first cell that says yes: jobs in the order in which they
came, each operation to the machine with the least work so far, behind what is there.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable

from shopfloor.scheduling.decoder import Candidate, Decoder, Schedule
from shopfloor.scheduling.model import Model
from shopfloor.scheduling.objective import FAR
from shopfloor.scheduling.timeline import Timeline

Priority = Callable[[int], float]

RULES = ("EDD_EC", "SPT", "EDD", "MWKR", "SLACK")
"""In the order in which they are tried; the first makes the first plan."""

LEAST_LOAD = "LEAST_LOAD"


def dispatch(model: Model, rule: str) -> Candidate:
    """The candidate of a rule of RULES or LEAST_LOAD. Raises KeyError on another name."""
    if rule == LEAST_LOAD:
        return _least_load(model)
    return _non_delay(model, _priority(model, rule), by_completion=rule == "EDD_EC")


def best_rule(decoder: Decoder) -> tuple[str, Candidate, Schedule]:
    """The best of RULES by rank: name, candidate, schedule."""
    found = []
    for rule in RULES:
        candidate = dispatch(decoder.model, rule)
        found.append((rule, candidate, decoder.decode(candidate)))
    return max(found, key=lambda row: row[2].rank)


def _due(model: Model, i: int) -> int:
    return min(model.objective.due.get(model.job[i], FAR), model.latest[i])


def _priority(model: Model, rule: str) -> Priority:
    """Smaller comes first."""
    if rule == "SPT":
        return lambda i: min(d for _, d in model.options[i])
    left = model.remaining_ms()
    rules: dict[str, Priority] = {
        "EDD": lambda i: _due(model, i),
        "EDD_EC": lambda i: _due(model, i),
        "MWKR": lambda i: -left[i],
        "SLACK": lambda i: _due(model, i) - left[i],
    }
    return rules[rule]


def _non_delay(model: Model, priority: Priority, *, by_completion: bool) -> Candidate:
    timeline = Timeline(model)
    waiting = [len(rows) for rows in model.before]
    ready = model.ready[:]
    choice, order = [0] * model.n, []
    # a pinned operation goes first, so that its time is still free
    ranks = [
        (0 if model.pinned_start[i] is not None else 1, priority(i), i) for i in range(model.n)
    ]
    heap = [(ready[i], ranks[i]) for i in range(model.n) if not waiting[i]]
    heapq.heapify(heap)
    while heap:
        start, rank = heapq.heappop(heap)
        i = rank[2]
        key, s, k, setup = _best_place(model, timeline, i, ready[i], by_completion)
        # others were placed meanwhile: its place in the queue may be later now
        if key > start and heap and (key, rank) > heap[0]:
            heapq.heappush(heap, (key, rank))
            continue
        m, duration = model.options[i][k]
        end = s + setup + duration
        timeline.place(i, m, s, end, setup)
        choice[i] = k
        order.append(i)
        for after in model.after[i]:
            ready[after] = max(ready[after], end)
            waiting[after] -= 1
            if not waiting[after]:
                heapq.heappush(heap, (ready[after], ranks[after]))
    return Candidate(order, choice, [0] * model.n)


def _best_place(
    model: Model, timeline: Timeline, i: int, ready: int, by_completion: bool
) -> tuple[int, int, int, int]:
    """(time that queues it, start, option, set-up) of the operation's best machine."""
    pin = model.pinned_start[i]
    if pin is not None:
        ready = max(ready, pin)
    best: tuple[int, int, int, int, int] | None = None
    for k, (m, duration) in enumerate(model.options[i]):
        s, setup = timeline.earliest(i, m, duration, ready)
        end = s + setup + duration
        row = (end if by_completion else s, end, s, k, setup)
        if best is None or row < best:
            best = row
    assert best is not None
    _, _, s, k, setup = best
    # a pinned operation must not wait in the queue until others have taken its time
    return (0 if pin is not None else s), s, k, setup


def _least_load(model: Model) -> Candidate:
    load = [0] * len(model.capacity)
    choice = [0] * model.n
    order = behind_predecessors(model, sorted(range(model.n), key=model.ready.__getitem__))
    for i in order:
        k = min(range(len(model.options[i])), key=lambda k: (load[model.options[i][k][0]], k))
        m, duration = model.options[i][k]
        load[m] += duration
        choice[i] = k
    return Candidate(order, choice, [0] * model.n)


def behind_predecessors(model: Model, order: list[int]) -> list[int]:
    """The same order, with the predecessors of an operation pulled before it."""
    placed: list[int] = []
    done: set[int] = set()

    def add(i: int) -> None:
        if i in done:
            return
        for p in model.before[i]:
            add(p)
        done.add(i)
        placed.append(i)

    for i in order:
        add(i)
    return placed
