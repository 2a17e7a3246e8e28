"""What the demo saw beside the parts: the board's heat, the machines' health, the plan."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from shopfloor.plant.problems import counted
from shopfloor.scheduling.problem import Assignment, Problem


@dataclass(frozen=True)
class Heat:
    """A host's board now: degrees Celsius, to its limit, and the rung that follows."""

    celsius: float
    headroom_celsius: float
    rung: int
    rung_name: str
    steps: int

    def text(self) -> str:
        """One line for a person."""
        return (
            f"{self.celsius:.1f} C, {self.headroom_celsius:.1f} C to the limit, "
            f"rung {self.rung} '{self.rung_name}'"
        )


@dataclass(frozen=True)
class HealthPoint:
    """One judgement of a machine: seconds since the start, tier, scores (NaN: not known)."""

    at_s: float
    tier: str
    act_score: float
    watch_score: float


@dataclass
class MachineHealthSeen:
    """A machine by its last judgement, and how it came there.

    tier, baseline, diagnosis: constants of `MachineHealth` by name.
    """

    tier: str = "UNKNOWN"
    reason: str = ""
    diagnosis: str = "UNKNOWN"
    diagnosis_text: str = ""
    baseline: str = "UNKNOWN"
    baseline_windows: int = 0
    act_threshold: float = float("nan")
    watch_threshold: float = float("nan")
    trend: list[HealthPoint] = field(default_factory=list)

    def text(self) -> str:
        """One line for a person."""
        if self.baseline in ("LEARNING", "MISSING"):
            return f"learning what is normal, {counted(self.baseline_windows, 'window')}"
        found = "" if self.diagnosis in ("UNKNOWN", "HEALTHY") else f", {self.diagnosis}"
        return f"{self.tier}{found}: {self.reason}"

    def summary(self) -> dict[str, Any]:
        """As plain data; the seconds from the start at which each tier was first seen."""
        first: dict[str, float] = {}
        for point in self.trend:
            first.setdefault(point.tier, round(point.at_s, 1))
        data = asdict(self)
        del data["trend"], data["act_threshold"], data["watch_threshold"]
        return {**data, "tier_first_seen_s": first}


@dataclass(frozen=True)
class PlanSeen:
    """The plan in force, and what it was made from.

    objective: larger is better. baseline_rule: best dispatching rule, empty after a repair.
    """

    version: int
    solver_stage: str
    solve_ms: float
    objective: float
    baseline_rule: str
    baseline_objective: float
    utilisation: float
    late_jobs: int
    problem: Problem
    assignments: Sequence[Assignment]

    def text(self) -> str:
        """One line for a person."""
        rule = f"; best rule, {self.baseline_rule}: {self.baseline_objective:.3f}"
        return (
            f"version {self.version}: {counted(len(self.assignments), 'operation')}, "
            f"{counted(self.late_jobs, 'late job')}, objective {self.objective:.3f}"
            f"{rule if self.baseline_rule else ''}"
        )

    def summary(self) -> dict[str, Any]:
        """As plain data, without the problem."""
        data = {k: v for k, v in vars(self).items() if k not in ("problem", "assignments")}
        return {**data, "operations": len(self.assignments)}


@dataclass
class Floor:
    """Heat by host, health by machine, the plan, and how often what happened to plan and jobs."""

    heat: dict[str, Heat] = field(default_factory=dict)
    machines: dict[str, MachineHealthSeen] = field(default_factory=dict)
    plan: PlanSeen | None = None
    plan_events: Counter[str] = field(default_factory=Counter)

    def summary(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "thermal": {host: asdict(heat) for host, heat in sorted(self.heat.items())},
            "machines": {name: m.summary() for name, m in sorted(self.machines.items())},
            "plan": None if self.plan is None else self.plan.summary(),
            "plan_events": dict(self.plan_events),
        }
