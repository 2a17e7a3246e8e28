"""Holds the line after a LATE_REJECT: a bad part has passed the output, and others may follow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shopfloor.quality.reject import RejectOrder
from shopfloor.ros.line_hold import LineHold

if TYPE_CHECKING:
    from shopfloor.quality.node import QualityGateNode


class LateRejectHold:
    """One HOLD for each part that passed; made at configure."""

    def __init__(self, node: QualityGateNode) -> None:
        self._node = node
        self._hold = LineHold(node, "a LATE_REJECT", lambda: node.params.hold_on_late_reject)

    def late_reject(self, order: RejectOrder) -> None:
        """A part that had to leave has passed, or will."""
        part = order.part_id or "a part without id"
        # Part numbers begin anew some day; with its exposure the part is this one.
        exposure_ns = order.exposure_ns or self._node.now_ns()
        base_id = f"late-reject-{exposure_ns}-{order.part_id}"
        self._hold.ask(base_id, part, f"LATE_REJECT {part}: {order.reason}")
