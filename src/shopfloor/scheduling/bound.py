"""A value of J that no plan can have, from what each operation needs at the least.

J = w_u U - w_t T - w_e E, each term at its best, independent of the others: U falls with the last
end and the idle cost in E rises with it, so a lower bound of the last end bounds both; T is bounded
by jobs that have all machines for themselves, the working cost by the cheapest machine and price.
Set-ups and shared resources are left out, which only makes the bound weaker.
"""

from __future__ import annotations

from shopfloor.scheduling.model import Model
from shopfloor.scheduling.objective import FAR


def objective_bound(model: Model) -> float:
    """No valid plan of the problem has a larger J."""
    ends = earliest_ends(model)
    objective = model.objective
    tardiness = 0.0
    for rows, fixed_end, due, cost in model.due_rows:
        last = max([fixed_end, *(ends[i] for i in rows)])
        tardiness += max(last - due, 0) * cost
    working = model.fixed_cost
    price = objective.price
    cheapest = min(rate for time, rate in zip(price.times, price.rates, strict=True) if time < FAR)
    for options in model.options:
        kw_ms = min(objective.net_power[m] * duration for m, duration in options)
        working += kw_ms * cheapest / 3_600_000.0
    makespan = least_makespan(model, ends)
    bound = objective.total(makespan, tardiness, working)
    if objective.available(makespan) <= 0:  # its utilisation is not known yet, and 1 at the most
        bound += objective.weights.utilisation
    return bound


def earliest_ends(model: Model) -> list[int]:
    """When each operation can end if all others are out of its way, milliseconds from now."""
    ends = [0] * model.n
    for i in model.topological():
        ready = max(
            [model.ready[i], model.pinned_start[i] or 0, *(ends[p] for p in model.before[i])]
        )
        ends[i] = min(
            _earliest(model.blocks[m], ready, duration) + duration
            for m, duration in model.options[i]
        )
    return ends


def least_makespan(model: Model, ends: list[int]) -> int:
    """No plan ends before, ms from now: by each job, and by what only one machine can do."""
    tails = [0] * model.n
    shortest = [min(d for _, d in options) for options in model.options]
    for i in reversed(model.topological()):
        tails[i] = max((shortest[k] + tails[k] for k in model.after[i]), default=0)
    bound = max([model.fixed_makespan, *ends])
    alone: dict[int, list[int]] = {}
    for i, options in enumerate(model.options):
        if len(options) == 1 and model.capacity[options[0][0]] == 1:
            alone.setdefault(options[0][0], []).append(i)
    for rows in alone.values():
        # on one machine: earliest begin, all work, shortest rest, also of what begins late
        work, rest = 0, FAR
        for i in sorted(rows, key=lambda i: shortest[i] - ends[i]):
            work, rest = work + shortest[i], min(rest, tails[i])
            bound = max(bound, ends[i] - shortest[i] + work + rest)
    return bound


def _earliest(blocks: list[tuple[int, int]], ready: int, duration: int) -> int:
    """The first start from `ready` on that lies between two stops."""
    start = ready
    for begin, end in blocks:
        if end > start and begin < start + duration:
            start = end
    return min(start, FAR)
