"""The part ledger: joins what the stations say about a part into its one verdict.

Rules, most severe first: a FAIL from any station fails the part; evidence that is missing, UNKNOWN
or SUSPECT sends it to REVIEW; only evidence that is complete and all PASS passes it. After the
deadline a verdict can get worse but never better: the reject output may have acted on it.

All times are nanoseconds of one steady clock that the caller passes in, but for `exposure_ns`,
which is the ROS time of a part's first frame and only handed on. Not thread-safe.
"""

from __future__ import annotations

import enum
from collections import Counter, OrderedDict
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

E = TypeVar("E")

MAX_PARTS = 10_000
"""Parts kept at most; beyond it the oldest is closed, so that memory is bounded."""


class Finding(enum.IntEnum):
    """What a station says of a part; values of InspectionResult.VERDICT_*."""

    UNKNOWN = 0
    PASS = 1
    FAIL = 2
    SUSPECT = 3


class Verdict(enum.IntEnum):
    """What the line says of a part; values of PartVerdict.VERDICT_*."""

    UNKNOWN = 0
    PASS = 1
    FAIL = 2
    REVIEW = 3


class Timing(enum.IntEnum):
    """When evidence came; values of PartVerdict.TIMING_*. A larger one is worse."""

    UNKNOWN = 0
    ON_TIME = 1
    LATE = 2
    MISSING = 3


_SEVERITY = {Verdict.UNKNOWN: 0, Verdict.PASS: 1, Verdict.REVIEW: 2, Verdict.FAIL: 3}


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
class Decision(Generic[E]):
    """A verdict to publish. `revision` counts from 1; the highest one is in force."""

    part_id: str
    revision: int
    verdict: Verdict
    timing: Timing
    reasons: tuple[str, ...]
    evidence: tuple[Evidence[E], ...]
    missing: tuple[str, ...]
    exposure_ns: int
    first_seen_ns: int
    decided_ns: int


@dataclass
class _Part(Generic[E]):
    part_id: str
    exposure_ns: int
    first_seen_ns: int
    expected: set[str]
    evidence: dict[str, Evidence[E]] = field(default_factory=dict)
    decision: Decision[E] | None = None


class PartLedger(Generic[E]):
    """Open and lately decided parts of a line.

    cameras: the cameras of the line. every_camera: a part needs all of them, not only those that
    saw it. deadline_ms: from a part's first frame to its verdict. remember_s: how long a decided
    part is kept. `counts` holds repeated, late and unexpected evidence.
    """

    def __init__(
        self,
        cameras: tuple[str, ...],
        *,
        every_camera: bool,
        deadline_ms: float,
        remember_s: float,
    ) -> None:
        self.cameras = cameras
        self.every_camera = every_camera
        self.deadline_ms = deadline_ms
        self.remember_s = remember_s
        self.counts: Counter[str] = Counter()
        self._parts: OrderedDict[str, _Part[E]] = OrderedDict()

    @property
    def open_parts(self) -> int:
        """Parts without a verdict."""
        return sum(part.decision is None for part in self._parts.values())

    def seen(self, part_id: str, camera: str, exposure_ns: int, now_ns: int) -> list[Decision[E]]:
        """A camera took a frame of the part. Returns decisions forced out by the memory bound."""
        forced: list[Decision[E]] = []
        part = self._parts.get(part_id)
        if part is None:
            part, forced = self._open(part_id, exposure_ns, now_ns)
        part.exposure_ns = min(part.exposure_ns, exposure_ns)
        if part.decision is None:
            part.expected.add(camera)
        return forced

    def add(
        self, part_id: str, evidence: Evidence[E], exposure_ns: int, now_ns: int
    ) -> list[Decision[E]]:
        """A station's finding came; returns the verdicts that follow from it."""
        decisions = self.seen(part_id, evidence.camera, exposure_ns, now_ns)
        part = self._parts[part_id]
        known = part.evidence.get(evidence.camera)
        if known is not None and known.sequence == evidence.sequence:
            self.counts["repeated evidence"] += 1
            return decisions
        late = now_ns - part.first_seen_ns > self.deadline_ms * 1e6
        if late:
            self.counts["late evidence"] += 1
            evidence = replace(evidence, timing=Timing.LATE)
        if known is not None and _rank(known.finding) > _rank(evidence.finding):
            # Several frames of one part at one station: the worst of them counts.
            evidence = replace(known, timing=max(known.timing, evidence.timing))
        part.evidence[evidence.camera] = evidence
        if part.decision is not None or not (part.expected - part.evidence.keys()):
            decision = self._decide(part, now_ns)
            if decision is not None:
                decisions.append(decision)
        return decisions

    def expire(self, now_ns: int) -> list[Decision[E]]:
        """Verdicts of the parts whose deadline has passed; forgets parts decided long ago."""
        decisions = []
        for part in list(self._parts.values()):
            if part.decision is None:
                if now_ns - part.first_seen_ns > self.deadline_ms * 1e6:
                    self.counts["missing evidence"] += len(part.expected - part.evidence.keys())
                    decision = self._decide(part, now_ns)
                    if decision is not None:
                        decisions.append(decision)
            elif now_ns - part.decision.decided_ns > self.remember_s * 1e9:
                del self._parts[part.part_id]
        return decisions

    def _open(
        self, part_id: str, exposure_ns: int, now_ns: int
    ) -> tuple[_Part[E], list[Decision[E]]]:
        expected = set(self.cameras) if self.every_camera else set()
        part: _Part[E] = _Part(part_id, exposure_ns, now_ns, expected)
        self._parts[part_id] = part
        forced = []
        while len(self._parts) > MAX_PARTS:
            _, oldest = self._parts.popitem(last=False)
            if oldest.decision is None:
                self.counts["closed by the memory bound"] += 1
                decision = self._decide(oldest, now_ns)
                if decision is not None:
                    forced.append(decision)
        return part, forced

    def _decide(self, part: _Part[E], now_ns: int) -> Decision[E] | None:
        """The verdict that the evidence gives now; None where nothing changes."""
        missing = tuple(sorted(part.expected - part.evidence.keys()))
        evidence = tuple(part.evidence[camera] for camera in sorted(part.evidence))
        verdict, reasons = _judge(evidence, missing)
        timing = max([e.timing for e in evidence] + [Timing.MISSING] * bool(missing))
        before = part.decision
        if before is not None:
            if _SEVERITY[verdict] < _SEVERITY[before.verdict]:
                reasons = (f"stays {before.verdict.name}: decided before this came", *reasons)
                verdict = before.verdict
            if verdict is before.verdict and evidence == before.evidence:
                return None
        part.decision = Decision(
            part_id=part.part_id,
            revision=before.revision + 1 if before is not None else 1,
            verdict=verdict,
            timing=timing,
            reasons=reasons,
            evidence=evidence,
            missing=missing,
            exposure_ns=part.exposure_ns,
            first_seen_ns=part.first_seen_ns,
            decided_ns=now_ns,
        )
        return part.decision


def _rank(finding: Finding) -> int:
    return (Finding.PASS, Finding.SUSPECT, Finding.UNKNOWN, Finding.FAIL).index(finding)


def _judge(
    evidence: tuple[Evidence[E], ...], missing: tuple[str, ...]
) -> tuple[Verdict, tuple[str, ...]]:
    reasons = [f"{e.camera}: {e.finding.name}: {e.reason}" for e in evidence]
    gaps = [f"{camera}: MISSING: no result by the deadline" for camera in missing]
    failing = [e for e in evidence if e.finding is Finding.FAIL]
    if failing:
        first = [f"{e.camera}: {e.finding.name}: {e.reason}" for e in failing]
        return Verdict.FAIL, (*first, *(r for r in reasons if r not in first), *gaps)
    if missing or not evidence or any(e.finding is not Finding.PASS for e in evidence):
        return Verdict.REVIEW, (*gaps, *reasons)
    return Verdict.PASS, tuple(reasons)
