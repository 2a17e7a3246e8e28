"""The end of the simulated belt: an encoder, and an output that takes parts off.

Pure. The output knows windows and no parts: it acts on whatever is before it at that moment, as a
real one does. A part that comes outside of every window meets the safe choice. Times are steady
nanoseconds of the line; positions are metres that the belt has run.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

_WOBBLE_PERIOD_S = 5.0
_MAX_WINDOWS = 1000
_STEP_NS = 1_000
"""How finely an arrival is told."""

ENCODER_START = -500
"""The counter's first reading, so that it wraps (or changes sign) within the first metre."""


@dataclass(frozen=True)
class OutputSettings:
    """distance_m: from the camera. wobble: the belt's speed swings by this share within 5 s.

    encoder_bits: 0: the counter does not wrap. reject_unknown: the safe choice.
    """

    distance_m: float
    speed_m_per_s: float
    wobble: float = 0.0
    pulses_per_m: float = 1000.0
    encoder_bits: int = 32
    reject_unknown: bool = True

    def __post_init__(self) -> None:
        if not (self.distance_m > 0.0 and self.speed_m_per_s > 0.0):
            raise ValueError(
                f"distance {self.distance_m:g} m, speed {self.speed_m_per_s:g} m/s; "
                "allowed: both above 0"
            )
        if not 0.0 <= self.wobble < 1.0:
            raise ValueError(f"wobble {self.wobble:g}; allowed: from 0 to below 1")


@dataclass(frozen=True)
class Window:
    """A command as it arrived. opens, closes: counts or ROS nanoseconds, as `by_encoder` says."""

    number: int
    rejects: bool
    by_encoder: bool
    opens: int
    closes: int
    received_ns: int


@dataclass(frozen=True)
class Exit:
    """A part has been at the output. number: of the window that it was in, 0: none."""

    part_id: str
    at_ns: int
    rejected: bool
    number: int


class RejectOutput:
    """The belt behind the camera from `start_ns` on."""

    def __init__(self, settings: OutputSettings, start_ns: int) -> None:
        self._settings = settings
        self._start_ns = start_ns
        self._parts: deque[tuple[str, float]] = deque()
        self._windows: deque[Window] = deque(maxlen=_MAX_WINDOWS)

    @property
    def parts(self) -> int:
        """Between camera and output."""
        return len(self._parts)

    def position_m(self, now_ns: int) -> float:
        """How far the belt has run."""
        settings = self._settings
        t_s = (now_ns - self._start_ns) / 1e9
        swing_s = _WOBBLE_PERIOD_S / (2 * math.pi)
        extra_s = settings.wobble * swing_s * (1.0 - math.cos(t_s / swing_s))
        return settings.speed_m_per_s * (t_s + extra_s)

    def encoder_count(self, now_ns: int) -> int:
        """What the counter reads."""
        count = ENCODER_START + math.floor(self.position_m(now_ns) * self._settings.pulses_per_m)
        return count % (1 << self._settings.encoder_bits) if self._settings.encoder_bits else count

    def put(self, part_id: str, exposed_ns: int) -> None:
        """A part stood under the camera then; parts come in order."""
        self._parts.append((part_id, self.position_m(exposed_ns) + self._settings.distance_m))

    def command(self, window: Window) -> None:
        """A command arrived."""
        self._windows.append(window)

    def poll(self, now_ns: int, to_ros_ns: int) -> list[Exit]:
        """The parts that came to the output up to now.

        to_ros_ns: what makes ROS time of the line's.
        """
        exits = []
        while self._parts and self._parts[0][1] <= self.position_m(now_ns):
            part_id, at_m = self._parts.popleft()
            at_ns = self._when(at_m, now_ns)
            at_ros_ns, count = at_ns + to_ros_ns, self.encoder_count(at_ns)
            while self._windows and self._is_over(self._windows[0], at_ros_ns, count):
                self._windows.popleft()
            # What arrived after the part cannot have acted on it.
            windows = [
                window
                for window in tuple(self._windows)
                if window.received_ns <= at_ns and self._is_open(window, at_ros_ns, count)
            ]
            rejecting = [window for window in windows if window.rejects]
            number = (rejecting or windows)[0].number if windows else 0
            rejected = bool(rejecting) if windows else self._settings.reject_unknown
            exits.append(Exit(part_id, at_ns, rejected, number))
        return exits

    def _is_open(self, window: Window, ros_ns: int, count: int) -> bool:
        if not window.by_encoder:
            return window.opens <= ros_ns <= window.closes
        return 0 <= self._ahead(count, window.opens) <= self._ahead(window.closes, window.opens)

    def _is_over(self, window: Window, ros_ns: int, count: int) -> bool:
        if not window.by_encoder:
            return ros_ns > window.closes
        return self._ahead(count, window.closes) > 0

    def _ahead(self, count: int, other: int) -> int:
        """From `other` to `count`, the shorter way round."""
        if not self._settings.encoder_bits:
            return count - other
        half = 1 << (self._settings.encoder_bits - 1)
        return (count - other + half) % (2 * half) - half

    def _when(self, at_m: float, by_ns: int) -> int:
        """The moment at which the belt came there; it never runs backwards."""
        low, high = self._start_ns, by_ns
        while high - low > _STEP_NS:
            middle = (low + high) // 2
            low, high = (low, middle) if self.position_m(middle) >= at_m else (middle, high)
        return high
