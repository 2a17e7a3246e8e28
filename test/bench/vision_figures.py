"""What the vision benchmark measures of one contender at one rate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from shopfloor_msgs.msg import InspectionResult


@dataclass
class Figures:
    """One contender at one rate. hz: verdicts a second; memory_mb: shared pages shared out."""

    sent: int
    results: list[InspectionResult]
    hz: float
    cpu_s: float
    memory_mb: float
    base: InspectionResult | None = None

    @property
    def cpu_ms(self) -> float:
        """CPU time of all its processes for each verdict."""
        return 1e3 * self.cpu_s / max(len(self.results), 1)

    def _gain(self, name: str) -> int:
        if not self.results:
            return 0
        return int(getattr(self.results[-1], name) - (getattr(self.base, name, 0)))

    @property
    def lost(self) -> int:
        """Frames that never reached the inspector."""
        return self.sent - self._gain("frames_received")

    def drops(self) -> str:
        """Frames without a verdict, by cause."""
        causes = {
            name: self._gain(f"dropped_{name}") for name in ("superseded", "stale", "invalid")
        }
        return ", ".join(f"{name} {count}" for name, count in {"lost": self.lost, **causes}.items())

    def ages(self) -> Any:
        """Frame age at the verdict, ms."""
        return np.array([r.frame_age_ms for r in self.results] or [np.nan])

    def stages(self, *names: str) -> Any:
        """Sum of the named stages of each verdict, ms."""
        return np.array(
            [
                sum(s.duration_ms for s in r.provenance.stages if s.name in names)
                for r in self.results
            ]
            or [np.nan]
        )

    def over_engine(self) -> Any:
        """Age less the time of the inspection itself: transport, waiting, messages; ms.

        What is done for the message beside the engine counts too, though the frame is not held up.
        """
        return self.ages() - self.stages(*WORK)


def joined(turns: list[Figures]) -> Figures:
    """Several turns of one contender as one."""
    return Figures(
        sum(turn.sent for turn in turns),
        [result for turn in turns for result in turn.results],
        float(np.median([turn.hz for turn in turns])),
        sum(turn.cpu_s for turn in turns),
        turns[-1].memory_mb,
        turns[0].base,
    )


WORK = ("convert", "preprocess", "infer", "gauges", "postprocess", "decide")
