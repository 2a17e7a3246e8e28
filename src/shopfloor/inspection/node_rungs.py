"""Part of the inspector node: which rung is in force, by service and by the host's ThermalState.

The larger of both counts. So a repeated, late or lost message cannot undo a step down that the
other side asked for, and the order in which they come does not matter.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from shopfloor_msgs.msg import ThermalState
from shopfloor_msgs.srv import SetInspectorRung

from shopfloor.inspection.rungs import Rung
from shopfloor.inspection.variants import Variants
from shopfloor.ros.command_service import Commands
from shopfloor.ros.commands import Reason, Refused
from shopfloor.ros.node import ShopfloorNode

THERMAL_SILENCE_S = 5.0
"""A temperature that is older is not known any more; the rung asked for stays."""


class RungControl:
    """Serves SetInspectorRung and follows ThermalState from configure to cleanup.

    switch: called on the executor thread with the rung that comes into force.
    """

    def __init__(
        self,
        node: ShopfloorNode[Any],
        variants: Variants,
        switch: Callable[[Rung], None],
        *,
        follow_thermal: bool,
    ) -> None:
        self._node = node
        self._variants = variants
        self._switch = switch
        self._asked = 0
        self._thermal = 0
        self._board_celsius = math.nan
        self._heard_ns: int | None = None
        self.in_force = variants.rungs[0]
        if follow_thermal:
            node.subscription("thermal_state", self._on_thermal_state, host=node.host)
        self._commands = Commands(node)
        self._commands.serve(
            "set_inspector_rung",
            self._set_rung,
            state=lambda: self.in_force.index,
            report=self._describe,
            inspector=node.get_name(),
        )

    def close(self) -> None:
        """Close the ledger of commands."""
        self._commands.close()

    @property
    def board_celsius(self) -> float:
        """The board's temperature, NaN where nobody says it."""
        if self._heard_ns is None:
            return math.nan
        silent_s = (self._node.steady_ns() - self._heard_ns) / 1e9
        return self._board_celsius if silent_s <= THERMAL_SILENCE_S else math.nan

    def _on_thermal_state(self, state: ThermalState) -> None:
        self._board_celsius = state.board_temperature_celsius
        self._heard_ns = self._node.steady_ns()
        last = len(self._variants.rungs) - 1
        if state.rung > last and state.rung != self._thermal:
            text = f"{state.host} is at rung {state.rung} '{state.rung_name}'; the last one here is"
            self._node.fault("rung unknown", f"{text} {last}, which is taken")
        self._thermal = state.rung
        self._apply(f"{state.host}: {state.cause_text}")

    def _set_rung(
        self, request: SetInspectorRung.Request, response: SetInspectorRung.Response
    ) -> None:
        rungs = self._variants.rungs
        for field in ("rung", "preload_rung"):
            if getattr(request, field) >= len(rungs):
                text = f"{field} {getattr(request, field)}; allowed: 0 to {len(rungs) - 1}"
                raise Refused(Reason.INVALID_ARGUMENT, text)
        name = rungs[request.rung].name
        if request.rung_name not in ("", name):
            text = f"rung {request.rung} is '{name}' here, not '{request.rung_name}'"
            raise Refused(Reason.VERSION_MISMATCH, text)
        # Every rung's engine is loaded since configure: there is nothing to preload.
        if not request.preload_only:
            self._asked = request.rung
            self._apply(f"{request.command.caller}: {request.command.reason}")
        self._describe(response)

    def _apply(self, why: str) -> None:
        rungs = self._variants.rungs
        rung = rungs[min(max(self._asked, self._thermal), len(rungs) - 1)]
        if rung != self.in_force:
            before, self.in_force = self.in_force, rung
            self._node.get_logger().info(
                f"rung {before.index} '{before.name}' -> {rung.index} '{rung.name}' ({why})"
            )
            self._switch(rung)

    def _describe(self, response: SetInspectorRung.Response) -> None:
        rung = self.in_force
        inspector = self._variants.of(rung)
        package = inspector.package
        response.rung = rung.index
        response.rung_name = rung.name
        response.model = f"{package.name}/{package.version}"
        response.frame_stride = rung.stride
        response.input_width_px = package.input.width
        response.input_height_px = package.input.height
        response.expected_p99_ms = inspector.infer_ms.percentile(99)
