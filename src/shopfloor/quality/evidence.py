"""What stations say of a part, and what the line concludes; values are those of the messages."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, field
from typing import Generic, TypeVar

E = TypeVar("E")


class Finding(enum.IntEnum):
    """What a station says of a part; values of InspectionResult.VERDICT_*."""

    UNKNOWN = 0
    PASS = 1
    FAIL = 2
    SUSPECT = 3


class Examined(enum.IntEnum):
    """What the detail tier says of one crop; values of DetailResult.OUTCOME_*."""

    UNKNOWN = 0
    DEFECT = 1
    NO_DEFECT = 2
    UNDECIDED = 3
    NOT_EXAMINED = 4


class Verdict(enum.IntEnum):
    """What the line says of a part; values of PartVerdict.VERDICT_*."""

    UNKNOWN = 0
    PASS = 1
    FAIL = 2
    REVIEW = 3


class Refinement(enum.IntEnum):
    """What becomes of the part once the detail tier has looked; PartVerdict.REFINEMENT_*."""

    NONE = 0
    CONTINUE = 1
    CORRECT = 2
    SCRAP = 3


class Stage(enum.IntEnum):
    """Whether more may follow; values of PartVerdict.STAGE_*."""

    UNKNOWN = 0
    INITIAL = 1
    REFINED = 2
    FINAL = 3
    OVERRIDDEN = 4


class Timing(enum.IntEnum):
    """When evidence came; values of PartVerdict.TIMING_*. A larger one is worse."""

    UNKNOWN = 0
    ON_TIME = 1
    LATE = 2
    MISSING = 3


SEVERITY = {Verdict.UNKNOWN: 0, Verdict.PASS: 1, Verdict.REVIEW: 2, Verdict.FAIL: 3}


@dataclass(frozen=True)
class Evidence(Generic[E]):
    """One station's finding. `source` is whatever the caller wants back, such as the message."""

    camera: str
    sequence: int
    finding: Finding
    reason: str
    source: E
    timing: Timing = Timing.ON_TIME


@dataclass(frozen=True)
class DetailEvidence(Generic[E]):
    """The detail tier's answer to crop `index` of `count` of one frame; length_mm: NaN: unknown."""

    camera: str
    sequence: int
    index: int
    count: int
    outcome: Examined
    reason: str
    source: E
    length_mm: float = math.nan
    timing: Timing = Timing.ON_TIME

    @property
    def frame(self) -> tuple[str, int]:
        """Camera and sequence of the frame that the crop is from."""
        return self.camera, self.sequence


@dataclass(frozen=True)
class Override:
    """A person's decision about a part: who, and why."""

    verdict: Verdict
    refinement: Refinement
    person: str
    reason: str


@dataclass(frozen=True)
class Decision(Generic[E]):
    """A verdict to publish. `revision` counts from 1; the highest one is in force.

    missing: cameras without a result. awaited: camera and sequence of the frames whose crops the
    detail tier has not answered in full.
    """

    part_id: str
    revision: int
    verdict: Verdict
    refinement: Refinement
    stage: Stage
    timing: Timing
    reasons: tuple[str, ...]
    evidence: tuple[Evidence[E], ...]
    details: tuple[DetailEvidence[E], ...]
    missing: tuple[str, ...]
    awaited: tuple[tuple[str, int], ...]
    exposure_ns: int
    first_seen_ns: int
    decided_ns: int
    override: Override | None = None


@dataclass
class Part(Generic[E]):
    """All that is known of one part.

    suspects: frames that the detail tier has to look at. torn: its first frames were before this
    gate listened, so that evidence may be lost.
    """

    part_id: str
    exposure_ns: int
    first_seen_ns: int
    expected: set[str]
    evidence: dict[str, Evidence[E]] = field(default_factory=dict)
    suspects: set[tuple[str, int]] = field(default_factory=set)
    details: dict[tuple[str, int, int], DetailEvidence[E]] = field(default_factory=dict)
    decision: Decision[E] | None = None
    torn: bool = False
    override: Override | None = None

    @property
    def missing(self) -> tuple[str, ...]:
        """Cameras that saw it, or should have, and have no result."""
        return tuple(sorted(self.expected - self.evidence.keys()))

    @property
    def awaited(self) -> tuple[tuple[str, int], ...]:
        """Suspect frames of which not every crop is answered."""
        answers = ((frame, self.answers(frame)) for frame in sorted(self.suspects))
        return tuple(frame for frame, (answered, count) in answers if answered < count)

    def answers(self, frame: tuple[str, int]) -> tuple[int, int]:
        """How many crops of the frame are answered, and of how many, as far as that is known."""
        counts = [detail.count for detail in self.details.values() if detail.frame == frame]
        return len(counts), max(counts, default=1)
