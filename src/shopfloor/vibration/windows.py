"""From blocks to windows: a window holds samples without a break, or says why it has none.

A break ends the window that was being filled: it comes out UNKNOWN with its reason, and the block
after the break starts a new one. So a sensor is back one window after it is well again.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import numpy as np

from shopfloor.vibration.clock import ClockLimits, StreamClock
from shopfloor.vibration.signal import Block, Defect, Quality, Samples, Status, Unit, Window, worst

_RESTARTING = (
    Defect.GAP
    | Defect.NON_MONOTONIC
    | Defect.TIME_JUMP
    | Defect.ZONE_OFFSET
    | Defect.SECOND_OFFSET
    | Defect.FORMAT
)


class SensorStream:
    """The windows of one sensor.

    window_s: length. counts: blocks with each defect, by its name, and those thrown away.
    """

    def __init__(self, window_s: float, limits: ClockLimits | None = None) -> None:
        self.window_s = window_s
        self.counts: Counter[str] = Counter()
        self._clock = StreamClock(limits)
        self._format: tuple[float, tuple[str, ...], Unit] | None = None
        self._parts: list[Block] = []
        self._filled = 0
        self._qualities: list[Quality] = []

    def add(self, block: Block) -> list[Window]:
        """Take in a block; the windows that it completed or broke off, mostly none or one.

        A block whose sizes contradict themselves is counted and gives an UNKNOWN window.
        """
        problem = self._format_problem(block)
        if problem:
            self.counts["FORMAT"] += 1
            self._reset()
            return [_broken(block, [Quality(Status.UNKNOWN, Defect.FORMAT, problem)])]
        repeats = self._clock.repeats(block)
        follows, quality = self._clock.check(block)
        for defect in Defect:
            if quality.defects & defect:
                self.counts[str(defect.name)] += 1
        if repeats:
            self.counts["thrown away"] += 1
            return []
        windows: list[Window] = []
        if not follows and quality.defects & _RESTARTING:
            windows.append(_broken(self._parts[0] if self._parts else block,
                                   [*self._qualities, quality]))  # fmt: skip
            self._reset()
            # The break has been said; only an offset from arrival still holds for this block.
            if not self._persists(quality):
                quality = Quality(
                    clock_offset_s=quality.clock_offset_s, clock_drift_ppm=quality.clock_drift_ppm
                )
        self._parts.append(block)
        self._qualities.append(quality)
        self._filled += block.data.shape[1]
        return windows + self._complete(block)

    def _complete(self, block: Block) -> list[Window]:
        """Windows that are full now; what is left over starts the next one."""
        samples = max(1, round(self.window_s * block.sample_rate_hz))
        windows = []
        while self._filled >= samples:
            data, rest = self._cut(samples)
            first, last = self._parts[0], self._parts[-1]
            stamp_ns = first.stamp_ns
            windows.append(
                Window(
                    machine_id=last.machine_id,
                    sensor_id=last.sensor_id,
                    frame_id=last.frame_id,
                    stamp_ns=stamp_ns,
                    first_sequence=first.sequence,
                    last_sequence=last.sequence,
                    sample_rate_hz=last.sample_rate_hz,
                    channels=last.channels,
                    unit=last.unit,
                    data=data,
                    full_scale=last.full_scale,
                    bias_v=last.bias_v,
                    clock=worst(self._qualities),
                )
            )
            last_quality = self._qualities[-1]
            self._reset()
            if rest.shape[1]:
                used = last.data.shape[1] - rest.shape[1]
                step_ns = round(used / last.sample_rate_hz * 1e9)
                self._parts = [replace(last, data=rest, stamp_ns=last.stamp_ns + step_ns)]
                self._qualities = [last_quality]
                self._filled = rest.shape[1]
        return windows

    def _cut(self, samples: int) -> tuple[Samples, Samples]:
        """The first `samples` of what is there, and the rest of the last block."""
        parts = [part.data for part in self._parts]
        extra = self._filled - samples
        if extra:
            parts[-1], rest = np.split(parts[-1], [parts[-1].shape[1] - extra], axis=1)
        else:
            rest = parts[-1][:, :0]
        return (parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)), rest

    def _format_problem(self, block: Block) -> str:
        """Why a block cannot be read as its own head says; empty: it can."""
        rate = block.sample_rate_hz
        if not (math.isfinite(rate) and rate > 0):
            return f"sample rate {rate} Hz is not positive"
        if block.data.ndim != 2 or len(block.data) != len(block.channels):
            return f"{block.data.shape} samples for {len(block.channels)} channels"
        if not block.channels or not block.data.shape[1]:
            return "a block without samples"
        if block.bias_v and len(block.bias_v) != len(block.channels):
            return f"{len(block.bias_v)} bias voltages for {len(block.channels)} channels"
        format_ = (rate, block.channels, block.unit)
        if self._format is not None and self._format != format_:
            problem = f"rate, channels or unit changed from {self._format} to {format_}"
            self._format = format_
            return problem
        self._format = format_
        return ""

    @staticmethod
    def _persists(quality: Quality) -> bool:
        return math.isfinite(quality.clock_offset_s) and "from arrival" in quality.reason

    def _reset(self) -> None:
        self._parts, self._qualities, self._filled = [], [], 0


def _broken(block: Block, qualities: list[Quality]) -> Window:
    """The window that a break ended: no samples, and why."""
    return Window(
        machine_id=block.machine_id,
        sensor_id=block.sensor_id,
        frame_id=block.frame_id,
        stamp_ns=block.stamp_ns,
        first_sequence=block.sequence,
        last_sequence=block.sequence,
        sample_rate_hz=block.sample_rate_hz,
        channels=block.channels,
        unit=block.unit,
        data=np.zeros((len(block.channels), 0), np.float32),
        clock=worst(qualities),
    )
