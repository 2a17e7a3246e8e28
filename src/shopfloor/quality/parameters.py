"""Parameters of the quality gate."""

from __future__ import annotations

from dataclasses import dataclass

from shopfloor.ros.parameters import BaseParameters, ParameterProblem, param


@dataclass(frozen=True)
class QualityGateParameters(BaseParameters):
    """How evidence of a part becomes its verdict."""

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

    def problems(self) -> list[ParameterProblem]:
        """Deadlines in the wrong order."""
        found = super().problems()
        if 0.0 < self.detail_deadline_ms < self.deadline_ms:
            allowed = f"0, or at least deadline_ms, {self.deadline_ms:g}"
            text = f"{self.detail_deadline_ms:g} is not allowed; allowed: {allowed}"
            found.append(ParameterProblem("detail_deadline_ms", text))
        return found
