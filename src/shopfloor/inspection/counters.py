"""What an inspector counts since it was activated."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field

from shopfloor.inspection.verdict import Decision, Reason
from shopfloor.ros.timing import RateMeter, Rolling

FAULTS = (Reason.ENGINE_FAULT, Reason.OUTPUT_INVALID, Reason.UNKNOWN)
"""Reasons that are the inspector's own trouble, not the frame's."""


@dataclass
class Counters:
    """`received`, `superseded` and `stride` count on the thread that frames come on.

    The rest count where a result is published, one at a time: a sum that two threads add to would
    lose some.
    """

    received: int = 0
    processed: int = 0
    superseded: int = 0
    stride: int = 0
    stale: int = 0
    invalid: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    last: Decision | None = None
    last_frame_ns: int | None = None
    rate: RateMeter = field(default_factory=RateMeter)
    age_ms: Rolling = field(default_factory=Rolling)
    _told: tuple[int, int, int] = field(default_factory=lambda: (time.monotonic_ns(), 0, 0))

    def judged(self, decision: Decision) -> None:
        """Count one result."""
        self.processed += 1
        self.rate.tick()
        self.verdicts[decision.verdict.value] += 1
        self.stale += decision.reason is Reason.STALE
        self.invalid += decision.reason is Reason.FRAME_INVALID
        self.last = decision

    @property
    def skipped(self) -> int:
        """Frames that came and got no result: replaced by a newer one, or left out by the rung."""
        return self.superseded + self.stride

    def values(self, now_ns: int | None = None) -> dict[str, object]:
        """The numbers of a diagnostic status; camera and skipped rate are since the last call."""
        now_ns = time.monotonic_ns() if now_ns is None else now_ns
        (then_ns, received, skipped), self._told = (
            self._told,
            (now_ns, self.received, self.skipped),
        )
        span_s = max((now_ns - then_ns) / 1e9, 1e-3)
        return {
            "rate_hz": self.rate.hz(),
            "camera_rate_hz": round((self.received - received) / span_s, 2),
            "skipped_rate_hz": round((self.skipped - skipped) / span_s, 2),
            "frame_age_p50_ms": self.age_ms.percentile(50),
            "frame_age_p99_ms": self.age_ms.percentile(99),
            "received": self.received,
            "processed": self.processed,
            "dropped superseded": self.superseded,
            "dropped stride": self.stride,
            "dropped stale": self.stale,
            "invalid": self.invalid,
            **{f"verdict {name}": count for name, count in list(self.verdicts.items())},
        }
