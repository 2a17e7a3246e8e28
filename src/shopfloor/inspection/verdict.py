"""From detections to a verdict on one frame. Nothing becomes PASS by default."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from shopfloor.inspection.detections import Detections
from shopfloor.inspection.quality import FrameQuality


class Verdict(Enum):
    """The names are those of InspectionResult.VERDICT_*."""

    UNKNOWN = "unknown"
    PASS = "pass"
    FAIL = "fail"
    SUSPECT = "suspect"


class Reason(Enum):
    """Why; the names are those of InspectionResult.REASON_*."""

    UNKNOWN = "unknown"
    NO_DEFECT = "no_defect"
    DEFECT = "defect"
    BELOW_FAIL_THRESHOLD = "below_fail_threshold"
    FRAME_QUALITY = "frame_quality"
    FRAME_INVALID = "frame_invalid"
    STALE = "stale"
    ENGINE_FAULT = "engine_fault"
    OUTPUT_INVALID = "output_invalid"
    DEGRADED = "degraded"


@dataclass(frozen=True, slots=True)
class Decision:
    """A verdict with its reason in a code and in words, and the score that decided (0: none)."""

    verdict: Verdict
    reason: Reason
    text: str
    score: float = 0.0


@dataclass(frozen=True, slots=True)
class Criteria:
    """What decides.

    fail, suspect: a detection at or above is FAIL, SUSPECT; 0-1, suspect <= fail.
    cautious: where it is set, already a detection at or above it is SUSPECT: for a model that sees
        less than the one that the thresholds were chosen for; 0 <= cautious <= suspect.
    min_contrast: a frame whose grey values deviate by less shows nothing and can't be judged,
        0-127.5.
    min_mean_grey, max_mean_grey: likewise for a frame that is darker, brighter on average, 0-255.
    min_sharpness: likewise for a frame with a smaller variance of the Laplacian; 0: not asked.
    """

    fail: float
    suspect: float
    cautious: float | None = None
    min_contrast: float = 2.0
    min_mean_grey: float = 0.0
    max_mean_grey: float = 255.0
    min_sharpness: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.suspect <= self.fail <= 1.0:
            raise ValueError(
                f"suspect threshold {self.suspect:g} and fail threshold {self.fail:g} don't fit; "
                "allowed: 0 <= suspect <= fail <= 1"
            )
        if self.cautious is not None and not 0.0 <= self.cautious <= self.suspect:
            raise ValueError(
                f"cautious threshold {self.cautious:g}; allowed: 0 to {self.suspect:g}"
            )

    @property
    def floor(self) -> float:
        """The score from which nothing passes, 0-1."""
        return self.suspect if self.cautious is None else self.cautious


def check_floor(criteria: Criteria, score_floor: float) -> None:
    """Raises ValueError where a detection that decides would not be seen, and its part would pass.

    score_floor: detections below are left out before anybody decides, 0-1.
    """
    if criteria.suspect < score_floor:
        raise ValueError(
            f"score_floor {score_floor:g} is above the suspect threshold {criteria.suspect:g}: "
            f"what lies between would pass unseen; allowed: up to {criteria.suspect:g}"
        )


def unknown(reason: Reason, text: str) -> Decision:
    """The verdict on a frame that could not be judged."""
    return Decision(Verdict.UNKNOWN, reason, text)


def decide(
    detections: Detections, quality: FrameQuality, classes: tuple[str, ...], criteria: Criteria
) -> Decision:
    """The verdict on a frame that was inspected.

    A defect fails the part however poor the picture is. Without one, a picture that could not have
    shown it is UNKNOWN, never PASS.
    """
    score = detections.top_score
    if len(detections) and score >= criteria.floor:
        best = int(detections.scores.argmax())
        name = classes[int(detections.class_ids[best])]
        if score >= criteria.fail:
            text = f"{name} {score:.2f}, fails from {criteria.fail:.2f}"
            more = int((detections.scores >= criteria.fail).sum()) - 1
            if more:
                text += f", and {more} more"
            return Decision(Verdict.FAIL, Reason.DEFECT, text, score)
        if score < criteria.suspect:
            text = f"{name} {score:.2f}, suspect from {criteria.floor:.2f} at a reduced rung"
            return Decision(Verdict.SUSPECT, Reason.DEGRADED, text, score)
        text = f"{name} {score:.2f}, between suspect {criteria.suspect:.2f} and {criteria.fail:.2f}"
        return Decision(Verdict.SUSPECT, Reason.BELOW_FAIL_THRESHOLD, text, score)
    complaint = quality_complaint(quality, criteria)
    if complaint:
        return Decision(Verdict.UNKNOWN, Reason.FRAME_QUALITY, complaint, score)
    text = f"no defect from {criteria.floor:.2f} up"
    return Decision(Verdict.PASS, Reason.NO_DEFECT, text, score)


def quality_complaint(quality: FrameQuality, criteria: Criteria) -> str:
    """What is wrong with the picture; empty when nothing is."""
    if not quality.contrast >= criteria.min_contrast:
        return f"contrast {quality.contrast:.1f} is below {criteria.min_contrast:g}: no picture"
    if not quality.mean_grey >= criteria.min_mean_grey:
        return f"mean grey {quality.mean_grey:.0f} is below {criteria.min_mean_grey:g}: too dark"
    if not quality.mean_grey <= criteria.max_mean_grey:
        return f"mean grey {quality.mean_grey:.0f} is above {criteria.max_mean_grey:g}: too bright"
    if not quality.sharpness >= criteria.min_sharpness:
        return f"sharpness {quality.sharpness:.1f} is below {criteria.min_sharpness:g}: blurred"
    return ""
