"""Parameters of the camera node."""

from __future__ import annotations

from dataclasses import dataclass

from shopfloor.ros.parameters import BaseParameters, param

SOURCES = ("folder", "video", "v4l2", "simulated")


@dataclass(frozen=True)
class CameraParameters(BaseParameters):
    """Which source is read, and how."""

    source: str = param("simulated", "Kind of source.", choices=SOURCES)
    address: str = param(
        "",
        "Folder of pictures, video file, V4L2 device (path or number) or the simulator's socket; "
        "empty: the simulator's usual socket.",
    )
    rate_hz: float = param(
        0.0,
        "Frames per second asked of the source; 0: as the source has it. A folder then gives its "
        "pictures as fast as they are read.",
        unit="Hz",
        ge=0.0,
        le=1000.0,
    )
    loop: bool = param(False, "Folder and video: start again behind the last frame.")
    width: int = param(
        0,
        "V4L2: columns asked for, another size is refused; 0: as the device has it.",
        unit="px",
        ge=0,
        le=65536,
    )
    height: int = param(
        0,
        "V4L2: rows asked for, another size is refused; 0: as the device has it.",
        unit="px",
        ge=0,
        le=65536,
    )
    pixel_format: str = param(
        "", "V4L2: four-character code such as MJPG or YUYV; empty: as the device has it."
    )
    silence_s: float = param(
        2.0,
        "Without a frame for this long, a V4L2 device is opened anew and any other source is "
        "reported as silent.",
        unit="s",
        ge=0.1,
        le=3600.0,
    )
    jpeg_quality: int = param(90, "Quality of the compressed frames.", ge=1, le=100)
