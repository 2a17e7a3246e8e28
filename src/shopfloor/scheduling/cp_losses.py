"""What a plan costs, in a CP-SAT model: energy, moves, tardiness and the last end.

A good guess and not the truth: energy is priced where the middle of an operation lies, utilisation
is linear around the present makespan.
"""

from __future__ import annotations

from ortools.sat.python import cp_model

from shopfloor.scheduling.cp_part import Part
from shopfloor.scheduling.objective import FAR

_UNITS = 1_000_000
"""Objective units for a difference of 1 in J."""


def add_energy(part: Part, i: int) -> None:
    """Cost of energy on each machine, by the price in which the middle of the work lies."""
    model, cp, schedule = part.model, part.cp, part.schedule
    objective = model.objective
    scale = objective.weights.energy / objective.energy_scale / 3_600_000.0
    price = objective.price
    start, last, present = part.starts[i], part.limit * part.tick, part.present_option(i)
    pieces = [
        (begin, end, rate)
        for begin, end, rate in zip(price.times, [*price.times[1:], FAR], price.rates, strict=True)
        if begin <= last and end > model.ready[i]
    ]
    literals: dict[int, cp_model.LiteralT | None] = dict(part.choice[i]) or {present: None}
    for k, literal in literals.items():
        m, duration = model.options[i][k]
        middle = duration // 2
        modes = []
        for begin, end, rate in pieces:
            if literal is not None and len(pieces) == 1:
                mode: cp_model.LiteralT = literal
            else:
                mode = cp.new_bool_var("")
                cp.add(start >= part.ticks(begin - middle)).only_enforce_if(mode)
                cp.add(start <= max((end - middle) // part.tick, 0)).only_enforce_if(mode)
                at = schedule.start[i] + middle
                cp.add_hint(mode, k == present and begin <= at < end)
            modes.append(mode)
            loss = scale * objective.net_power[m] * duration * rate
            part.losses.append((loss, cp_model.LinearExpr.sum([mode])))
        if literal is None:
            cp.add_exactly_one(modes)
        elif len(pieces) > 1:
            cp.add(sum(modes) == literal)


def add_stability(part: Part, i: int) -> None:
    """What is saved by leaving an operation where it is in the base plan."""
    place = part.model.base_place[i]
    if place is None:
        return
    machine, at = place
    literals, target = part.choice[i], part.ticks(at)
    option = next((k for k, o in enumerate(part.model.options[i]) if o[0] == machine), None)
    if option is None or target > part.limit:
        return
    if not literals and option != part.present_option(i):
        return
    stays = part.cp.new_bool_var("")
    part.cp.add(part.starts[i] == target).only_enforce_if(stays)
    if literals:
        part.cp.add_implication(stays, literals[option])
    part.cp.add_hint(stays, part.schedule.start[i] == at)
    part.losses.append((-part.model.move_cost, cp_model.LinearExpr.sum([stays])))


def minimise(part: Part) -> bool:
    """Ask for the least loss of J; whether the last end is all that counts."""
    model, objective, cp = part.model, part.model.objective, part.cp
    weights, now = objective.weights, part.schedule.makespan
    slope = 0.0
    available = objective.available(now)
    if available > 0:
        rate = objective.available.rate(now)
        slope = weights.utilisation * objective.work * rate / available**2
    if objective.energy_scale:
        idle = objective.idle.rate(now) / 3_600_000.0
        slope += weights.energy * idle / objective.energy_scale
    if slope > 0:
        makespan = cp.new_int_var(0, part.limit, "")
        cp.add_hint(makespan, min(part.ticks(now), part.limit))
        for i in range(model.n):
            if not model.after[i]:
                cp.add(makespan >= part.ends[i])
        cp.add(makespan >= part.ticks(model.fixed_makespan))
        part.losses.append((slope * part.tick, makespan))
    _tardiness(part)
    if not part.losses:
        return False
    if len(part.losses) == 1:  # one unit a tick
        cp.minimize(part.losses[0][1])
        return slope > 0
    smallest = min((abs(w) for w, _ in part.losses if w), default=1.0)
    # whole numbers with six digits for the whole range
    scale = max(_UNITS, min(1.0 / smallest, 1000.0 * _UNITS))
    cp.minimize(sum(round(w * scale) * e for w, e in part.losses if round(w * scale)))
    return False


def _tardiness(part: Part) -> None:
    model, cp = part.model, part.cp
    for rows, fixed_end, due, cost in model.due_rows:
        factor = model.objective.weights.tardiness * cost * part.tick
        if not rows or factor <= 0 or part.limit * part.tick <= due:
            continue
        late = cp.new_int_var(0, part.limit, "")
        last = max(fixed_end, *(part.schedule.end[i] for i in rows))
        cp.add_hint(late, max(part.ticks(last) - due // part.tick, 0))
        for i in rows:
            if not any(model.job[k] == model.job[i] for k in model.after[i]):
                cp.add(late >= part.ends[i] - due // part.tick)
        if fixed_end > due:
            cp.add(late >= part.ticks(fixed_end - due))
        part.losses.append((factor, late))
