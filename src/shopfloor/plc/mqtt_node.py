"""mqtt_bridge: verdicts, states, plans and crops to an MQTT broker; nothing comes in.

Each message goes to an outbox on disk first, so that a broker may be away, and the node be killed,
without a message being lost.
"""

from __future__ import annotations

import json
import queue
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from shopfloor_msgs.msg import SuspectCrop

from shopfloor.plc.mqtt_link import Broker, MqttLink
from shopfloor.plc.mqtt_parameters import MqttBridgeParameters
from shopfloor.plc.mqtt_topics import Source, level
from shopfloor.plc.outbox import Outbox
from shopfloor.ros.diagnostics import Level, Status
from shopfloor.ros.main import run_node
from shopfloor.ros.message_data import plain
from shopfloor.ros.node import ShopfloorNode
from shopfloor.ros.paths import state_folder

_CROPS = "suspect_crop"
_TICK_S = 0.5


class MqttBridgeNode(ShopfloorNode[MqttBridgeParameters]):
    """Messages into the outbox; the link carries them on."""

    PARAMETERS = MqttBridgeParameters

    def __init__(self, name: str = "mqtt_bridge", **node_arguments: Any) -> None:
        self._outbox: Outbox | None = None
        self._link: MqttLink | None = None
        self._said: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._state = "never connected"
        super().__init__(name, **node_arguments)

    def setup(self) -> None:
        """Open the outbox and subscribe."""
        params = self.params
        name = self.get_fully_qualified_name().strip("/").replace("/", ".")
        path = state_folder() / name / "outbox.sqlite"
        self._outbox = Outbox(path, int(params.outbox_mb * 1e6))
        password = ""
        if params.password_file:
            lines = Path(params.password_file).read_text(encoding="utf-8").splitlines()
            password = lines[0] if lines else ""
        self._broker = Broker(
            address=params.address,
            port=params.port,
            client_id=name,
            prefix=params.prefix,
            tls=params.tls,
            ca_file=params.ca_file,
            certificate=params.certificate,
            private_key=params.private_key,
            user=params.user,
            password=password,
        )
        for source in map(Source.parse, params.topics):
            self.subscription(source.key, partial(self._on_message, source), **source.names)
        if params.crops:
            self.subscription(_CROPS, self._on_crop)
        self.steady_timer(_TICK_S, self._tick)
        self.diagnostics.add("broker", self._broker_status)

    def start(self) -> None:
        """Connect when the broker is there; the line does not wait for it."""
        assert self._outbox is not None
        self._link = MqttLink(self._broker, self._outbox, self.params.in_flight, self._said.put)
        self._link.start()

    def stop(self) -> None:
        """Disconnect; what waits stays."""
        if self._link is not None:
            self._link.stop()
            self._link = None

    def teardown(self) -> None:
        """Close the outbox."""
        self.diagnostics.remove("broker")
        if self._outbox is not None:
            self._outbox.close()
        self._outbox = None

    def _on_message(self, source: Source, message: Any) -> None:
        self._put(source.topic(self.params.prefix), plain(message), source.retained)

    def _on_crop(self, crop: SuspectCrop) -> None:
        """The description as JSON, the picture as it is."""
        top = f"{self.params.prefix.strip('/')}/{_CROPS}"
        self._put(top, plain(crop, without="image"), False)
        if self.is_active and self._outbox is not None:
            picture = f"{top}/{level(crop.part_id)}/{crop.crop_index}"
            self._outbox.put(picture, bytes(crop.image.data))
            self._poke()

    def _put(self, topic: str, content: Mapping[str, Any], retain: bool) -> None:
        if not self.is_active or self._outbox is None:
            return
        payload = json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode()
        self._outbox.put(topic, payload, retain)
        self._poke()

    def _poke(self) -> None:
        if self._link is not None:
            self._link.poke()

    def _tick(self) -> None:
        while not self._said.empty():
            said = self._said.get()
            if said != self._state:  # a retry that fails for the same reason is no news
                self._state = said
                self.get_logger().info(f"{self._broker.address}:{self._broker.port}: {said}")

    def _broker_status(self) -> Status:
        link, outbox = self._link, self._outbox
        if link is None or outbox is None:
            return Status(Level.STALE, "not active")
        values: dict[str, object] = {
            "waiting": len(outbox),
            "waiting_mb": round(outbox.stored_bytes / 1e6, 3),
            "delivered": link.delivered,
            "dropped": outbox.dropped,
        }
        if not link.connected:
            return Status(Level.WARN, f"{self._state}; messages wait on disk", values)
        if outbox.dropped:
            return Status(
                Level.WARN, "messages were dropped in an outage that was too long", values
            )
        return Status(Level.OK, "connected", values)


def main() -> None:
    """`ros2 run shopfloor mqtt_bridge`."""
    raise SystemExit(run_node(MqttBridgeNode))


if __name__ == "__main__":
    main()
