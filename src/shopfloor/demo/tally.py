"""What the demo saw, joined with what the simulator knows: the figures of table, JSON and report.

Pure data: the monitor feeds it from messages, tests feed it by hand.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from shopfloor.demo.floor import Floor
from shopfloor.inspection.metrics import match_detections

MATCH_IOU = 0.33
"""Overlap from which a detection finds a true defect, as DeepPCB's own evaluation has it."""

Box = tuple[int, float, float, float, float, float]
"""Class, score, x1, y1, x2, y2 in pixels."""


@dataclass
class Part:
    """One part: the truth where there is one, results by camera, the verdict in force.

    image_size: width and height of the frame that the boxes are on, pixels.
    """

    part_id: str
    kind: str = ""
    defective: bool | None = None
    defects: list[Box] = field(default_factory=list)
    detections: list[Box] = field(default_factory=list)
    image_size: tuple[int, int] = (0, 0)
    judged: bool = False
    verdict: str = ""
    timing: str = ""
    revision: int = 0
    reasons: tuple[str, ...] = ()
    station: str = ""
    picture: bytes = b""
    score_map: bytes = b""
    refinement: str = ""
    left_belt: bool | None = None
    late_reject: bool = False

    @property
    def escaped(self) -> bool:
        """Defective, and on its way to the customer."""
        return bool(self.defective) and self.verdict == "PASS"


@dataclass
class Station:
    """One inspector's figures."""

    name: str
    frame_age_ms: list[float] = field(default_factory=list)
    arrival_s: list[float] = field(default_factory=list)
    stages_ms: dict[str, list[float]] = field(default_factory=dict)
    drops: dict[str, int] = field(default_factory=dict)
    received: int = 0
    processed: int = 0
    model: str = ""
    engine: str = ""


@dataclass(frozen=True)
class Usage:
    """A process over the run: CPU in per cent of one core, resident memory in MB (1e6 bytes)."""

    process: str
    nodes: tuple[str, ...]
    cpu_percent: float
    memory_mb: float
    restarts: int


class Tally:
    """Everything that the demo counts."""

    def __init__(self) -> None:
        self.parts: dict[str, Part] = {}
        self.stations: dict[str, Station] = {}
        self.usage: list[Usage] = []
        self.alarms: Counter[str] = Counter()
        self.floor = Floor()
        self.details: Counter[str] = Counter()
        self.detail_age_ms: list[float] = []
        self.detail_model = ""
        self.first_verdict_s: float | None = None
        self.started_to_verdict_s: float | None = None
        self.has_truth = False

    def part(self, part_id: str) -> Part:
        """The part, new where it was not known."""
        return self.parts.setdefault(part_id, Part(part_id))

    def truth(self, part_id: str, kind: str, defects: list[Box]) -> None:
        """What the simulator made."""
        self.has_truth = True
        part = self.part(part_id)
        part.kind, part.defects, part.defective = kind, defects, bool(defects)

    def result(
        self,
        part_id: str,
        station_name: str,
        detections: list[Box],
        *,
        frame_age_ms: float,
        at_s: float,
        stages_ms: dict[str, float],
        drops: dict[str, int],
        received: int,
        processed: int,
        image_size: tuple[int, int] = (0, 0),
    ) -> Station:
        """What an inspector said of one frame."""
        station = self.stations.setdefault(station_name, Station(station_name))
        station.frame_age_ms.append(frame_age_ms)
        station.arrival_s.append(at_s)
        for name, value in stages_ms.items():
            station.stages_ms.setdefault(name, []).append(value)
        station.drops, station.received, station.processed = drops, received, processed
        if part_id:
            part = self.part(part_id)
            part.detections, part.judged, part.station = detections, True, station_name
            part.image_size = image_size
        return station

    def verdict(
        self,
        part_id: str,
        revision: int,
        verdict: str,
        timing: str,
        reasons: tuple[str, ...],
        refinement: str = "NONE",
    ) -> bool:
        """A verdict of the line; False where a newer one is known."""
        part = self.part(part_id)
        if revision <= part.revision:
            return False
        part.revision, part.verdict, part.timing, part.reasons = revision, verdict, timing, reasons
        part.refinement = "" if refinement == "NONE" else refinement
        return True

    def exit(self, part_id: str, left_belt: bool) -> None:
        """The part was at the reject output."""
        self.part(part_id).left_belt = left_belt

    def late_reject(self, part_id: str) -> None:
        """The part had to leave the belt and could not."""
        self.part(part_id).late_reject = True

    def detail(self, outcome: str, age_ms: float, model: str) -> None:
        """The detail tier answered a crop."""
        self.details[outcome] += 1
        self.detail_age_ms.append(age_ms)
        self.detail_model = model

    def finished(self) -> list[Part]:
        """Parts that have a verdict, in the order in which they were first seen."""
        return [part for part in self.parts.values() if part.verdict]

    def summary(self, seconds: float, interrupted: bool = False) -> dict[str, Any]:
        """All figures as plain data, for --json, the table and the report.

        seconds: how long it was watched; interrupted: a person ended it before its time.
        """
        parts = self.finished()
        verdicts = Counter(part.verdict for part in parts)
        ages = [age for station in self.stations.values() for age in station.frame_age_ms]
        drops = Counter[str]()
        for station in self.stations.values():
            drops.update(station.drops)
        return {
            "seconds": round(seconds, 1),
            "interrupted": interrupted,
            "started_to_first_verdict_s": self.started_to_verdict_s,
            "parts": len(parts),
            "pass": verdicts["PASS"],
            "fail": verdicts["FAIL"],
            "review": verdicts["REVIEW"],
            "unknown": verdicts["UNKNOWN"],
            "late_or_missing": sum(part.timing in ("LATE", "MISSING") for part in parts),
            "truth": self._truth(parts) if self.has_truth else None,
            "frame_age_ms": _percentiles(ages),
            "drops": dict(drops),
            "detail": {
                "model": self.detail_model,
                "answers": dict(self.details),
                "refined": dict(Counter(part.refinement for part in parts if part.refinement)),
                "age_ms": _percentiles(self.detail_age_ms),
            }
            if self.details
            else None,
            "reject_output": self._reject_output(),
            **self.floor.summary(),
            "stations": {name: _station(s) for name, s in sorted(self.stations.items())},
            "processes": [usage.__dict__ for usage in self.usage],
            "alarms": dict(self.alarms),
        }

    def _reject_output(self) -> dict[str, int] | None:
        """Whether the right parts left the belt, by the verdict in force."""
        gone = [part for part in self.parts.values() if part.left_belt is not None]
        if not gone:
            return None
        off = [part for part in gone if part.left_belt]
        on = [part for part in gone if not part.left_belt]
        return {
            "rejected": len(off),
            "rejected_rightly": sum(part.verdict != "PASS" for part in off),
            "went_on": len(on),
            "went_on_rightly": sum(part.verdict == "PASS" for part in on),
            "late_rejects": sum(part.late_reject for part in self.parts.values()),
        }

    def _truth(self, parts: list[Part]) -> dict[str, Any]:
        """Parts and defects found and missed; a part counts as caught unless it passed."""
        known = [part for part in parts if part.defective is not None]
        bad = [part for part in known if part.defective]
        good = [part for part in known if not part.defective]
        found = Counter[int]()
        made = Counter[int]()
        false_boxes = 0
        for part in known:
            if not part.judged:
                continue
            for class_id in {box[0] for box in part.defects + part.detections}:
                truth = [box[2:] for box in part.defects if box[0] == class_id]
                boxes = [box for box in part.detections if box[0] == class_id]
                hits = match_detections(
                    np.array([b[2:] for b in boxes]).reshape(-1, 4),
                    np.array([b[1] for b in boxes]),
                    np.array(truth).reshape(-1, 4),
                    iou=MATCH_IOU,
                )
                made[class_id] += len(truth)
                found[class_id] += int(hits.sum())
                false_boxes += int((~hits).sum())
        return {
            "parts_with_truth": len(known),
            "defective": len(bad),
            "caught": sum(part.verdict in ("FAIL", "REVIEW") for part in bad),
            "escaped": sum(part.escaped for part in bad),
            "escaped_parts": [part.part_id for part in bad if part.escaped],
            "good": len(good),
            "passed": sum(part.verdict == "PASS" for part in good),
            "false_rejects": sum(part.verdict == "FAIL" for part in good),
            "false_reviews": sum(part.verdict == "REVIEW" for part in good),
            "defects": sum(made.values()),
            "defects_found": sum(found.values()),
            "defects_missed": sum(made.values()) - sum(found.values()),
            "false_boxes": false_boxes,
        }


def _station(station: Station) -> dict[str, Any]:
    return {
        "model": station.model,
        "engine": station.engine,
        "received": station.received,
        "processed": station.processed,
        "drops": station.drops,
        "frame_age_ms": _percentiles(station.frame_age_ms),
        "stages_ms": {name: _percentiles(v) for name, v in station.stages_ms.items()},
    }


def _percentiles(values: list[float]) -> dict[str, float] | None:
    if not values:
        return None
    p50, p99, top = np.percentile(values, [50, 99, 100])
    return {"p50": round(float(p50), 2), "p99": round(float(p99), 2), "max": round(float(top), 2)}
