"""Parameters of the recorder."""

from __future__ import annotations

from dataclasses import dataclass

from shopfloor.ros.parameters import BaseParameters, param

IMAGE_POLICIES = ("none", "annotated", "camera", "all")


@dataclass(frozen=True)
class RecorderParameters(BaseParameters):
    """What is recorded, and where."""

    folder: str = param("bags", "Folder in which each activation makes a bag of its own.")
    name: str = param("", "Name of the bag; empty: the host's time, as shopfloor_YYYYmmdd_HHMMSS.")
    images: str = param(
        "annotated",
        "Which images go in as JPEG: those with boxes, those of the cameras, both or none. "
        "Recording them makes the nodes encode them.",
        choices=IMAGE_POLICIES,
    )
