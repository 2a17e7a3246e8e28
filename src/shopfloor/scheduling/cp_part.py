"""What a CP-SAT model of a part of a plan consists of, shared by the files that build it.

`neighbourhood` places operations on machines, `cp_setups` adds set-ups, `cp_losses` what it costs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from ortools.sat.python import cp_model

from shopfloor.scheduling.decoder import Schedule
from shopfloor.scheduling.model import Model
from shopfloor.scheduling.objective import FAR

Linear = cp_model.LinearExpr


@dataclass
class Part:
    """Variables by operation, in ticks from now. `limit`: the latest end; `free` may move."""

    model: Model
    schedule: Schedule
    free: frozenset[int]
    tick: int
    limit: int
    cp: cp_model.CpModel = field(default_factory=cp_model.CpModel)
    starts: list[Linear] = field(default_factory=list)
    ends: list[Linear] = field(default_factory=list)
    setups: list[cp_model.IntVar | None] = field(default_factory=list)
    choice: list[dict[int, cp_model.LiteralT]] = field(default_factory=list)
    """Literals of the options of an operation; empty where it keeps its machine."""
    losses: list[tuple[float, Linear]] = field(default_factory=list)
    """(J lost by one more, what counts)."""

    def ticks(self, ms: int) -> int:
        """Rounded up."""
        return -(-ms // self.tick)

    def present_option(self, i: int) -> int:
        """The option of the operation in `schedule`."""
        machine = self.schedule.machine[i]
        return next(k for k, (m, _) in enumerate(self.model.options[i]) if m == machine)


def common_tick(model: Model) -> int:
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
