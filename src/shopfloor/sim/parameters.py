"""Parameters of the line simulator."""

from __future__ import annotations

from dataclasses import dataclass

from shopfloor.ros.parameters import BaseParameters, ParameterProblem, param
from shopfloor.sim.faults import parse_fault
from shopfloor.sim.parts import KINDS, MAX_SIZE_PX, MIN_SIZE_PX


@dataclass(frozen=True)
class LineSimulatorParameters(BaseParameters):
    """The parts on the belt, and the camera that looks at them."""

    parts_per_minute: float = param(120.0, "Speed of the belt.", unit="1/min", ge=0.1, le=12000.0)
    defect_rate: float = param(0.4, "Share of parts that have defects.", ge=0.0, le=1.0)
    kinds: tuple[str, ...] = param(
        KINDS, "Kinds of parts; a kind that is named twice comes twice as often.", choices=KINDS
    )
    seed: int = param(1, "Part n of a seed is always the same part.", ge=0, le=2**31 - 1)
    batch: str = param(
        "",
        "Start of every part id, at most 48 bytes; empty: the time of configuration, so that no id "
        "comes twice.",
    )
    parts: int = param(0, "Stop after so many parts; 0: never.", ge=0)
    distinct_parts: int = param(
        0,
        "After so many parts the pictures come again, with new part ids; 0: every part is new. "
        "Spares the renderer at high rates; the pictures stay in memory. 1 looks like a sensor "
        "that is frozen, which the camera node does not pass on.",
        ge=0,
        le=1000,
    )
    camera: str = param("camera", "Name of the camera node that sees the belt, for the truth.")
    address: str = param("", "Socket of the simulated camera; empty: the usual one of this domain.")
    width: int = param(640, "Columns of a frame.", unit="px", ge=MIN_SIZE_PX, le=MAX_SIZE_PX)
    height: int = param(640, "Rows of a frame.", unit="px", ge=MIN_SIZE_PX, le=MAX_SIZE_PX)
    wait_for_camera: bool = param(
        True, "The belt starts when a camera is connected for the first time."
    )
    listener_wait_s: float = param(
        5.0,
        "The first part waits this long at most for somebody who listens to the truth, so that no "
        "part's truth is lost while the graph still finds itself.",
        unit="s",
        ge=0.0,
        le=60.0,
    )
    board_folder: str = param(
        "",
        "Folder for the sensors of a simulated board that does the host's work, as the "
        "system_root of a thermal_watchdog; relative: in the state folder. Empty: no board.",
    )
    hall_celsius: float = param(
        22.0, "Temperature around the simulated board.", unit="C", ge=-20.0, le=60.0, live=True
    )
    faults: tuple[str, ...] = param(
        (),
        "Faults of the camera as KIND@START+DURATION in seconds from activation or from this "
        "setting, for example unplug@20+3. Kinds: unplug, freeze, corrupt, gap.",
        live=True,
    )

    reject_distance_m: float = param(
        0.0, "From the camera to the reject output; 0: there is none.", unit="m", ge=0.0, le=1000.0
    )
    belt_speed_m_per_s: float = param(0.2, "Speed of the belt.", unit="m/s", ge=0.001, le=100.0)
    belt_speed_wobble: float = param(
        0.0, "The belt's speed swings by this share, up and down within 5 s.", ge=0.0, le=0.9
    )
    encoder_pulses_per_m: float = param(
        1000.0, "Counts of the belt's encoder.", unit="1/m", ge=1.0, le=1e6
    )
    encoder_bits: int = param(
        32, "Width of the encoder's counter; 0: it never wraps.", unit="bit", ge=0, le=62
    )
    unknown_part: str = param(
        "reject",
        "What the reject output does with a part for which no command came in time.",
        choices=("reject", "pass"),
    )

    def problems(self) -> list[ParameterProblem]:
        """A timetable of faults that cannot be read."""
        found = []
        for fault in self.faults:
            try:
                parse_fault(fault)
            except ValueError as error:
                found.append(ParameterProblem("faults", str(error)))
        return found
