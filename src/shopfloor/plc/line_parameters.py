"""Parameters of the line state."""

from __future__ import annotations

from dataclasses import dataclass

from shopfloor.ros.commands import CommandParameters
from shopfloor.ros.parameters import param


@dataclass(frozen=True)
class LineStateParameters(CommandParameters):
    """See `shopfloor.plc.line_node`."""

    line: str = param("line", "Name of the line.", read_only=True)
    unit: str = param("main", "Unit of the line whose state this is.", read_only=True)
    hosts: tuple[str, ...] = param(
        (),
        "Hosts that must run before the line does, by name in the plant file; while STARTING it "
        "waits for them.",
    )
    nominal_rate_per_min: float = param(
        60.0, "Parts a minute that performance is measured against.", unit="1/min", ge=0.01
    )
    starting_timeout_s: float = param(
        60.0,
        "A line that is STARTING for longer, since a host does not run, aborts.",
        unit="s",
        ge=1.0,
        le=3600.0,
    )
    hold_on_failure: bool = param(
        True, "A line in EXECUTE holds when one of `hosts` fails or falls silent.", live=True
    )
    host_silent_s: float = param(
        2.0, "A host that has not reported for so long counts as failed.", unit="s", ge=1.1, le=60.0
    )
    run_on_activate: bool = param(
        False, "RESET and START by itself, for demos; a plant starts its line by command."
    )
