"""Parameters of the inspector node."""

from __future__ import annotations

from dataclasses import dataclass

from shopfloor.inspection.engines import BACKENDS, PRECISIONS
from shopfloor.inspection.rungs import MAX_RUNGS, MODES, Mode, Rung, RungError, make_rungs
from shopfloor.ros.commands import CommandParameters
from shopfloor.ros.parameters import ParameterProblem, param

ROADS = ("auto", "local", "ring", "image", "compressed")


@dataclass(frozen=True)
class InspectorParameters(CommandParameters):
    """Which camera is inspected, by which model, and what decides."""

    camera: str = param("camera", "Name of the camera node whose frames are inspected.")
    road: str = param(
        "auto",
        "How frames come: by reference in one process, through a ring in shared memory, as Image "
        "or as JPEG; auto: the shortest of the first three that there is.",
        choices=ROADS,
    )
    station: str = param("", "Name of the station in results; empty: the node's name.")
    model: str = param(
        "surface_nano/1", "Model package: NAME/VERSION under models/, or the path of a folder."
    )
    engine: str = param(
        "onnxruntime",
        "What runs the model; `python -m shopfloor.inspection bench` finds the fastest.",
        choices=tuple(BACKENDS),
    )
    precision: str = param(
        "float32", "What the engine computes in, checked at configure.", choices=PRECISIONS
    )
    threads: int = param(1, "CPU threads for one inference.", ge=1, le=64)
    fail_threshold: float = param(
        0.0,
        "Score from which a defect fails the part; 0: the model's own.",
        ge=0.0,
        le=1.0,
        live=True,
    )
    suspect_threshold: float = param(
        0.0,
        "Score from which a defect makes the part suspect; 0: the model's own.",
        ge=0.0,
        le=1.0,
        live=True,
    )
    rung_names: tuple[str, ...] = param(
        ("full", "half rate", "hold"),
        f"The ladder's rungs, rung 0 (full performance) first; at most {MAX_RUNGS}.",
    )
    rung_modes: tuple[str, ...] = param(
        ("inspect", "inspect", "hold"),
        "What each rung does: inspect; offload: the whole frame goes to the detail tier as JPEG, "
        "its verdict is SUSPECT until then; hold: every frame is UNKNOWN. Empty: inspect.",
        choices=MODES,
    )
    rung_strides: tuple[int, ...] = param(
        (1, 2, 1), "Each rung takes every so many frames one. Empty: every frame.", ge=1, le=1000
    )
    rung_models: tuple[str, ...] = param(
        (), 'Each rung\'s model package, "": that of `model`. All have the same classes. Empty: "".'
    )
    rung_inputs: tuple[int, ...] = param(
        (),
        "Longer side of each rung's model input, 0: the package's own; another one only where the "
        "ONNX file has dynamic height and width. Empty: the package's own.",
        unit="px",
        ge=0,
        le=8192,
    )
    caution: float = param(
        0.7,
        "A rung with another model or input than rung 0 is SUSPECT from this share of the suspect "
        "threshold.",
        ge=0.0,
        le=1.0,
        live=True,
    )
    follow_thermal: bool = param(
        True, "Obey the rung of this host's thermal watchdog, where there is one."
    )
    score_floor: float = param(
        0.05,
        "Detections below are not seen: at most the suspect threshold, and low enough for honest "
        "statistics from the messages.",
        ge=0.001,
        le=1.0,
    )
    nms_iou: float = param(
        0.0,
        "Of two boxes of one class that overlap by more, the weaker goes; 0: the model's own.",
        ge=0.0,
        le=1.0,
    )
    max_detections: int = param(100, "At most so many detections in a result.", ge=1, le=300)
    min_contrast: float = param(
        2.0,
        "A frame whose grey values deviate by less shows nothing and is UNKNOWN, never PASS.",
        ge=0.0,
        le=127.5,
        live=True,
    )
    min_mean_grey: float = param(
        0.0,
        "A frame that is darker on average is UNKNOWN, never PASS.",
        ge=0.0,
        le=255.0,
        live=True,
    )
    max_mean_grey: float = param(
        255.0,
        "A frame that is brighter on average is UNKNOWN, never PASS.",
        ge=0.0,
        le=255.0,
        live=True,
    )
    min_sharpness: float = param(
        0.0,
        "A frame with a smaller variance of the Laplacian is UNKNOWN, never PASS; 0: not asked.",
        ge=0.0,
        live=True,
    )
    max_frame_age_ms: float = param(
        0.0,
        "A frame older than this is UNKNOWN, not inspected; 0: any age. Needs clocks that agree.",
        unit="ms",
        ge=0.0,
        live=True,
    )
    crops: str = param(
        "suspect",
        "Frames that send crops to the detail tier: none, suspect, or FAIL too (all).",
        choices=("none", "suspect", "all"),
    )
    crop_side_px: int = param(
        640, "Side of the square around a box; the context decides.", unit="px", ge=32, le=4096
    )
    crop_max_side_px: int = param(1280, "A larger crop is scaled down.", unit="px", ge=32, le=4096)
    crop_max_kb: int = param(
        256, "A larger JPEG is made again, with less quality or smaller.", unit="kB", ge=4, le=8192
    )
    crop_max_count: int = param(
        4,
        "At most so many crops of a frame, the best; one with more suspect places is not cleared.",
        ge=1,
        le=63,
    )
    crop_jpeg_quality: int = param(92, "Quality of a crop's JPEG.", ge=1, le=100)
    detail_deadline_s: float = param(
        3.0,
        "From exposure to the time when an answer of the detail tier is LATE; 0: none.",
        unit="s",
        ge=0.0,
        le=600.0,
        live=True,
    )
    pixel_size_mm: float = param(
        0.0, "Millimetres a pixel at the part; 0: not calibrated.", unit="mm", ge=0.0, le=100.0
    )
    silence_s: float = param(
        2.0, "Without a frame for this long the node reports STALE.", unit="s", ge=0.1, le=3600.0
    )
    annotated_jpeg_quality: int = param(
        85, "Quality of the compressed annotated image.", ge=1, le=100
    )

    def rungs(self) -> tuple[Rung, ...]:
        """The ladder. Raises RungError."""
        return make_rungs(
            self.model,
            names=self.rung_names,
            modes=self.rung_modes,
            strides=self.rung_strides,
            models=self.rung_models,
            inputs=self.rung_inputs,
        )

    def problems(self) -> list[ParameterProblem]:
        """A ladder that is none, and thresholds that contradict each other."""
        found = super().problems()
        try:
            offloads = any(rung.mode is Mode.OFFLOAD for rung in self.rungs())
            if offloads and self.crops == "none":
                text = "'none' is not allowed with an offload rung; allowed: suspect, all"
                found.append(ParameterProblem("crops", text))
        except RungError as error:
            found.append(ParameterProblem(error.key, str(error)))
        found += threshold_problems(self.fail_threshold, self.suspect_threshold, self.score_floor)
        if self.min_mean_grey > self.max_mean_grey:
            allowed = f"up to max_mean_grey, {self.max_mean_grey:g}"
            text = f"{self.min_mean_grey:g} is not allowed; allowed: {allowed}"
            found.append(ParameterProblem("min_mean_grey", text))
        return found


def threshold_problems(fail: float, suspect: float, score_floor: float) -> list[ParameterProblem]:
    """What is wrong with the parameters of these names, each 0-1; 0 stands for the model's own."""
    found = []
    if 0.0 < fail < suspect:
        text = f"{suspect:g} is not allowed; allowed: up to fail_threshold, {fail:g}"
        found.append(ParameterProblem("suspect_threshold", text))
    for key, threshold in (("fail_threshold", fail), ("suspect_threshold", suspect)):
        if 0.0 < threshold < score_floor:
            text = f"{threshold:g} is not allowed; allowed: from score_floor, {score_floor:g}, up"
            found.append(ParameterProblem(key, text))
    return found
