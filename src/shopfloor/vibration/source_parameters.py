"""Parameters of the vibration source."""

from __future__ import annotations

from dataclasses import dataclass

from shopfloor.ros.parameters import BaseParameters, ParameterProblem, param
from shopfloor.vibration.serial_port import BAUD_RATES
from shopfloor.vibration.signal import UNITS


@dataclass(frozen=True)
class VibrationSourceParameters(BaseParameters):
    """Where the signal comes from, and what it is."""

    source: str = param("udp", "Kind of source.", choices=("udp", "serial", "file"))
    address: str = param(
        "",
        "udp: ADDRESS:PORT to listen on, for example 0.0.0.0:17001 (empty: 127.0.0.1:17001). "
        "serial: the port, best by its fixed name, for example /dev/serial/by-id/usb-...; "
        "file: a .npy, .csv, .wav or .mat file, or a folder of them, played one after another.",
    )
    baud: int = param(
        921_600, "serial: one of the usual rates; 8N1, no flow control.", unit="bit/s", ge=9600,
        le=4_000_000,
    )  # fmt: skip
    machine_id: str = param("machine", "file: the machine.")
    sensor_id: str = param("sensor", "file: the sensor.")
    variable: str = param("", "file: array of a .mat file; empty: the largest one.")
    rate_hz: float = param(0.0, "file: sample rate; 0: from the file.", unit="Hz", ge=0.0, le=1e6)
    unit: str = param(
        "m/s^2", "file: unit of the samples; g becomes m/s^2.",
        choices=tuple(UNITS),
    )  # fmt: skip
    full_scale: float = param(
        0.0, "file: range of the recording in that unit; 0: not known.", ge=0.0
    )
    speed_rpm: float = param(
        0.0, "file: shaft speed to publish beside it; 0: none.", unit="1/min", ge=0.0, le=1e6
    )
    block_s: float = param(0.1, "file: length of a block.", unit="s", ge=0.005, le=5.0)
    speedup: float = param(1.0, "file: times real time.", ge=0.01, le=1000.0)
    loop: bool = param(True, "file: begin again at the end.")

    def problems(self) -> list[ParameterProblem]:
        """A file source needs a file, a serial one a port."""
        found = super().problems()
        if self.source == "serial" and not self.address:
            found.append(ParameterProblem("address", "source serial needs a port"))
        if self.baud not in BAUD_RATES:
            rates = ", ".join(map(str, BAUD_RATES))
            found.append(ParameterProblem("baud", f"{self.baud} is none of {rates}"))
        if self.source == "file" and not self.address:
            found.append(ParameterProblem("address", "source file needs a file or a folder"))
        return found
