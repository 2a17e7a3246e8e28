"""Part of the line simulator: the board that does the host's work, and gets hot from it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from shopfloor_msgs.msg import ThermalState

from shopfloor.ros.node import ShopfloorNode
from shopfloor.ros.paths import state_folder
from shopfloor.sim.board_tree import BoardTree
from shopfloor.sim.thermal_plant import BoardSpec, ThermalPlant, throttling_from

PERIOD_S = 0.2
_LONGEST_STEP_S = 5.0


class SimulatedBoard:
    """Writes the board's sensors, and works at the rate that its host's rung promises.

    folder: relative ones lie in the state folder. hall_celsius: asked at each step.
    """

    def __init__(
        self, node: ShopfloorNode[Any], folder: str, hall_celsius: Callable[[], float]
    ) -> None:
        self._hall_celsius = hall_celsius
        self._steady_ns = node.steady_ns
        self.plant = ThermalPlant(throttling_from(32.0, BoardSpec()), hall_celsius())
        self._tree = BoardTree(Path(state_folder(), folder), self.plant)
        self._stepped_ns = node.steady_ns()
        node.subscription("thermal_state", self._on_thermal_state, host=node.host)
        node.steady_timer(PERIOD_S, self._step)

    def _on_thermal_state(self, state: ThermalState) -> None:
        self.plant.fps = state.guaranteed_fps

    def _step(self) -> None:
        now_ns = self._steady_ns()
        passed_s, self._stepped_ns = (now_ns - self._stepped_ns) / 1e9, now_ns
        self.plant.hall_celsius = self._hall_celsius()
        self.plant.step(min(passed_s, _LONGEST_STEP_S))
        self._tree.update()
