"""Parameters of the recorder."""

from __future__ import annotations

from dataclasses import dataclass

from shopfloor.ros.parameters import BaseParameters, param

IMAGE_POLICIES = ("none", "crops", "annotated", "camera", "all")


@dataclass(frozen=True)
class RecorderParameters(BaseParameters):
    """What is recorded, and where."""

    folder: str = param("bags", "Folder in which each activation makes a bag of its own.")
    name: str = param("", "Name of the bag; empty: the host's time, as shopfloor_YYYYmmdd_HHMMSS.")
    plant_file: str = param(
        "",
        "Plant file to keep with each bag, so that a replay knows nodes and parameters. A runner "
        "that starts a plant names its own.",
    )
    images: str = param(
        "annotated",
        "Which images go in as JPEG: none, crops of suspects, also those with boxes, or also those "
        "of the cameras, which a replay of inspectors needs, or all. "
        "Recording them makes the nodes encode them.",
        choices=IMAGE_POLICIES,
    )
