"""Parameters of the PLC bridge."""

from __future__ import annotations

from dataclasses import dataclass

from shopfloor.ros.parameters import BaseParameters, param


@dataclass(frozen=True)
class PlcBridgeParameters(BaseParameters):
    """See `shopfloor.plc.node`."""

    mapping: str = param(
        "plc/plc1.yaml",
        "What the PLC sees and may ask: a path, or a file in the package's config/.",
    )
    hold_on_lost_plc: bool = param(
        True,
        "Hold the line when a PLC that was there stalls or goes; off: only the picture says so.",
        live=True,
    )
    answer_timeout_s: float = param(
        2.0,
        "A service that has not answered by then is reported unanswered to the PLC, which may send "
        "the same id again.",
        unit="s",
        ge=0.1,
        le=60.0,
    )
    hosts: tuple[str, ...] = param(
        (),
        "Hosts whose ladder rung the PLC is told, the highest of all, by name in the plant file.",
    )
    machines: tuple[str, ...] = param(
        (), "Machines whose maintenance tier the PLC is told, the highest of all."
    )
    thermal_silent_s: float = param(
        2.0, "The rung of a host that has not reported for so long is not known.", unit="s",
        ge=1.0, le=60.0,
    )  # fmt: skip
    health_silent_s: float = param(
        60.0,
        "The tier of a machine that has not reported for so long is not known; longer than the "
        "monitor's window.",
        unit="s",
        ge=1.0,
        le=3600.0,
    )
