"""machine_simulator: three-axis sensors on machines that wear, and an acquisition that fails."""

from __future__ import annotations

import math
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
from shopfloor_msgs.msg import Tachometer, VibrationBlock

from shopfloor.ros.diagnostics import Level, Status
from shopfloor.ros.loop_thread import LoopThread
from shopfloor.ros.main import run_node
from shopfloor.ros.node import ShopfloorNode
from shopfloor.sim.acquisition import (
    ACQUISITION_FAULTS,
    Acquisition,
    RawBlock,
    ScheduledFault,
    parse_scheduled,
)
from shopfloor.sim.machine_parameters import MachineSimulatorParameters
from shopfloor.sim.machines import AXES, FAULT_KINDS, MACHINES, MachineFault, MachineStream

_FULL_SCALE_M_S2 = 490.0
"""A sensor of 50 g."""

_MAX_WAITING = 2000
_RESYNC_NS = 300_000_000


@dataclass
class _Machine:
    """A machine, its acquisition, and the samples made ahead."""

    name: str
    stream: MachineStream
    acquisition: Acquisition
    ahead: np.ndarray[Any, np.dtype[np.float32]]


class MachineSimulatorNode(ShopfloorNode[MachineSimulatorParameters]):
    """Makes samples on a thread of its own; publishes on the executor."""

    PARAMETERS = MachineSimulatorParameters

    def __init__(self, name: str = "machine_simulator", **node_arguments: Any) -> None:
        self._loop = LoopThread("machines")
        self._faults: tuple[ScheduledFault, ...] = ()
        super().__init__(name, **node_arguments)

    def setup(self) -> None:
        """Build the machines."""
        params = self.params
        specs = {spec.name: spec for spec in MACHINES}
        rate_hz = params.sample_rate_hz
        self._machines = [
            _Machine(
                name,
                MachineStream(specs[name], params.seed + k, sample_rate_hz=rate_hz),
                Acquisition(params.seed + k, rate_hz),
                np.empty((len(AXES), 0), np.float32),
            )
            for k, name in enumerate(dict.fromkeys(params.machines))
        ]
        self._schedule()
        self._waiting: deque[VibrationBlock | Tachometer] = deque(maxlen=_MAX_WAITING)
        self._sequence = 0
        self._blocks = self.publisher("vibration_block")
        self._speeds = self.publisher("tachometer")
        self._ready = self.guard(self._publish, "publish blocks")
        self.diagnostics.add("machines", self._machines_status)

    def start(self) -> None:
        """Let the machines run."""
        self._started_s = time.monotonic()
        self._loop.start(self._run)

    def stop(self) -> None:
        """Let them stand."""
        self._loop.stop()

    def teardown(self) -> None:
        """Forget the machines."""
        self.diagnostics.remove("machines")
        self._machines = []

    def parameters_changed(
        self, old: MachineSimulatorParameters, new: MachineSimulatorParameters
    ) -> None:
        """A new timetable counts from activation, as the old one did."""
        if new.faults != old.faults:
            self._schedule()

    def _schedule(self) -> None:
        kinds = FAULT_KINDS + ACQUISITION_FAULTS
        self._faults = tuple(parse_scheduled(fault, kinds) for fault in self.params.faults)

    # On the machines' thread --------------------------------------------------------------------

    def _run(self) -> None:
        params = self.params
        size = max(1, round(params.block_s * params.sample_rate_hz))
        length_ns = round(size / params.sample_rate_hz * 1e9)
        due, end_ns = time.monotonic(), self.now_ns()
        while not self._loop.stopping.is_set():
            due += length_ns / 1e9
            if self._loop.stopping.wait(max(0.0, due - time.monotonic())):
                return
            end_ns += length_ns
            if abs(self.now_ns() - end_ns) > _RESYNC_NS:
                due, end_ns = time.monotonic(), self.now_ns()
            try:
                for machine in self._machines:
                    self._make(machine, size, end_ns - length_ns, length_ns)
            except Exception as error:  # the floor must not stop in silence
                self.fault("machines", f"{type(error).__name__}: {error}")
            self._sequence += 1
            self._ready.trigger()

    def _make(self, machine: _Machine, size: int, stamp_ns: int, length_ns: int) -> None:
        at_s = time.monotonic() - self._started_s
        now = [fault for fault in self._faults if fault.is_on(machine.name, at_s)]
        if machine.ahead.shape[1] < size:
            # A second at a time: the model costs less in one piece.
            wear = [f for f in now if f.kind in FAULT_KINDS]
            machine.stream.fault = MachineFault(wear[-1].kind, wear[-1].severity) if wear else None
            phase = 2 * math.pi * at_s / self.params.load_period_s
            machine.stream.load = 0.8 + 0.2 * math.sin(phase)
            made = machine.stream.take(max(size, round(self.params.sample_rate_hz)))
            machine.ahead = np.concatenate([machine.ahead, made], axis=1)
        data, machine.ahead = machine.ahead[:, :size], machine.ahead[:, size:]
        block = RawBlock(data, self._sequence, stamp_ns, _FULL_SCALE_M_S2)
        for fault in now:
            if fault.kind in ACQUISITION_FAULTS:
                block = machine.acquisition.spoil(block, fault.kind)
        message = self._message(machine.name, block)
        self._waiting.extend([message] * block.copies)
        if self._sequence % max(1, round(1e9 / length_ns)) == 0:
            self._waiting.append(self._tachometer(machine, stamp_ns + length_ns // 2))

    def _message(self, machine: str, block: RawBlock) -> VibrationBlock:
        message = VibrationBlock(
            machine_id=machine,
            sensor_id=f"{machine}_de",
            sequence=block.sequence,
            sample_rate_hz=self.params.sample_rate_hz,
            channels=list(AXES),
            unit=VibrationBlock.UNIT_ACCELERATION,
            full_scale=block.full_scale,
            samples_per_channel=block.claimed_samples or block.data.shape[1],
        )
        message.header.stamp = self.stamp(block.stamp_ns)
        message.header.frame_id = f"{machine}_de"
        message.received_stamp = self.stamp(self.now_ns())
        message.bias_v.extend(block.bias_v)
        message.data.frombytes(np.ascontiguousarray(block.data).tobytes())
        return message

    def _tachometer(self, machine: _Machine, stamp_ns: int) -> Tachometer:
        message = Tachometer(
            machine_id=machine.name,
            source=Tachometer.SOURCE_MEASURED,
            speed_rpm=machine.stream.speed_rpm,
            speed_error_rpm=1.0,
            load_percent=100 * machine.stream.load,
        )
        message.header.stamp = self.stamp(stamp_ns)
        return message

    # On the executor thread ---------------------------------------------------------------------

    def _publish(self) -> None:
        while self._waiting:
            message = self._waiting.popleft()
            if isinstance(message, Tachometer):
                self._speeds.publish(message)
            else:
                self._blocks.publish(message)

    def _machines_status(self) -> Status:
        if not self.is_active:
            return Status(Level.STALE, "the machines stand still")
        at_s = time.monotonic() - self._started_s
        values: dict[str, object] = {"blocks": self._sequence}
        for machine in self._machines:
            kinds = [f.kind for f in self._faults if f.is_on(machine.name, at_s)]
            values[machine.name] = ", ".join(kinds) or "well"
        on = [f"{m.name}: {values[m.name]}" for m in self._machines if values[m.name] != "well"]
        if on:
            return Status(Level.WARN, f"simulated fault: {'; '.join(on)}", values)
        return Status(Level.OK, f"{len(self._machines)} machines run", values)


def main() -> int:
    """`ros2 run shopfloor machine_simulator`."""
    return run_node(MachineSimulatorNode)


if __name__ == "__main__":
    raise SystemExit(main())
