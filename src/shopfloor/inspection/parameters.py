"""Parameters of the inspector node."""

from __future__ import annotations

from dataclasses import dataclass

from shopfloor.ros.parameters import BaseParameters, param

ENGINES = ("onnxruntime",)
ROADS = ("auto", "local", "image", "compressed")


@dataclass(frozen=True)
class InspectorParameters(BaseParameters):
    """Which camera is inspected, by which model, and what decides."""

    camera: str = param("camera", "Name of the camera node whose frames are inspected.")
    road: str = param(
        "auto",
        "How frames come: by reference in one process, as Image or as JPEG; "
        "auto: by reference where the camera is in this process, otherwise Image.",
        choices=ROADS,
    )
    station: str = param("", "Name of the station in results; empty: the node's name.")
    model: str = param(
        "surface_nano/1", "Model package: NAME/VERSION under models/, or the path of a folder."
    )
    engine: str = param("onnxruntime", "What runs the model.", choices=ENGINES)
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
    score_floor: float = param(
        0.05,
        "Detections below are not reported. Low enough for honest statistics from the messages.",
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
    silence_s: float = param(
        2.0, "Without a frame for this long the node reports STALE.", unit="s", ge=0.1, le=3600.0
    )
    annotated_jpeg_quality: int = param(
        85, "Quality of the compressed annotated image.", ge=1, le=100
    )
