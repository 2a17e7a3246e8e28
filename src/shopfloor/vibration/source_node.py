"""vibration_source: files, datagrams or a serial port as VibrationBlock and Tachometer messages."""

from __future__ import annotations

import math
import socket
import time
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np

from shopfloor.ros.diagnostics import Level, Status
from shopfloor.ros.loop_thread import LoopThread
from shopfloor.ros.main import run_node
from shopfloor.ros.node import NodeError, ShopfloorNode
from shopfloor.ros.timing import RateMeter
from shopfloor.vibration import messages, wire
from shopfloor.vibration.analysis import SpeedSource
from shopfloor.vibration.recordings import SUFFIXES, Recording, read_recording
from shopfloor.vibration.serial_port import SerialPort
from shopfloor.vibration.signal import UNITS, Block
from shopfloor.vibration.source_parameters import VibrationSourceParameters

_USUAL_ADDRESS = "127.0.0.1:17001"
_SLICE_S = 0.1
_MAX_WAITING = 1000
_RECEIVE_BUFFER = 4 * 1024 * 1024
"""A second of 36 channels at 10 kHz: what comes while the executor is busy elsewhere."""

_REOPEN_S = 0.2
_RESYNC_NS = 300_000_000
"""Stamps that are further from now are set anew, as after a suspended process."""


class VibrationSourceNode(ShopfloorNode[VibrationSourceParameters]):
    """Reads on a thread of its own; publishes on the executor."""

    PARAMETERS = VibrationSourceParameters

    def __init__(self, name: str = "vibration_source", **node_arguments: Any) -> None:
        self._loop = LoopThread("vibration source")
        self._socket: socket.socket | None = None
        self._sequence = 0
        super().__init__(name, **node_arguments)

    def setup(self) -> None:
        """Read the files, or check the address."""
        params = self.params
        self._recordings: list[Recording] = []
        if params.source == "file":
            self._recordings = [self._read(path) for path in _files(Path(params.address))]
        elif params.source == "udp":
            self._udp_address = _address(params.address or _USUAL_ADDRESS)
        self._waiting: deque[tuple[Block, float]] = deque()
        self._rate = RateMeter()
        self._published = 0
        self._ended = False
        self._gone = ""
        self._blocks = self.publisher("vibration_block")
        self._speeds = self.publisher("tachometer")
        self._ready = self.guard(self._publish, "publish blocks")
        self.diagnostics.add("source", self._source_status)

    def start(self) -> None:
        """Open the socket, start the thread."""
        self._ended, self._gone = False, ""
        if self.params.source == "udp":
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
            self._socket.settimeout(_SLICE_S)
            try:
                self._socket.bind(self._udp_address)
            except OSError as error:
                address, port = self._udp_address
                raise NodeError(f"cannot listen on {address}:{port}: {error}") from error
        runs = {"udp": self._receive, "serial": self._listen, "file": self._play}
        self._loop.start(runs[self.params.source])

    def stop(self) -> None:
        """End the thread, close the socket."""
        self._loop.stop()
        opened, self._socket = self._socket, None
        if opened is not None:
            opened.close()

    def teardown(self) -> None:
        """Forget the files."""
        self.diagnostics.remove("source")
        self._recordings = []

    # On the source's thread ---------------------------------------------------------------------

    def _receive(self) -> None:
        assert self._socket is not None
        while not self._loop.stopping.is_set():
            try:
                datagram = self._socket.recv(wire.MAX_DATAGRAM)
            except TimeoutError:
                continue
            except OSError as error:
                self.fault("socket", str(error))
                self._loop.stopping.wait(_SLICE_S)
                continue
            self._decode(datagram)

    def _listen(self) -> None:
        """A port that is not there, or goes away, is opened again as soon as it is back."""
        params = self.params
        while not self._loop.stopping.is_set():
            frames = wire.SlipReader()  # what was half read is never finished
            try:
                with SerialPort(params.address, params.baud) as port:
                    self._gone = ""
                    while not self._loop.stopping.is_set():
                        for frame in frames.feed(port.read(_SLICE_S)):
                            self._decode(frame)
            except OSError as error:
                if not self._gone:
                    self.fault("serial port", str(error))
                self._gone = str(error)
                self._loop.stopping.wait(_REOPEN_S)

    def _decode(self, datagram: bytes) -> None:
        try:
            self._offer(*wire.decode(datagram, time.time_ns()))
        except wire.WireError as error:
            self.fault("datagram", str(error))

    def _play(self) -> None:
        params = self.params
        unit, factor = UNITS[params.unit]
        due, end_ns = time.monotonic(), self.now_ns()
        while not self._loop.stopping.is_set():
            for recording in self._recordings:
                rate_hz = params.rate_hz or recording.rate_hz
                size = max(1, round(params.block_s * rate_hz))
                length_ns = round(size / rate_hz * 1e9)
                for first in range(0, recording.data.shape[1] - size + 1, size):
                    due += size / rate_hz / params.speedup
                    if self._loop.stopping.wait(max(0.0, due - time.monotonic())):
                        return
                    # Stamps follow each other as a converter's do, whenever this thread woke.
                    end_ns += length_ns
                    now_ns = self.now_ns() if params.speedup == 1.0 else end_ns
                    if abs(now_ns - end_ns) > _RESYNC_NS:
                        end_ns = now_ns
                    data = recording.data[:, first : first + size] * np.float32(factor)
                    block = Block(
                        machine_id=params.machine_id,
                        sensor_id=params.sensor_id,
                        sequence=self._sequence,
                        stamp_ns=end_ns - length_ns,
                        received_ns=now_ns,
                        sample_rate_hz=rate_hz,
                        channels=recording.channels,
                        unit=unit,
                        data=data,
                        full_scale=params.full_scale * factor or math.nan,
                        frame_id=params.sensor_id,
                    )
                    self._sequence += 1
                    self._offer(block, params.speed_rpm or math.nan)
            if not params.loop:
                self._ended = True
                return

    def _offer(self, block: Block, speed_rpm: float) -> None:
        if len(self._waiting) >= _MAX_WAITING:
            self.fault("block dropped", f"{_MAX_WAITING} blocks wait to be published")
            return
        self._waiting.append((block, speed_rpm))
        self._ready.trigger()

    # On the executor thread ---------------------------------------------------------------------

    def _publish(self) -> None:
        while self._waiting:
            block, speed_rpm = self._waiting.popleft()
            if not self.is_active:
                continue
            try:
                message = messages.block_message(block)
            except (ValueError, AssertionError) as error:
                self.fault("block refused", str(error))
                continue
            if speed_rpm >= 0:
                self._speeds.publish(
                    messages.tachometer(block, speed_rpm, int(SpeedSource.MEASURED))
                )
            self._blocks.publish(message)
            self._published += 1
            self._rate.tick()

    def _source_status(self) -> Status:
        params = self.params
        where = params.address or _USUAL_ADDRESS
        values: dict[str, object] = {"address": where, "blocks": self._published}
        if not self.is_active:
            return Status(Level.STALE, "not active", values)
        if self._gone:
            return Status(Level.ERROR, f"{where}: {self._gone}", values)
        hz = self._rate.hz()
        values["blocks per s"] = hz
        if self._ended:
            return Status(Level.OK, f"{where} was played to its end", values)
        if not hz:
            return Status(Level.STALE, f"no blocks from {where}", values)
        return Status(Level.OK, f"{hz:.1f} blocks/s from {where}", values)

    def _read(self, path: Path) -> Recording:
        recording = read_recording(path, self.params.variable)
        rate_hz = self.params.rate_hz or recording.rate_hz
        if not rate_hz > 0:
            raise NodeError(f"{path} does not tell its sample rate: set rate_hz")
        if recording.data.shape[1] < round(self.params.block_s * rate_hz):
            raise NodeError(f"{path} is shorter than a block of {self.params.block_s:g} s")
        return recording


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        found = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES)
        if not found:
            raise NodeError(f"{path}: no {', '.join(SUFFIXES)} in it")
        return found
    if not path.is_file():
        raise NodeError(f"{path}: no such file or folder")
    return [path]


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise NodeError(f"address '{text}' is not ADDRESS:PORT, for example {_USUAL_ADDRESS}")
    return host, int(port)


def main() -> int:
    """`ros2 run shopfloor vibration_source`."""
    return run_node(VibrationSourceNode)


if __name__ == "__main__":
    raise SystemExit(main())
