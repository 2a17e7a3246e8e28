"""The rules from evidence to verdict, as pure functions; docs/quality_gate.md has the words."""

from __future__ import annotations

from typing import TypeVar

from shopfloor.quality.evidence import (
    DetailEvidence,
    Evidence,
    Examined,
    Finding,
    Part,
    Refinement,
    Timing,
    Verdict,
)

E = TypeVar("E")


def rank(finding: Finding) -> int:
    """Of several frames of one part at one station, the one with the highest counts."""
    return (Finding.PASS, Finding.SUSPECT, Finding.UNKNOWN, Finding.FAIL).index(finding)


def believed(
    finding: Finding, reason: str, rung: int, review_from_rung: int
) -> tuple[Finding, str]:
    """What a finding counts for where the inspector ran at a reduced rung of its ladder.

    A PASS at `review_from_rung` (0: never) or higher is UNKNOWN, so that a person looks; a defect
    that was found is one at any rung.
    """
    if finding is Finding.PASS and 0 < review_from_rung <= rung:
        text = f"PASS at rung {rung} is not believed, allowed below {review_from_rung}: {reason}"
        return Finding.UNKNOWN, text
    return finding, reason


def judge(part: Part[E], *, two_tiers: bool) -> tuple[Verdict, tuple[str, ...]]:
    """Verdict and reasons, the most important first.

    A FAIL of a station or a DEFECT of the detail tier fails the part. SUSPECT becomes PASS only
    where the detail tier cleared every crop in time and nothing else speaks against it.
    """
    evidence = tuple(part.evidence[camera] for camera in sorted(part.evidence))
    details = tuple(part.details[key] for key in sorted(part.details))
    missing = part.missing
    failing = [_say(e) for e in evidence if e.finding is Finding.FAIL]
    confirmed = [_tell(d) for d in details if d.outcome is Examined.DEFECT]
    others = [_say(e) for e in evidence if e.finding is not Finding.FAIL]
    told = [_tell(d) for d in details if d.outcome is not Examined.DEFECT]
    gaps = [f"{camera}: MISSING: no result by the deadline" for camera in missing]
    if part.torn:
        gaps.append("seen before this gate listened: evidence may be MISSING")
    if failing or confirmed:
        return Verdict.FAIL, (*failing, *confirmed, *others, *told, *gaps)
    if missing or part.torn or not evidence:
        return Verdict.REVIEW, (*gaps, *others, *told)
    if all(e.finding is Finding.PASS for e in evidence):
        return Verdict.PASS, (*others, *told)
    if two_tiers and _cleared(part, evidence, details):
        return Verdict.PASS, (*told, *others)
    return Verdict.REVIEW, (*others, *told)


def refine(part: Part[E], verdict: Verdict, scrap_from_mm: float) -> Refinement:
    """What becomes of a part that the detail tier has looked at.

    scrap_from_mm: a confirmed defect of at least this length scraps the part, a shorter one is
    reworked; 0: every one scraps, as does one whose size is not known.
    """
    defects = [d for d in part.details.values() if d.outcome is Examined.DEFECT]
    if defects:
        # The negated comparison takes NaN for large.
        large = [d for d in defects if not d.length_mm < scrap_from_mm]
        return Refinement.SCRAP if large else Refinement.CORRECT
    if verdict is Verdict.PASS and part.suspects:
        return Refinement.CONTINUE
    return Refinement.NONE


def _cleared(
    part: Part[E], evidence: tuple[Evidence[E], ...], details: tuple[DetailEvidence[E], ...]
) -> bool:
    return (
        all(e.finding in (Finding.PASS, Finding.SUSPECT) for e in evidence)
        and all(e.timing is Timing.ON_TIME for e in evidence)
        and not part.awaited
        and bool(details)
        and all(d.outcome is Examined.NO_DEFECT and d.timing is Timing.ON_TIME for d in details)
    )


def _say(evidence: Evidence[E]) -> str:
    return f"{evidence.camera}: {evidence.finding.name}: {evidence.reason}"


def _tell(detail: DetailEvidence[E]) -> str:
    crop = f"crop {detail.index + 1} of {detail.count}"
    return f"{detail.camera}: detail {crop}: {detail.outcome.name}: {detail.reason}"
