"""Parameters of the quality gate."""

from __future__ import annotations

from dataclasses import dataclass

from shopfloor.ros.commands import CommandParameters
from shopfloor.ros.parameters import ParameterProblem, param


@dataclass(frozen=True)
class QualityGateParameters(CommandParameters):
    """How evidence of a part becomes its verdict, and the verdict an act of the reject output."""

    line: str = param("line", "Name of the line in verdicts.", read_only=True)
    cameras: tuple[str, ...] = param(
        ("camera",), "Cameras whose parts are judged, by node name in the same namespace."
    )
    every_camera: bool = param(
        False,
        "True: a part needs a result from every camera listed; "
        "false: from each camera that saw it.",
    )
    deadline_ms: float = param(
        1000.0,
        "From a part's first frame to its verdict; what is not there by then is MISSING and the "
        "part goes to REVIEW.",
        unit="ms",
        ge=1.0,
        le=600_000.0,
        live=True,
    )
    detail_deadline_ms: float = param(
        0.0,
        "From a part's first frame to its final verdict where a station was SUSPECT and the detail "
        "tier is asked; 0: there is no detail tier.",
        unit="ms",
        ge=0.0,
        le=600_000.0,
        live=True,
    )
    scrap_from_mm: float = param(
        0.0,
        "A confirmed defect of at least this length scraps the part, a shorter one is reworked; "
        "0: every one scraps. One of unknown size scraps.",
        unit="mm",
        ge=0.0,
        le=10_000.0,
        live=True,
    )
    remember_s: float = param(
        30.0,
        "How long a decided part is remembered, to recognise late and repeated results.",
        unit="s",
        ge=1.0,
        le=3600.0,
    )

    review_from_rung: int = param(
        0,
        "A PASS of an inspector that runs at this rung of its ladder or a higher one is not "
        "believed and sends the part to REVIEW; 0: every rung is good enough.",
        ge=0,
        le=255,
        live=True,
    )
    reject_by: str = param(
        "none",
        "How parts are followed to the reject output: by the belt's encoder, by the delay on a "
        "belt that never stops, or not at all.",
        choices=("none", "delay", "encoder"),
    )
    reject_distance_m: tuple[float, ...] = param(
        (), "From each camera, in the order of `cameras`, to the reject output.", unit="m", ge=0.0
    )
    belt_speed_m_per_s: float = param(
        0.0,
        "Speed of the belt; by encoder: the highest that it can have.",
        unit="m/s",
        ge=0.0,
        le=100.0,
    )
    reject_window_m: float = param(
        0.05,
        "Stretch of belt for which the output acts on one part, centred on it; cut half way to a "
        "neighbour.",
        unit="m",
        ge=0.001,
        le=10.0,
    )
    reject_lead_ms: float = param(
        100.0,
        "From a command to its effect at the output; a reject that comes later is LATE_REJECT.",
        unit="ms",
        ge=0.0,
        le=60_000.0,
    )
    reject_margin_ms: float = param(
        200.0,
        "How long before the last moment a part is decided, for pauses of computer and network; "
        "evidence that comes later does not change what the output does.",
        unit="ms",
        ge=0.0,
        le=60_000.0,
    )
    reject_without_id: str = param(
        "reject",
        "What the output does with a part whose id could not be read.",
        choices=("reject", "pass"),
    )
    hold_on_late_reject: bool = param(
        True,
        "A bad part that the output could not reject in time holds the line, by the command HOLD "
        "of line_state; off: it is an alarm only.",
        live=True,
    )
    encoder_pulses_per_m: float = param(
        1000.0,
        "Counts of the encoder for a metre of belt; negative where it falls as the belt runs "
        "forwards.",
        unit="1/m",
    )
    encoder_bits: int = param(
        32, "Width of the encoder's counter; 0: it never wraps.", unit="bit", ge=0, le=62
    )
    encoder_silent_ms: float = param(
        250.0,
        "Without a reading for this long the place of the parts is not known.",
        unit="ms",
        ge=1.0,
        le=60_000.0,
    )

    def problems(self) -> list[ParameterProblem]:
        """Deadlines in the wrong order, a reject output whose place or belt is not said."""
        found = super().problems()
        if 0.0 < self.detail_deadline_ms < self.deadline_ms:
            allowed = f"0, or at least deadline_ms, {self.deadline_ms:g}"
            text = f"{self.detail_deadline_ms:g} is not allowed; allowed: {allowed}"
            found.append(ParameterProblem("detail_deadline_ms", text))
        return found + (self._reject_problems() if self.reject_by != "none" else [])

    def _reject_problems(self) -> list[ParameterProblem]:
        found = []
        if not self.belt_speed_m_per_s > 0.0:
            text = f"0 is not allowed where reject_by is '{self.reject_by}'; allowed: above 0"
            found.append(ParameterProblem("belt_speed_m_per_s", text))
        if self.reject_by == "encoder" and not self.encoder_pulses_per_m:
            found.append(ParameterProblem("encoder_pulses_per_m", "0; allowed: other than 0"))
        if len(self.reject_distance_m) != len(self.cameras):
            text = (
                f"{len(self.reject_distance_m)} for {len(self.cameras)} cameras; allowed: one each"
            )
            found.append(ParameterProblem("reject_distance_m", text))
        early_ms = self.reject_lead_ms + self.reject_margin_ms
        least_m = self.reject_window_m / 2 + self.belt_speed_m_per_s * early_ms / 1e3
        short = [f"{d:g}" for d in self.reject_distance_m if d <= least_m]
        if short:
            text = (
                f"{', '.join(short)}: the part is there before it can be decided; allowed: above "
                f"{least_m:g} m, half the window and the way in lead and margin"
            )
            found.append(ParameterProblem("reject_distance_m", text))
        return found
