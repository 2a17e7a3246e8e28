"""Parameters of the MQTT bridge."""

from __future__ import annotations

from dataclasses import dataclass

from shopfloor.plc.mqtt_topics import Source
from shopfloor.ros.parameters import BaseParameters, ParameterProblem, param


@dataclass(frozen=True)
class MqttBridgeParameters(BaseParameters):
    """See `shopfloor.plc.mqtt_node`."""

    address: str = param("localhost", "Name or address of the broker.")
    port: int = param(8883, "Port of the broker.", ge=1, le=65535)
    tls: bool = param(True, "TLS; off only for a broker on this machine or a test bench.")
    ca_file: str = param("", "Certificate authority of the broker; empty: the system's.")
    certificate: str = param("", "This client's certificate; empty: none.")
    private_key: str = param("", "Key of `certificate`.")
    user: str = param("", "User at the broker; empty: none.")
    password_file: str = param("", "File whose first line is the password.")
    prefix: str = param("shopfloor/line_1", "Start of every MQTT topic.")
    topics: tuple[str, ...] = param(
        ("part_verdict", "line_state"),
        "What goes out: a key of docs/interfaces.md, with its names where it has some, for example "
        "'thermal_state host=edge'.",
    )
    crops: bool = param(True, "JPEG crops of suspect regions go out too.")
    outbox_mb: float = param(
        256.0,
        "What may wait on disk for a broker that is away; beyond, the oldest goes.",
        unit="MB",
        ge=0.01,
        le=100_000.0,
    )
    in_flight: int = param(20, "Messages sent and not yet acknowledged, at most.", ge=1, le=1000)

    def problems(self) -> list[ParameterProblem]:
        """Topics that are none, and characters that MQTT keeps for itself."""
        found = []
        if set("#+\0") & set(self.prefix) or not self.prefix.strip("/"):
            found.append(
                ParameterProblem("prefix", f"'{self.prefix}'; allowed: no #, + and not ''")
            )
        for text in self.topics:
            try:
                Source.parse(text)
            except ValueError as error:
                found.append(ParameterProblem("topics", str(error)))
        return found
