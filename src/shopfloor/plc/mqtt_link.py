"""Carries the outbox to a broker: in order, acknowledged, over outages. Needs no ROS.

MQTT 5, quality of service 1: a message may come twice after a crash, never out of order and never
not at all; its `n` tells a repeat. The last will says `offline` on PREFIX/status.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from shopfloor.plc.outbox import Outbox

_RETRY_MIN_S, _RETRY_MAX_S = 1, 15
_KEEP_ALIVE_S = 10
_IDLE_S = 0.5
_END_S = 2.0
_STATUS = 0
"""Number of what does not come from the outbox."""


@dataclass(frozen=True)
class Broker:
    """How the broker is reached."""

    address: str
    port: int
    client_id: str
    prefix: str
    tls: bool = True
    ca_file: str = ""
    certificate: str = ""
    private_key: str = ""
    user: str = ""
    password: str = ""


class MqttLink:
    """A paho client and the thread that feeds it from the outbox."""

    def __init__(
        self, broker: Broker, outbox: Outbox, in_flight: int, told: Callable[[str], None]
    ) -> None:
        """told: called with each change of the connection, on another thread.

        Raises OSError or ValueError where certificates cannot be read.
        """
        self._broker = broker
        self._outbox = outbox
        self._told = told
        self._status = f"{broker.prefix.strip('/')}/status"
        self._in_flight = in_flight
        self._waiting: dict[int, int] = {}
        self._early: set[int] = set()
        self._sent = 0
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stopping = False
        self.connected = False
        self.delivered = 0
        self._client = client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=broker.client_id,
            protocol=MQTTProtocolVersion.MQTTv5,
        )
        client.max_inflight_messages_set(in_flight)
        client.reconnect_delay_set(_RETRY_MIN_S, _RETRY_MAX_S)
        client.will_set(self._status, "offline", qos=1, retain=True)
        if broker.user:
            client.username_pw_set(broker.user, broker.password or None)
        if broker.tls:
            client.tls_set(
                broker.ca_file or None, broker.certificate or None, broker.private_key or None
            )
        client.on_connect = self._on_connect
        client.on_connect_fail = self._on_connect_fail
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        self._thread = threading.Thread(target=self._feed, name="mqtt", daemon=True)

    def start(self) -> None:
        """Connect, now or as soon as the broker is there."""
        self._client.connect_async(self._broker.address, self._broker.port, _KEEP_ALIVE_S)
        self._client.loop_start()
        self._thread.start()

    def stop(self) -> None:
        """Say goodbye; what is not acknowledged stays in the outbox."""
        self._stopping = True
        self._wake.set()
        self._thread.join(_END_S)
        if self.connected:
            with contextlib.suppress(ValueError, RuntimeError):
                self._publish(_STATUS, self._status, "offline", True).wait_for_publish(_END_S)
        self._client.disconnect()
        self._client.loop_stop()

    def poke(self) -> None:
        """There is something new in the outbox."""
        self._wake.set()

    def _feed(self) -> None:
        while not self._stopping:
            room = self._in_flight - len(self._waiting)
            parcels = self._outbox.after(self._sent, room) if self.connected and room > 0 else []
            for parcel in parcels:
                properties = Properties(PacketTypes.PUBLISH)
                json = parcel.payload[:1] == b"{"
                properties.ContentType = "application/json" if json else "image/jpeg"
                properties.UserProperty = ("n", str(parcel.number))
                self._publish(
                    parcel.number, parcel.topic, parcel.payload, parcel.retain, properties
                )
                self._sent = parcel.number
            if not parcels:
                self._wake.wait(_IDLE_S)
                self._wake.clear()

    def _publish(
        self, number: int, topic: str, payload: Any, retain: bool, properties: Any = None
    ) -> mqtt.MQTTMessageInfo:
        """Not under the lock: paho calls `_on_publish` with locks of its own."""
        info = self._client.publish(topic, payload, 1, retain, properties)
        with self._lock:
            early = info.mid in self._early
            self._early.discard(info.mid)
            if not early:
                self._waiting[info.mid] = number
        if early:
            self._acknowledged(number)
        return info

    def _on_publish(self, client: Any, data: Any, mid: int, reason: Any, properties: Any) -> None:
        with self._lock:
            number = self._waiting.pop(mid, None)
            if number is None:
                self._early.add(mid)
        if number is not None:
            self._acknowledged(number)

    def _acknowledged(self, number: int) -> None:
        if number != _STATUS:
            self._outbox.done(number)
            self.delivered += 1
        self._wake.set()

    def _on_connect(self, client: Any, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        if reason.is_failure:
            self._told(f"the broker refuses: {reason}")
            return
        self.connected = True
        self._publish(_STATUS, self._status, "online", True)
        self._told("connected")
        self._wake.set()

    def _on_connect_fail(self, client: Any, data: Any) -> None:
        # paho calls this where it catches the error, and does not hand it over.
        self._told(f"cannot connect: {sys.exc_info()[1]}")

    def _on_disconnect(
        self, client: Any, data: Any, flags: Any, reason: Any, properties: Any
    ) -> None:
        self.connected = False
        if not self._stopping:
            self._told(f"connection lost: {reason}")
