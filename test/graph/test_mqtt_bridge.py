"""mqtt_bridge with a real mosquitto: outages, kills, order. Skipped where there is no mosquitto."""

from __future__ import annotations

import getpass
import json
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from harness import ACTIVE, Graph, statuses
from paho.mqtt.enums import CallbackAPIVersion
from shopfloor_msgs.msg import PartVerdict, SuspectCrop

from shopfloor.ros.interfaces import interface
from shopfloor.ros.qos import publisher_qos

MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
pytestmark = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")
BRIDGE = "/mqtt_bridge"


class Broker:
    """A mosquitto and a client that hears it all: the broker keeps its session over a restart."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            self.port = int(listener.getsockname()[1])
        self._config = folder / "mosquitto.conf"
        self._config.write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous true\nuser {getpass.getuser()}\n"
            f"persistence true\npersistence_location {folder}/\n",
            "utf-8",
        )
        self.heard: list[tuple[str, bytes]] = []
        self.start()

    def start(self) -> None:
        assert MOSQUITTO is not None
        self._process = subprocess.Popen(
            [MOSQUITTO, "-c", str(self._config)], stderr=subprocess.DEVNULL
        )
        end = time.monotonic() + 20.0
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                break
            except OSError:
                assert time.monotonic() < end, "mosquitto does not listen"
        self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id="listener", clean_session=False
        )
        self._client.on_message = lambda c, d, m: self.heard.append((m.topic, bytes(m.payload)))
        self._client.on_connect = lambda c, *_: c.subscribe("#", qos=1)
        self._client.connect("127.0.0.1", self.port)
        self._client.loop_start()

    def stop(self) -> None:
        self._client.loop_stop()
        self._process.terminate()
        self._process.wait()

    def parts(self) -> list[str]:
        """Part ids of the verdicts, in the order in which they came."""
        return [json.loads(p)["part_id"] for topic, p in self.heard if topic == "p/part_verdict"]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    made = Broker(tmp_path)
    yield made
    made.stop()


def publisher(graph: Graph, key: str, kind: Any) -> Any:
    row = interface(key)
    return graph.node.create_publisher(kind, row.name, publisher_qos(row.qos))


def start(graph: Graph, broker: Broker) -> Any:
    return graph.start(
        "mqtt_bridge:mqtt_bridge",
        parameters={"address": "127.0.0.1", "port": broker.port, "tls": False, "prefix": "p"},
    )


def test_verdicts_and_crops_go_out(graph: Graph, broker: Broker) -> None:
    verdicts = publisher(graph, "part_verdict", PartVerdict)
    crops = publisher(graph, "suspect_crop", SuspectCrop)
    child = start(graph, broker)
    graph.until(lambda: ("p/status", b"online") in broker.heard, "the status")
    graph.until(
        lambda: verdicts.get_subscription_count() and crops.get_subscription_count(), "listeners"
    )
    verdicts.publish(PartVerdict(part_id="a", verdict=2, reasons=["short"]))
    crop = SuspectCrop(part_id="a/1")
    crop.image.data.frombytes(b"\xff\xd8jpeg")
    crops.publish(crop)
    graph.until(lambda: ("p/suspect_crop/a_1/0", b"\xff\xd8jpeg") in broker.heard, "the crop")
    said = dict(broker.heard)
    verdict = json.loads(said["p/part_verdict"])
    assert (verdict["verdict"], verdict["reasons"], verdict["latency_ms"]) == (2, ["short"], 0.0)
    assert "image" not in json.loads(said["p/suspect_crop"])
    child.signal(signal.SIGKILL)
    graph.until(lambda: broker.heard[-1] == ("p/status", b"offline"), "the last will")


def test_nothing_is_lost_while_the_broker_is_away_or_the_node_is_killed(
    graph: Graph, broker: Broker
) -> None:
    verdicts = publisher(graph, "part_verdict", PartVerdict)
    diagnostics = graph.collect("diagnostics")
    child = start(graph, broker)
    graph.until(verdicts.get_subscription_count, "the listener")
    graph.until_state(BRIDGE, ACTIVE)
    verdicts.publish(PartVerdict(part_id="0"))
    graph.until(lambda: broker.parts() == ["0"], "the first")
    broker.stop()
    for number in range(1, 60):
        verdicts.publish(PartVerdict(part_id=str(number)))

    def waiting() -> bool:
        values = {v.key: v.value for v in statuses(diagnostics, BRIDGE)["broker"].values}
        return int(values.get("waiting", 0)) >= 59

    graph.until(waiting, "59 messages on disk")
    child.signal(signal.SIGKILL)
    child.wait()
    graph.until(lambda: not verdicts.get_subscription_count(), "the end of the listener")
    start(graph, broker)
    graph.until(verdicts.get_subscription_count, "the listener")
    graph.until_state(BRIDGE, ACTIVE)
    verdicts.publish(PartVerdict(part_id="60"))
    broker.start()
    graph.until(lambda: "60" in broker.parts(), "the backlog", timeout_s=60.0)
    assert broker.parts() == [str(number) for number in range(61)]
    graph.until(
        lambda: statuses(diagnostics, BRIDGE)["broker"].message == "connected", "all well again"
    )
