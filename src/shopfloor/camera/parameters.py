"""Parameters of the camera node."""

from __future__ import annotations

from dataclasses import dataclass

from shopfloor.ros.parameters import BaseParameters, ParameterProblem, param

SOURCES = ("folder", "video", "bag", "v4l2", "rtsp", "gstreamer", "genicam", "simulated")
TRIGGERS = ("free_run", "software", "line")

_NAME_PARTS = ("folder", "bag", "simulated")
"""Sources whose frames tell which part they show."""

_TAKEN_BY = {
    "topic": ("bag",),
    "loop": ("folder", "video", "bag"),
    "pixel_format": ("v4l2", "genicam"),
    "exposure_us": ("v4l2", "genicam"),
    "gain_db": ("genicam",),
    "trigger": ("genicam",),
    "trigger_line": ("genicam",),
}
"""What only some sources can do. Size and rate are not here: of any camera they tell
`plant check` the traffic to expect."""


@dataclass(frozen=True)
class CameraParameters(BaseParameters):
    """Which source is read, and how."""

    source: str = param("simulated", "Kind of source.", choices=SOURCES)
    address: str = param(
        "",
        "Folder of pictures, video file, bag (folder or .mcap file), V4L2 device (path or number), "
        "RTSP URL, GStreamer pipeline that ends in an appsink or number of a Jetson's CSI sensor, "
        "serial number or user-defined name of a GenICam camera (empty: the only one), or the "
        "simulator's socket (empty: the usual one).",
    )
    topic: str = param(
        "", "Bag: image topic to read, raw or compressed; empty: the only one in the bag."
    )
    rate_hz: float = param(
        0.0,
        "Frames per second asked of the source; 0: as the source has it. A folder then gives its "
        "pictures as fast as they are read, a bag as they were recorded. Behind a software trigger "
        "the rate of the triggers; 0: the trigger service alone.",
        unit="Hz",
        ge=0.0,
        le=1000.0,
    )
    loop: bool = param(False, "Folder, video and bag: start again behind the last frame.")
    width: int = param(
        0,
        "V4L2, CSI and GenICam: columns asked for, another size is refused; 0: as the device has "
        "it.",
        unit="px",
        ge=0,
        le=65536,
    )
    height: int = param(
        0,
        "V4L2, CSI and GenICam: rows asked for, another size is refused; 0: as the device has it.",
        unit="px",
        ge=0,
        le=65536,
    )
    pixel_format: str = param(
        "",
        "V4L2: four-character code such as MJPG or YUYV; GenICam: name such as Mono8 or BayerRG8; "
        "empty: as the device has it.",
    )
    exposure_us: float = param(
        0.0,
        "GenICam and V4L2 (there in steps of 100 us): exposure time; 0: as the device has it.",
        unit="us",
        ge=0.0,
        le=1e8,
    )
    gain_db: float = param(
        -1.0, "GenICam: gain; below 0: as the device has it.", unit="dB", ge=-1.0, le=100.0
    )
    trigger: str = param(
        "free_run",
        "GenICam: what starts an exposure: the camera itself, the trigger service and `rate_hz`, "
        "or a wire.",
        choices=TRIGGERS,
    )
    trigger_line: str = param("Line1", "GenICam: input that a hardware trigger comes in on.")
    part_template: str = param(
        "",
        "Part id from the trigger's count, for example belt1-{series}-{trigger:06d}; {series} is "
        "the UTC time at which the count began. Where each frame is one part, {frame} takes the "
        "frame's count. Empty: the part that the source names.",
    )
    calibration: str = param(
        "", "YAML file of camera_calibration to publish as camera_info; empty: none."
    )
    shortest_delay_ms: float = param(
        0.0,
        "Bound of the shortest time from exposure to arrival, for a device clock that can't be "
        "read on purpose; 0: not known, and so is the error of its stamps.",
        unit="ms",
        ge=0.0,
        le=10_000.0,
    )
    silence_s: float = param(
        2.0,
        "Without a frame for this long, V4L2, RTSP, GStreamer and a GenICam camera without a "
        "wire for its trigger are opened anew; any other source is reported as silent, unless it "
        "waits for a trigger.",
        unit="s",
        ge=0.1,
        le=3600.0,
    )
    open_timeout_s: float = param(
        2.0, "RTSP and GStreamer: longest wait for an answer.", unit="s", ge=0.1, le=60.0
    )
    listener_wait_s: float = param(
        1.0,
        "Longest wait, from configure on, for somebody who listens to frame_info: what comes "
        "before is lost.",
        unit="s",
        ge=0.0,
        le=60.0,
    )
    jpeg_quality: int = param(90, "Quality of the compressed frames.", ge=1, le=100)

    @property
    def counts_triggers(self) -> bool:
        """Whether frames come with the count of a trigger."""
        return self.source == "simulated" or (
            self.source == "genicam" and self.trigger != "free_run"
        )

    @property
    def nameless(self) -> str:
        """Why no frame names a part, with what is allowed; empty where frames do."""
        counted = self.counts_triggers or "{frame" in self.part_template
        named = counted if self.part_template else self.source in _NAME_PARTS
        if named:
            return ""
        return (
            f"source {self.source} with trigger {self.trigger} and part_template "
            f"{self.part_template!r} names no parts; allowed: genicam with trigger line or "
            "software and {trigger} in part_template; any source with {series} and {frame} in it, "
            f"where each frame is one part; without part_template {', '.join(_NAME_PARTS)}"
        )

    def problems(self) -> list[ParameterProblem]:
        """Wishes that this source has no way to fulfil."""
        found = super().problems()
        usual = type(self)()
        for key, sources in _TAKEN_BY.items():
            value = getattr(self, key)
            if value != getattr(usual, key) and self.source not in sources:
                text = f"{value!r} has no effect with source {self.source}; allowed with: "
                found.append(ParameterProblem(key, text + ", ".join(sources)))
        return found
