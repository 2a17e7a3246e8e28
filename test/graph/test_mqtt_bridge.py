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
from certificates import Authority
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

    def __init__(self, folder: Path, tls: Authority | None = None) -> None:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            self.port = int(listener.getsockname()[1])
        self._config = folder / "mosquitto.conf"
        config = (
            f"listener {self.port} 127.0.0.1\nallow_anonymous true\nuser {getpass.getuser()}\n"
            f"persistence true\npersistence_location {folder}/\n"
        )
        self._files: list[str | None] = []
        if tls is not None:
            certificate, key = tls.issue("broker")
            config += f"cafile {tls.file}\ncertfile {certificate}\nkeyfile {key}\n"
            config += "require_certificate true\nuse_identity_as_username true\n"
            self._files = [str(tls.file), *map(str, tls.issue("listener"))]
        self._config.write_text(config, "utf-8")
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
        if self._files:
            self._client.tls_set(*self._files)
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


def start(graph: Graph, broker: Broker, name: str = "mqtt_bridge", **more: object) -> Any:
    parameters = {"address": "127.0.0.1", "port": broker.port, "tls": False, "prefix": "p", **more}
    return graph.start(f"mqtt_bridge:{name}", parameters=parameters)


def told(diagnostics: list[Any], node: str) -> str:
    return str(statuses(diagnostics, node)["broker"].message)


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


def test_a_broker_is_believed_by_its_certificate_and_believes_ours(
    graph: Graph, tmp_path: Path
) -> None:
    ours, others = Authority(tmp_path / "ours"), Authority(tmp_path / "others")
    broker = Broker(tmp_path, ours)
    verdicts = publisher(graph, "part_verdict", PartVerdict)
    diagnostics = graph.collect("diagnostics")
    certificate, key = ours.issue("line")
    stranger, stranger_key = others.issue("line")
    right = {"tls": True, "certificate": certificate, "private_key": key, "ca_file": ours.file}
    child = start(graph, broker, **right)
    start(graph, broker, "believes_another", **{**right, "ca_file": others.file})
    start(graph, broker, "plain", tls=False)
    start(graph, broker, "stranger",
          **{**right, "certificate": stranger, "private_key": stranger_key})  # fmt: skip
    try:
        graph.until(lambda: ("p/status", b"online") in broker.heard, "the status")
        for node in (BRIDGE, "/believes_another", "/plain", "/stranger"):
            graph.until_state(node, ACTIVE)
        graph.until(lambda: verdicts.get_subscription_count() == 4, "listeners")
        verdicts.publish(PartVerdict(part_id="a"))
        graph.until(lambda: broker.parts() == ["a"], "the verdict")
        for node, cause in (
            ("/believes_another", "certificate verify failed"),
            ("/plain", "connect"),
            ("/stranger", "connect"),
        ):
            graph.until(
                lambda node=node, cause=cause: (
                    cause in told(diagnostics, node) and told(diagnostics, node) != "connected"
                ),
                f"{node}: {cause}",
            )
        graph.until(lambda: told(diagnostics, BRIDGE) == "connected", "our own connection")
        child.signal(signal.SIGKILL)
        graph.until(lambda: broker.heard[-1] == ("p/status", b"offline"), "the last will")
        assert broker.parts() == ["a"]
    finally:
        broker.stop()


def test_beyond_the_bound_the_oldest_go_and_are_counted(graph: Graph, broker: Broker) -> None:
    verdicts = publisher(graph, "part_verdict", PartVerdict)
    diagnostics = graph.collect("diagnostics")
    start(graph, broker, outbox_mb=0.05, in_flight=1)
    graph.until(verdicts.get_subscription_count, "the listener")
    graph.until_state(BRIDGE, ACTIVE)
    verdicts.publish(PartVerdict(part_id="0"))
    graph.until(lambda: broker.parts() == ["0"], "the first")
    broker.stop()

    def values() -> dict[str, int]:
        rows = {v.key: v.value for v in statuses(diagnostics, BRIDGE)["broker"].values}
        return {key: int(rows.get(key, 0)) for key in ("waiting", "dropped")}

    for number in range(1, 200):
        verdicts.publish(PartVerdict(part_id=str(number)))
        if number % 20 == 0:  # not faster than its queue is read
            graph.until(lambda n=number: sum(values().values()) >= n, "messages on disk")
    graph.until(lambda: sum(values().values()) >= 199, "all on disk")
    kept, dropped = values()["waiting"], values()["dropped"]
    assert kept + dropped == 199 and 10 < kept < 190
    broker.start()
    graph.until(lambda: "199" in broker.parts(), "the backlog", timeout_s=60.0)
    assert broker.parts()[1:] == [str(n) for n in range(200 - kept, 200)]
