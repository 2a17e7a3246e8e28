"""Whether the blocks of a sensor follow each other in time: gaps, jumps, offsets, drift.

A block's sequence and stamp are held against the block before it, and its stamp against its
arrival. Every break says its kind, because the cure differs: a lost packet, a controller set to
local time, a second set by hand, a quartz that runs off.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import numpy as np

from shopfloor.vibration.signal import Block, Defect, Quality, Status

_SET_ANEW = Defect.ZONE_OFFSET | Defect.SECOND_OFFSET | Defect.TIME_JUMP | Defect.NON_MONOTONIC

_ZONE_S = 900.0
"""Time zones differ by multiples of 15 minutes."""


@dataclass(frozen=True)
class ClockLimits:
    """Thresholds of the rules.

    jitter_s: a stamp may be this far from where the block before it ended.
    late_s: a block may arrive this long after its last sample.
    early_s: and its stamp may lie this far in the future.
    zone_tolerance_s, second_tolerance_s: from a multiple of 15 minutes, from whole seconds.
    drift_ppm: of the sensor's clock against arrivals; over drift_min_s at least.
    """

    jitter_s: float = 0.002
    late_s: float = 0.9
    early_s: float = 0.5
    zone_tolerance_s: float = 5.0
    second_tolerance_s: float = 0.2
    drift_ppm: float = 200.0
    drift_min_s: float = 60.0


class StreamClock:
    """Checks the blocks of one sensor, in the order in which they arrive."""

    def __init__(self, limits: ClockLimits | None = None) -> None:
        self.limits = limits or ClockLimits()
        self._last: Block | None = None
        self._origin_ns = 0
        # (stamp in s, arrival - stamp in s): the fastest arrival of each second.
        self._arrivals: deque[tuple[float, float]] = deque(maxlen=600)
        self._drift_ppm = math.nan

    def check(self, block: Block) -> tuple[bool, Quality]:
        """Whether the block goes on where the last one ended, and the quality of its time.

        (False, quality) with a VALID quality is the first block. NON_MONOTONIC with False and no
        step forward means that the block is to be thrown away: see `repeats`.
        """
        limits = self.limits
        last, duration_s = self._last, block.data.shape[1] / block.sample_rate_hz
        defects, reasons, gap_ms = Defect.NONE, [], 0.0
        follows = False
        if last is not None:
            last_s = last.data.shape[1] / last.sample_rate_hz
            step_s = (block.stamp_ns - last.stamp_ns) / 1e9 - last_s
            missing = block.sequence - last.sequence - 1
            expected_s = step_s - max(missing, 0) * duration_s
            if missing > 0:
                defects |= Defect.GAP
                gap_ms = missing * duration_s * 1e3
                reasons.append(f"{missing} blocks lost before sequence {block.sequence}")
            if missing < 0:
                defects |= Defect.NON_MONOTONIC
                reasons.append(f"sequence {block.sequence} after {last.sequence}")
                expected_s = step_s
            elif abs(expected_s) > limits.jitter_s:
                kind, text = self._jump(expected_s, step_s + last_s)
                defects |= kind
                reasons.append(text)
                gap_ms += max(expected_s, 0.0) * 1e3 if kind & Defect.GAP else 0.0
            follows = not defects
        offset_s = math.nan
        if block.received_ns:
            offset_s = (block.stamp_ns - block.received_ns) / 1e9 + duration_s
            kind, text = self._offset(offset_s)
            defects |= kind
            reasons += [text] if text else []
            if defects & _SET_ANEW:
                # What was learned is of the clock as it was set before.
                self._arrivals.clear()
                self._drift_ppm = math.nan
            elif not defects:
                self._learn_drift(block.stamp_ns / 1e9, -offset_s)
        if abs(self._drift_ppm) > limits.drift_ppm:
            defects |= Defect.CLOCK_DRIFT
            reasons.append(f"clock drifts by {self._drift_ppm:+.0f} ppm against arrival, allowed "
                           f"{limits.drift_ppm:g}")  # fmt: skip
        status = Status.UNKNOWN if defects else Status.VALID
        quality = Quality(
            status, defects, "; ".join(reasons), gap_ms=gap_ms,
            clock_offset_s=offset_s, clock_drift_ppm=self._drift_ppm,
        )  # fmt: skip
        if not self.repeats(block):
            self._last = block
        return follows, quality

    def repeats(self, block: Block) -> bool:
        """Whether the block is an old one that came again or late, so that it holds nothing new.

        A sequence that starts over with newer stamps is a sensor that was restarted.
        """
        last = self._last
        return (
            last is not None
            and block.sequence <= last.sequence
            and block.stamp_ns <= last.stamp_ns
            and not self._was_restarted(block, last)
        )

    @staticmethod
    def _was_restarted(block: Block, last: Block) -> bool:
        return block.sequence < last.sequence and block.received_ns - last.received_ns > 30e9

    def _jump(self, expected_s: float, step_s: float) -> tuple[Defect, str]:
        """What a step between two stamps is that is off by `expected_s`."""
        limits = self.limits
        if _near_multiple(expected_s, _ZONE_S, limits.zone_tolerance_s):
            return Defect.ZONE_OFFSET, f"stamps jumped by {expected_s / 60:+.0f} min: time zone?"
        if step_s <= 0:
            return Defect.NON_MONOTONIC, f"stamps went back by {-step_s:.3f} s"
        if _near_multiple(expected_s, 1.0, 0.01) and abs(expected_s) < 60:
            return Defect.SECOND_OFFSET, f"stamps jumped by {expected_s:+.0f} s"
        return Defect.TIME_JUMP, f"stamps jumped by {expected_s * 1e3:+.1f} ms"

    def _offset(self, offset_s: float) -> tuple[Defect, str]:
        """What the end of a block is that lies `offset_s` after its arrival."""
        limits = self.limits
        if -limits.late_s <= offset_s <= limits.early_s:
            return Defect.NONE, ""
        if _near_multiple(offset_s, _ZONE_S, limits.zone_tolerance_s):
            minutes = offset_s / 60
            return Defect.ZONE_OFFSET, f"stamps are {minutes:+.0f} min from arrival: time zone?"
        if abs(offset_s) < 60 and _near_multiple(offset_s, 1.0, limits.second_tolerance_s):
            return Defect.SECOND_OFFSET, f"stamps are {offset_s:+.1f} s from arrival"
        if offset_s < 0:
            return Defect.LATE, f"arrived {-offset_s:.2f} s after its last sample"
        return Defect.TIME_JUMP, f"stamped {offset_s:.2f} s in the future"

    def _learn_drift(self, stamp_s: float, delay_s: float) -> None:
        """Slope of the fastest arrivals: delays only ever add, a drift moves them all."""
        arrivals = self._arrivals
        if not self._origin_ns:
            self._origin_ns = round(stamp_s * 1e9)
        at_s = stamp_s - self._origin_ns / 1e9
        if arrivals and int(arrivals[-1][0]) == int(at_s):
            if delay_s < arrivals[-1][1]:
                arrivals[-1] = (at_s, delay_s)
            return
        arrivals.append((at_s, delay_s))
        if len(arrivals) % 10 or at_s - arrivals[0][0] < self.limits.drift_min_s:
            return
        t, delay = np.array(arrivals).T
        # The fastest of every ten seconds: what waited in a queue tells nothing about the clock.
        groups = np.array_split(np.arange(len(t)), max(6, len(t) // 10))
        best = np.array([group[delay[group].argmin()] for group in groups])
        # A stamp clock that runs fast lets the delay shrink.
        self._drift_ppm = float(-np.polyfit(t[best], delay[best], 1)[0] * 1e6)


def _near_multiple(value: float, unit: float, tolerance: float) -> bool:
    count = round(value / unit)
    return count != 0 and abs(value - count * unit) <= tolerance
