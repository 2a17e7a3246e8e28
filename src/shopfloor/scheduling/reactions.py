"""What the graph says about machines, turned into what the scheduler does about it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from shopfloor.scheduling.problem import Machine, MachineState

_HEAT = " at thermal rung "
"""In the reason of a derate that heat has caused, by which it is known after a restart, too."""


@dataclass
class FailRuns:
    """Counts FAIL verdicts in a row at each station. feeders: station to machine."""

    feeders: dict[str, str]
    limit: int
    _runs: dict[str, int] = field(default_factory=dict)

    def add(self, station: str, failed: bool) -> str:
        """One verdict; the machine to hold where its run is full, else empty."""
        machine = self.feeders.get(station, "")
        if not machine or not self.limit:
            return ""
        run = self._runs[station] = self._runs.get(station, 0) + 1 if failed else 0
        if run < self.limit:
            return ""
        self._runs[station] = 0
        return machine

    def forget(self, machine: str) -> None:
        """Somebody has acknowledged: count anew for the stations that it feeds."""
        for station, fed_by in self.feeders.items():
            if fed_by == machine:
                self._runs[station] = 0


@dataclass
class Heat:
    """How much slower heat makes machines. hosts: host to machine."""

    hosts: dict[str, str]
    _said: dict[str, tuple[float, str]] = field(default_factory=dict)

    def hear(self, host: str, rung: int, rung_name: str, factor: float) -> None:
        """A host's rung, and how fast its machine still is with it."""
        self._said[host] = factor, f"{host}{_HEAT}{rung} {rung_name}".rstrip()

    def change(self, machine: Machine, slowed: float) -> tuple[MachineState, float, str] | None:
        """State, speed factor and reason that a machine gets; None: it stays as it is.

        slowed: its present factor. Of several hosts the slowest counts; one that does nothing any
        more stops its machine. What others have stopped or derated stays so.
        """
        said = [self._said[host] for host, of in self.hosts.items()
                if of == machine.machine_id and host in self._said]  # fmt: skip
        factor, why = min(said, default=(1.0, ""))
        state, reason = machine.state, machine.state_reason
        by_heat = state in (MachineState.DERATED, MachineState.DOWN) and _HEAT in reason
        if state is not MachineState.UP and not by_heat:
            return None
        if factor > 0.99:
            wanted = MachineState.UP
        else:
            wanted = MachineState.DERATED if factor > 0.0 else MachineState.DOWN
        if state is MachineState.DOWN:
            # After the scheduler's restart only the reason tells that the rung does no work.
            same = wanted is state or why == reason
        else:
            same = wanted is state and math.isclose(factor, slowed, abs_tol=0.01)
        if same:
            return None
        return wanted, factor, why


def thermal_factor(rung: int, rung_count: int, fps: float, full_fps: float) -> float:
    """How fast a station still is: 1 is full speed, 0 is none.

    By the promised rates; by the rung where the full one is not known.
    """
    if rung <= 0:
        return 1.0
    if full_fps > 0.0 and fps >= 0.0:
        return min(max(fps / full_fps, 0.05), 1.0) if fps else 0.0
    return max(1.0 - rung / max(rung_count, rung + 1), 0.05)


def is_booked(machine: Machine, alert: str) -> bool:
    """Whether a stop was booked for an alert: health says it again and again, after a restart too.

    The stops are in the journal, their labels begin with the alert.
    """
    start = f"{alert}: ".encode()[:100]  # a label is cut to 128 bytes
    return any(window.label.encode().startswith(start) for window in machine.downtimes)


def pairs(rows: tuple[str, ...], name: str) -> dict[str, str]:
    """`LEFT=RIGHT` rows as a dictionary. Raises ValueError naming parameter and row."""
    found = {}
    for row in rows:
        left, sign, right = row.partition("=")
        if not (left and sign and right):
            raise ValueError(f"{name}: {row!r} is not NAME=MACHINE")
        found[left] = right
    return found
