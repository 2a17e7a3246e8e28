"""recorder: every topic of the interface table that this cell has, into an MCAP bag."""

from __future__ import annotations

import re
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from shopfloor.replay.bag import BagWriter, Topic, typestore
from shopfloor.replay.parameters import RecorderParameters
from shopfloor.ros.diagnostics import Level, Status
from shopfloor.ros.interfaces import INTERFACES, Interface, Kind, Qos
from shopfloor.ros.main import run_node
from shopfloor.ros.node import ShopfloorNode
from shopfloor.ros.paths import message_folder

_SEARCH_PERIOD_S = 0.5
_IMAGES = {
    "image_compressed": ("camera", "all"),
    "annotated_compressed": ("annotated", "all"),
    "score_map_compressed": ("annotated", "all"),
    "suspect_crop": ("crops", "annotated", "camera", "all"),
}
"""Rows with pictures, and the policies that record them."""


class RecorderNode(ShopfloorNode[RecorderParameters]):
    """Finds the topics as they appear and records them as they come."""

    PARAMETERS = RecorderParameters

    def __init__(self, name: str = "recorder", **node_arguments: Any) -> None:
        self._bag: BagWriter | None = None
        self._subscribed: dict[str, Any] = {}
        super().__init__(name, **node_arguments)

    def setup(self) -> None:
        """Learn the types; look for topics twice a second."""
        self._types = typestore([message_folder("shopfloor_msgs")])
        self._patterns = [(row, self._pattern(row)) for row in INTERFACES if self._wanted(row)]
        self.steady_timer(_SEARCH_PERIOD_S, self._search)
        self.diagnostics.add("bag", self._bag_status)

    def start(self) -> None:
        """Open a new bag."""
        local_time = self.get_clock().now().nanoseconds // 1_000_000_000
        name = self.params.name or _bag_name(local_time)
        folder = Path(self.params.folder).expanduser()
        self._bag = BagWriter(folder / name, self._types, self._about())
        self.get_logger().info(f"recording to {self._bag.path}")
        self._search()

    def stop(self) -> None:
        """Close the bag with its index."""
        for subscription in self._subscribed.values():
            self.release(subscription)
        self._subscribed.clear()
        if self._bag is not None:
            self._bag.close()
            if self._bag.error:
                self.fault("bag", f"{self._bag.path}: {self._bag.error}")
            self._bag = None

    def teardown(self) -> None:
        """No more reports."""
        self.diagnostics.remove("bag")

    def _about(self) -> dict[str, str]:
        plant_file = self.params.plant_file
        if not plant_file:
            return {}
        return {"plant": Path(plant_file).expanduser().read_text(encoding="utf-8")}

    def _wanted(self, row: Interface) -> bool:
        if row.kind is not Kind.TOPIC or not row.record:
            return False
        return row.key not in _IMAGES or self.params.images in _IMAGES[row.key]

    def _pattern(self, row: Interface) -> re.Pattern[str]:
        absolute = self.resolve_topic_name(row.resolve(**dict.fromkeys(row.placeholders, "PLACE")))
        return re.compile(re.escape(absolute).replace("PLACE", "[^/]+"))

    def _search(self) -> None:
        if self._bag is None:
            return
        for name, types in self.get_topic_names_and_types():
            if name in self._subscribed:
                continue
            for row, pattern in self._patterns:
                if row.type in types and pattern.fullmatch(name):
                    topic = Topic(name, row.type, latched=row.qos is Qos.STATE)
                    self._subscribed[name] = self.raw_subscription(
                        row, name, partial(self._on_message, topic)
                    )

    def _on_message(self, topic: Topic, data: bytes) -> None:
        if self._bag is not None and not self._bag.put(topic, self.now_ns(), data):
            cause = self._bag.error or "the disk is slower than the line"
            self.fault("dropped_message", f"{topic.name}: {cause}")

    def _bag_status(self) -> Status:
        if self._bag is None:
            return Status(Level.STALE, "not recording")
        counts = self._bag.counts
        values: dict[str, object] = {"path": self._bag.path, "messages": counts.total()}
        values |= {"dropped": self._bag.dropped, "topics": len(counts)}
        if self._bag.error:
            return Status(Level.ERROR, self._bag.error, values)
        return Status(Level.WARN if self._bag.dropped else Level.OK, "recording", values)


def _bag_name(unix_s: int) -> str:
    return datetime.fromtimestamp(unix_s).strftime("shopfloor_%Y%m%d_%H%M%S")


def main() -> int:
    """`ros2 run shopfloor recorder`."""
    return run_node(RecorderNode)


if __name__ == "__main__":
    raise SystemExit(main())
