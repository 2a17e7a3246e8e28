"""Set-ups in a CP-SAT model: a round trip over what each machine does gives who follows whom."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise

from ortools.sat.python import cp_model

from shopfloor.scheduling.cp_part import Part

Arcs = dict[int, list[tuple[int, cp_model.LiteralT]]]
"""Operation to (set-up in ticks, literal that it is needed)."""


def setup_variable(part: Part, i: int) -> cp_model.IntVar | None:
    """The set-up of an operation; None where there can be none."""
    model = part.model
    longest = 0
    if model.has_setups and model.family[i] >= 0:
        longest = max(row[model.family[i]] for row in model.setup)
    if not longest:
        return None
    setup = part.cp.new_int_var(0, part.ticks(longest), "")
    part.cp.add_hint(setup, part.ticks(part.schedule.setup[i]))
    return setup


def add_setups(part: Part) -> None:
    """Each set-up is what the operation before it on its machine makes necessary."""
    model = part.model
    on: dict[int, list[tuple[int, cp_model.LiteralT | None]]] = defaultdict(list)
    for i in range(model.n):
        if model.family[i] < 0:
            continue
        for k, literal in part.choice[i].items():
            on[model.options[i][k][0]].append((i, literal))
        if not part.choice[i]:
            on[part.schedule.machine[i]].append((i, None))
    into: Arcs = defaultdict(list)
    for m, rows in on.items():
        _round_trip(part, m, rows, into)
    for i, setup in enumerate(part.setups):
        if setup is not None:
            part.cp.add(setup == sum(gap * literal for gap, literal in into[i]))


def _round_trip(
    part: Part, m: int, rows: list[tuple[int, cp_model.LiteralT | None]], into: Arcs
) -> None:
    model, cp, schedule = part.model, part.cp, part.schedule
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
        gap = part.ticks(model.setup[fixed[2]][model.family[i]]) if fixed is not None else 0
        into[i].append((gap, first))
        if here is not None:
            arcs.append((node, node, ~here))
        for other, (j, _) in enumerate(rows, start=1):
            both_stay = i not in part.free and j not in part.free
            if other == node or (both_stay and schedule.start[i] > schedule.start[j]):
                continue
            if i in model.after[j]:
                continue
            arc = cp.new_bool_var("")
            cp.add_hint(arc, following.get(i) == j)
            arcs.append((node, other, arc))
            cp.add(part.starts[j] >= part.ends[i]).only_enforce_if(arc)
            into[j].append((part.ticks(model.setup[model.family[i]][model.family[j]]), arc))
    if all(here is not None for _, here in rows):
        empty = cp.new_bool_var("")
        cp.add_hint(empty, not present)
        arcs.append((0, 0, empty))
    cp.add_circuit(arcs)
