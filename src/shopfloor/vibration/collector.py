"""Puts the story of a machine together from its messages, live or out of a bag."""

from __future__ import annotations

import math
from collections import deque
from typing import Any

import numpy as np

from shopfloor.vibration.report import Story, TrendPoint
from shopfloor.vibration.signal import Samples, Unit, Window

KEYS = ("vibration_block", "vibration_features", "machine_health")
"""Rows of the interface table that are needed."""


class Collector:
    """Takes messages in the order of their time.

    window_s: length of waveform that is kept.
    """

    def __init__(self, machine_id: str, window_s: float = 1.0) -> None:
        self.story = Story(machine_id)
        self.machines: set[str] = set()
        self._window_s = window_s
        self._blocks: dict[str, deque[Any]] = {}
        self._velocity = math.nan

    def add(self, key: str, message: Any) -> None:
        """A message of the interface `key`; others' are only remembered by their machine."""
        self.machines.add(message.machine_id)
        if message.machine_id != self.story.machine_id:
            return
        if key == "vibration_block":
            self._add_block(message)
        elif key == "vibration_features":
            found = [axis.velocity_rms_mm_s for axis in message.axes]
            known = [v for v in found if math.isfinite(v)]
            self._velocity = max(known, default=math.nan)
            if math.isfinite(message.speed_rpm):
                self.story.speed_rpm = float(message.speed_rpm)
        elif key == "machine_health":
            stamp = message.header.stamp
            self.story.latest = message
            self.story.trend.append(
                TrendPoint(
                    stamp.sec + stamp.nanosec / 1e9, int(message.tier), self._velocity,
                    float(message.act_score), float(message.watch_score), message.alert_id,
                )
            )  # fmt: skip

    def finish(self) -> Story:
        """The story, with the last whole stretch of waveform.

        Of several sensors it is that of the one that the health speaks of, else the longest.
        """
        story = self.story
        story.trend = _in_order(story.trend)
        named = story.latest.component if story.latest is not None else ""
        longest = max(self._blocks.values(), key=len, default=deque())
        blocks = list(self._blocks.get(named) or longest)
        if blocks:
            data = np.concatenate([_data(block) for block in blocks], axis=1)
            last = blocks[-1]
            story.window = Window(
                last.machine_id, last.sensor_id, last.header.frame_id, 0,
                int(blocks[0].sequence), int(last.sequence), float(last.sample_rate_hz),
                tuple(last.channels), Unit(int(last.unit)), data,
            )  # fmt: skip
        return story

    def _add_block(self, block: Any) -> None:
        blocks = self._blocks.setdefault(block.sensor_id, deque())
        last = blocks[-1] if blocks else None
        follows = (
            last is not None
            and block.sequence == last.sequence + 1
            and len(block.data) == len(last.data)
        )
        whole = len(block.data) == len(block.channels) * block.samples_per_channel
        if not whole or not np.isfinite(np.asarray(block.data)).all():
            return
        if not follows:
            blocks.clear()
        blocks.append(block)
        seconds = block.samples_per_channel / block.sample_rate_hz
        while len(blocks) * seconds > self._window_s + 1e-6:
            blocks.popleft()


def _data(block: Any) -> Samples:
    data: Samples = np.asarray(block.data, np.float32).reshape(len(block.channels), -1)
    return data


def _in_order(trend: list[TrendPoint]) -> list[TrendPoint]:
    """What a wrong clock has stamped (an hour off) has no place on the axis."""
    if not trend:
        return trend
    middle = float(np.median([p.at_s for p in trend]))
    span = 4 * float(np.median([abs(p.at_s - middle) for p in trend])) + 60
    return sorted((p for p in trend if abs(p.at_s - middle) <= span), key=lambda p: p.at_s)
