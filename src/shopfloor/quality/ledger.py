"""The part ledger: joins what the stations and the detail tier say about a part into its verdict.

The first verdict comes as soon as every station has spoken, or at `deadline_ms`. Where a station
was SUSPECT and there is a detail tier, it is INITIAL; the answers refine it, and it becomes FINAL
with the last of them or at `detail_deadline_ms`. A FINAL verdict can get worse but never better:
the reject output may have acted on it. A person's decision stands, whatever comes after it. The
rules themselves are in `rules.py`.

All times are nanoseconds of one steady clock that the caller passes in, but for `exposure_ns`,
which is the ROS time of a part's first frame and only handed on. Not thread-safe.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import replace
from typing import Generic

from shopfloor.quality.evidence import (
    SEVERITY,
    Decision,
    DetailEvidence,
    E,
    Evidence,
    Finding,
    Override,
    Part,
    Stage,
    Timing,
    Verdict,
)
from shopfloor.quality.rules import judge, rank, refine

MAX_PARTS = 10_000
"""Parts kept at most; beyond it the oldest is closed, so that memory is bounded."""

MAX_FORGOTTEN = 50_000
"""Ids kept of forgotten parts, so that what still comes of them opens no second verdict."""

MAX_DETAILS = 256
"""Answers of the detail tier kept of one part."""


class PartLedger(Generic[E]):
    """Open and lately decided parts of a line.

    cameras: the cameras of the line. every_camera: a part needs all of them, not only those that
    saw it. deadline_ms: from a part's first frame to its verdict. detail_deadline_ms: from there
    to its final one where a frame was SUSPECT; 0: there is no detail tier. scrap_from_mm: see
    `rules.refine`. remember_s: how long a decided part is kept.
    `counts` holds repeated, late, missing and forced evidence.

    A part is known until it was final for `remember_s`, or MAX_PARTS came after it; then only its
    id, and evidence of it is counted and left.
    """

    def __init__(
        self,
        cameras: tuple[str, ...],
        *,
        every_camera: bool,
        deadline_ms: float,
        remember_s: float,
        detail_deadline_ms: float = 0.0,
        scrap_from_mm: float = 0.0,
    ) -> None:
        self.cameras = cameras
        self.every_camera = every_camera
        self.deadline_ms = deadline_ms
        self.remember_s = remember_s
        self.detail_deadline_ms = detail_deadline_ms
        self.scrap_from_mm = scrap_from_mm
        self.counts: Counter[str] = Counter()
        self._parts: OrderedDict[str, Part[E]] = OrderedDict()
        self._pending: dict[str, Part[E]] = {}
        self._closed: OrderedDict[str, int] = OrderedDict()
        self._forgotten: OrderedDict[str, None] = OrderedDict()
        self._listens_from: tuple[int, int] | None = None

    def begin(self, now_ns: int, ros_now_ns: int) -> None:
        """The gate listens from now on, after a start or a crash.

        A part that comes within the deadline and was seen earlier (by ROS time) may have lost
        evidence, and does not pass by itself.
        """
        self._listens_from = (now_ns, ros_now_ns)

    @property
    def open_parts(self) -> int:
        """Parts without a final verdict."""
        return len(self._pending)

    def known(self, part_id: str) -> Part[E] | None:
        """The part, as long as it is remembered."""
        return self._parts.get(part_id)

    def is_forgotten(self, part_id: str) -> bool:
        """Whether the part is over and done with."""
        return part_id in self._forgotten

    def seen(self, part_id: str, camera: str, exposure_ns: int, now_ns: int) -> list[Decision[E]]:
        """A camera took a frame of the part. Returns decisions forced out by the memory bound."""
        forced: list[Decision[E]] = []
        part = self._parts.get(part_id)
        if part is None:
            if part_id in self._forgotten:
                return []
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
        part = self._take(part_id)
        if part is None:
            return []
        known = part.evidence.get(evidence.camera)
        if known is not None and known.sequence == evidence.sequence:
            self.counts["repeated evidence"] += 1
            return decisions
        if self._age_ms(part, now_ns) > self.deadline_ms:
            self.counts["late evidence"] += 1
            evidence = replace(evidence, timing=Timing.LATE)
        if evidence.finding is Finding.SUSPECT and self.detail_deadline_ms:
            part.suspects.add((evidence.camera, evidence.sequence))
        if known is not None and rank(known.finding) > rank(evidence.finding):
            # Several frames of one part at one station: the worst of them counts.
            evidence = replace(known, timing=max(known.timing, evidence.timing))
        part.evidence[evidence.camera] = evidence
        if part.decision is not None or not part.missing:
            decisions += self._decide(part, now_ns)
        return decisions

    def add_detail(
        self, part_id: str, detail: DetailEvidence[E], exposure_ns: int, now_ns: int
    ) -> list[Decision[E]]:
        """The detail tier answered one crop, perhaps before the station itself was heard."""
        decisions = self.seen(part_id, detail.camera, exposure_ns, now_ns)
        part = self._take(part_id)
        if part is None:
            return []
        key = (*detail.frame, detail.index)
        if key in part.details:
            self.counts["repeated detail"] += 1
            return decisions
        if len(part.details) >= MAX_DETAILS:
            self.counts["detail beyond the bound"] += 1
            return decisions
        if self._age_ms(part, now_ns) > self.detail_deadline_ms:
            self.counts["late detail"] += 1
            detail = replace(detail, timing=Timing.LATE)
        part.details[key] = detail
        if part.decision is not None:
            decisions += self._decide(part, now_ns)
        return decisions

    def override(self, part_id: str, override: Override, now_ns: int) -> Decision[E]:
        """A person decides about a part that has a verdict, for good; returns the new one.

        Raises KeyError where the part is not known or has no verdict yet.
        """
        part = self._parts.get(part_id)
        if part is None or part.decision is None:
            raise KeyError(part_id)
        part.override = override
        decision = replace(
            part.decision,
            revision=part.decision.revision + 1,
            verdict=override.verdict,
            refinement=override.refinement,
            stage=Stage.OVERRIDDEN,
            reasons=(f"{override.person}: {override.reason}", *part.decision.reasons),
            decided_ns=now_ns,
            override=override,
        )
        self._settle(part, decision)
        return decision

    def expire(self, now_ns: int) -> list[Decision[E]]:
        """Verdicts of the parts whose deadline has passed; forgets parts decided long ago."""
        decisions = []
        for part in list(self._pending.values()):
            age_ms = self._age_ms(part, now_ns)
            if part.decision is None:
                if age_ms > self.deadline_ms:
                    self.counts["missing evidence"] += len(part.missing)
                    decisions += self._decide(part, now_ns)
            elif age_ms > self.detail_deadline_ms:
                self.counts["missing detail"] += len(part.awaited)
                decisions += self._decide(part, now_ns)
        while self._closed:
            part_id, closed_ns = next(iter(self._closed.items()))
            if now_ns - closed_ns <= self.remember_s * 1e9:
                break
            self._forget(part_id)
        return decisions

    def _take(self, part_id: str) -> Part[E] | None:
        """The part to add evidence to; None, and counted, where that is over."""
        part = self._parts.get(part_id)
        if part is None:
            self.counts["evidence of a forgotten part"] += 1
        return part

    def _settle(self, part: Part[E], decision: Decision[E]) -> None:
        """The decision is in force; a part that waits for nothing more is closed."""
        part.decision = decision
        if decision.stage in (Stage.FINAL, Stage.OVERRIDDEN):
            self._pending.pop(part.part_id, None)
            self._closed[part.part_id] = decision.decided_ns
            self._closed.move_to_end(part.part_id)

    def _forget(self, part_id: str) -> None:
        self._parts.pop(part_id, None)
        self._closed.pop(part_id, None)
        self._forgotten[part_id] = None
        while len(self._forgotten) > MAX_FORGOTTEN:
            self._forgotten.popitem(last=False)

    def _age_ms(self, part: Part[E], now_ns: int) -> float:
        return (now_ns - part.first_seen_ns) / 1e6

    def _open(
        self, part_id: str, exposure_ns: int, now_ns: int
    ) -> tuple[Part[E], list[Decision[E]]]:
        expected = set(self.cameras) if self.every_camera else set()
        part: Part[E] = Part(part_id, exposure_ns, now_ns, expected)
        if self._listens_from is not None:
            from_ns, ros_ns = self._listens_from
            part.torn = 0 < exposure_ns < ros_ns and now_ns - from_ns <= self._longest_ms * 1e6
        self._parts[part_id] = self._pending[part_id] = part
        forced: list[Decision[E]] = []
        while len(self._parts) > MAX_PARTS:
            # Those that are decided go first; where all are open, the oldest gets its verdict now.
            oldest = next(iter(self._closed), None) or next(iter(self._parts))
            if oldest in self._pending:
                self.counts["closed by the memory bound"] += 1
                forced += self._decide(self._parts[oldest], now_ns, last_call=True)
            self._forget(oldest)
        return part, forced

    @property
    def _longest_ms(self) -> float:
        return max(self.deadline_ms, self.detail_deadline_ms)

    def _decide(self, part: Part[E], now_ns: int, last_call: bool = False) -> list[Decision[E]]:
        """The verdict that the evidence gives now; none where nothing changes.

        last_call: nothing is waited for any more.
        """
        before = part.decision
        if part.override is not None:
            self.counts["evidence after an override"] += 1
            return []
        verdict, reasons = judge(part, two_tiers=self.detail_deadline_ms > 0.0)
        final = before is not None and before.stage is Stage.FINAL
        if before is not None and final and SEVERITY[verdict] < SEVERITY[before.verdict]:
            reasons = (f"stays {before.verdict.name}: decided before this came", *reasons)
            verdict = before.verdict
        evidence = tuple(part.evidence[camera] for camera in sorted(part.evidence))
        details = tuple(part.details[key] for key in sorted(part.details))
        awaited = part.awaited
        in_time = self._age_ms(part, now_ns) <= self.detail_deadline_ms
        waits = bool(awaited) and in_time and not last_call
        stage = Stage.FINAL
        if waits and not final:
            stage = Stage.INITIAL if before is None else Stage.REFINED
        if awaited and not waits:
            gaps = tuple(
                f"{camera} frame {sequence}: detail MISSING by the deadline: answered "
                "{} of {} crops".format(*part.answers((camera, sequence)))
                for camera, sequence in awaited
            )
            reasons = (*reasons, *gaps) if verdict is Verdict.FAIL else (*gaps, *reasons)
        timings = [Timing.UNKNOWN, *(e.timing for e in evidence), *(d.timing for d in details)]
        if part.missing or part.torn or (awaited and not waits):
            timings.append(Timing.MISSING)
        if before is not None and final and verdict is not before.verdict:
            timings.append(Timing.LATE)
        decision = Decision(
            part_id=part.part_id,
            revision=before.revision + 1 if before is not None else 1,
            verdict=verdict,
            refinement=refine(part, verdict, self.scrap_from_mm),
            stage=stage,
            timing=max(timings),
            reasons=reasons,
            evidence=evidence,
            details=details,
            missing=part.missing,
            awaited=awaited,
            exposure_ns=part.exposure_ns,
            first_seen_ns=part.first_seen_ns,
            decided_ns=now_ns,
        )
        if before is not None and not _news(before, decision):
            return []
        self._settle(part, decision)
        return [decision]


def _news(before: Decision[E], after: Decision[E]) -> bool:
    """Whether the line has to hear of it: one answer of several that changes nothing is no news."""
    if before.evidence != after.evidence or before.timing is not after.timing:
        return True
    if before.verdict is not after.verdict or before.refinement is not after.refinement:
        return True
    return before.stage is not after.stage and after.stage is Stage.FINAL
