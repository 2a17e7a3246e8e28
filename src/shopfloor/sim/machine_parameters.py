"""Parameters of the machine simulator."""

from __future__ import annotations

from dataclasses import dataclass

from shopfloor.ros.parameters import BaseParameters, ParameterProblem, param
from shopfloor.sim.acquisition import ACQUISITION_FAULTS, parse_scheduled
from shopfloor.sim.machines import FAULT_KINDS, MACHINES

_NAMES = tuple(spec.name for spec in MACHINES)


@dataclass(frozen=True)
class MachineSimulatorParameters(BaseParameters):
    """Which machines run, and what happens to them."""

    machines: tuple[str, ...] = param(
        ("pump_1",), "Machines that run, each with one three-axis sensor NAME_de.", choices=_NAMES
    )
    sample_rate_hz: float = param(
        10_000.0, "Rate of the sensors.", unit="Hz", ge=1000.0, le=100_000.0
    )
    block_s: float = param(0.1, "Length of a block.", unit="s", ge=0.01, le=1.0)
    seed: int = param(1, "The same seed gives the same machines.", ge=0, le=2**31 - 1)
    load_period_s: float = param(
        600.0, "Load goes from 60 % to 100 % and back in this time.", unit="s", ge=1.0, le=1e6
    )
    faults: tuple[str, ...] = param(
        (),
        "Faults as [MACHINE:]KIND@START[+DURATION][*SEVERITY], in seconds from activation, for "
        f"example pump_1:outer_race@60*1.5. Of machines: {', '.join(FAULT_KINDS)}; "
        f"of the acquisition: {', '.join(ACQUISITION_FAULTS)}.",
        live=True,
    )

    def problems(self) -> list[ParameterProblem]:
        """A timetable that cannot be read."""
        found = super().problems()
        for fault in self.faults:
            try:
                parse_scheduled(fault, FAULT_KINDS + ACQUISITION_FAULTS)
            except ValueError as error:
                found.append(ParameterProblem("faults", str(error)))
        return found
