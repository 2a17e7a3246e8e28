"""Parameters of the detail inspector."""

from __future__ import annotations

from dataclasses import dataclass

from shopfloor.inspection.engines import BACKENDS, PRECISIONS
from shopfloor.inspection.parameters import threshold_problems
from shopfloor.ros.parameters import BaseParameters, ParameterProblem, param


@dataclass(frozen=True)
class DetailInspectorParameters(BaseParameters):
    """Which model looks at crops, how often, and what its scores mean."""

    model: str = param(
        "surface_nano/1", "Model package: NAME/VERSION under models/, or the path of a folder."
    )
    engine: str = param("onnxruntime", "What runs the model.", choices=tuple(BACKENDS))
    precision: str = param(
        "float32", "What the engine computes in, checked at configure.", choices=PRECISIONS
    )
    threads: int = param(1, "CPU threads for one inference.", ge=1, le=64)
    zooms: tuple[float, ...] = param(
        (1.0, 0.75),
        "Each is one magnification: the share of the crop's side that the model sees at a time.",
        ge=0.1,
        le=1.0,
    )
    mirrored: bool = param(
        True, "See each magnification four times: as it is, mirrored, upside down, and both."
    )
    fail_threshold: float = param(
        0.0,
        "Mean score over the views from which it is a DEFECT; 0: the model's own.",
        ge=0.0,
        le=1.0,
        live=True,
    )
    suspect_threshold: float = param(
        0.0,
        "Mean score below which there is NO_DEFECT; UNDECIDED between; 0: the model's own.",
        ge=0.0,
        le=1.0,
        live=True,
    )
    score_floor: float = param(
        0.05,
        "Detections of one view below are not looked at; at most the suspect threshold.",
        ge=0.001,
        le=1.0,
    )
    queue: int = param(
        32,
        "Crops that wait at most; where one more comes, the most urgent one is NOT_EXAMINED.",
        ge=1,
        le=1024,
    )

    def problems(self) -> list[ParameterProblem]:
        """Thresholds that contradict each other, and no view at all."""
        found = super().problems()
        found += threshold_problems(self.fail_threshold, self.suspect_threshold, self.score_floor)
        if not self.zooms:
            found.append(ParameterProblem("zooms", "it is empty; allowed: one number or more"))
        return found
