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
