"""A broker that is away while the line goes on: what waits, in which order it comes, how fast."""

from __future__ import annotations

import getpass
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import paho.mqtt.client as mqtt
import rclpy
from paho.mqtt.enums import CallbackAPIVersion
from plc_line import Caller, free_port
from rich.progress import track
from shopfloor_msgs.msg import PartVerdict
from table import Results

from shopfloor.ros.interfaces import interface
from shopfloor.ros.qos import publisher_qos

RATE_HZ = 50.0
_DRAIN_S = 300.0


class Mosquitto:
    """A broker, and a listener whose session it keeps over a restart."""

    def __init__(self, program: str, folder: Path) -> None:
        self.port = free_port()
        self._program = program
        self._config = folder / "mosquitto.conf"
        self._config.write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous true\nuser {getpass.getuser()}\n"
            f"persistence true\npersistence_location {folder}/\nmax_queued_messages 0\n",
            "utf-8",
        )
        self.heard: list[str] = []

    def start(self) -> None:
        """Both, until the listener hears."""
        self._process = subprocess.Popen(
            [self._program, "-c", str(self._config)], stderr=subprocess.DEVNULL
        )
        self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id="listener", clean_session=False
        )
        self._client.on_message = lambda c, d, m: self.heard.append(
            json.loads(m.payload)["part_id"]
        )
        self._client.on_connect = lambda c, *_: c.subscribe("p/part_verdict", qos=1)
        end = time.monotonic() + 20.0
        while True:
            try:
                self._client.connect("127.0.0.1", self.port)
                break
            except OSError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.05)
        self._client.loop_start()

    def stop(self) -> None:
        """Both."""
        self._client.loop_stop()
        self._process.terminate()
        self._process.wait()


def outage(results: Results, caller: Caller, folder: Path, seconds: float) -> None:
    """Verdicts at 50/s before, during and after an outage of `seconds`."""
    program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
    if program is None:
        print("broker: left out, mosquitto is not installed")
        return
    broker = Mosquitto(program, folder)
    broker.start()
    parameters = {"address": "127.0.0.1", "port": broker.port, "tls": "false", "prefix": "p",
                  "crops": "false", "topics": "[part_verdict]"}  # fmt: skip
    arguments = [word for key, value in parameters.items() for word in ("-p", f"{key}:={value}")]
    bridge = subprocess.Popen(
        [sys.executable, "-m", "shopfloor.plant.group", "--node", "mqtt_bridge:mqtt_bridge",
         "--ros-args", *arguments],
        env={**os.environ, "SHOPFLOOR_STATE_DIR": str(folder / "broker_state")},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    row = interface("part_verdict")
    verdicts = caller.node.create_publisher(PartVerdict, row.name, publisher_qos(row.qos))
    try:
        sent = _publish(caller, verdicts, broker, 2.0, 0, "broker there")
        broker.stop()
        during = _publish(caller, verdicts, broker, seconds, sent, "broker away")
        start = time.monotonic()
        broker.start()
        total = _publish(caller, verdicts, broker, 2.0, during, "broker back")
        end = time.monotonic() + _DRAIN_S
        while len(set(broker.heard)) < total and time.monotonic() < end:
            time.sleep(0.01)
        drained_s = time.monotonic() - start
    finally:
        bridge.terminate()
        bridge.wait(20)
        broker.stop()
        rclpy.shutdown()
    first = list(dict.fromkeys(broker.heard))
    wanted = [str(n) for n in range(total)]
    results.add("broker away, verdicts at 50/s", seconds, "s", None, "600 s")
    results.add("verdicts that never came", total - len(first), "messages", None, "0",
                f"{total} sent, {len(broker.heard) - len(first)} came twice")  # fmt: skip
    results.add("in order", float(first == wanted), "", None, "1")
    results.add("from the broker's return to the last of the backlog", drained_s, "s", None, "",
                f"{during - sent} waited; reconnects after up to 15 s")  # fmt: skip


def _publish(
    caller: Caller, publisher: object, broker: Mosquitto, seconds: float, first: int, what: str
) -> int:
    """At RATE_HZ, from number `first` on; the first number that was not sent."""
    if not first:
        while not publisher.get_subscription_count():  # type: ignore[attr-defined]
            caller.executor.spin_once(0.05)
    start = time.monotonic()
    count = int(seconds * RATE_HZ)
    for number in track(range(count), description=what):
        wait_s = start + number / RATE_HZ - time.monotonic()
        if wait_s > 0:
            time.sleep(wait_s)
        verdict = PartVerdict(part_id=str(first + number), reasons=["a bench"])
        publisher.publish(verdict)  # type: ignore[attr-defined]
    if not first:  # the listener hears before the broker goes
        while not broker.heard:
            time.sleep(0.05)
    return first + count
