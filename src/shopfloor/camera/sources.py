"""Which source the parameters ask for."""

from __future__ import annotations

from shopfloor.camera.folder import FolderSource
from shopfloor.camera.genicam import GenicamSettings, GenicamSource
from shopfloor.camera.gstreamer import gstreamer_source
from shopfloor.camera.parameters import CameraParameters
from shopfloor.camera.rtsp import rtsp_source
from shopfloor.camera.simulated import SimulatedSource
from shopfloor.camera.source import Cause, Source, SourceError
from shopfloor.camera.v4l2 import V4l2Source
from shopfloor.camera.video import VideoSource


def make_source(parameters: CameraParameters) -> Source:
    """A closed source; raises SourceError when the parameters could never open one."""
    p = parameters
    if "{trigger" in p.part_template and not p.counts_triggers:
        raise SourceError(
            Cause.CONFIGURATION,
            f"'part_template' needs a camera that counts triggers, not source {p.source} with "
            f"trigger {p.trigger}",
        )
    if p.source == "simulated":
        return SimulatedSource(p.address)
    if p.source == "genicam":
        return GenicamSource(
            p.address,
            GenicamSettings(
                width=p.width,
                height=p.height,
                pixel_format=p.pixel_format,
                exposure_us=p.exposure_us,
                gain_db=p.gain_db,
                rate_hz=p.rate_hz,
                trigger=p.trigger,
                trigger_line=p.trigger_line,
            ),
            p.silence_s,
        )
    if not p.address:
        raise SourceError(Cause.CONFIGURATION, f"source {p.source} needs the parameter 'address'")
    if p.source == "folder":
        return FolderSource(p.address, p.rate_hz, p.loop)
    if p.source == "video":
        return VideoSource(p.address, p.rate_hz, p.loop)
    if p.source == "bag":
        return _bag_source(p)
    limits = {"open_timeout_s": p.open_timeout_s, "silence_s": p.silence_s}
    if p.source == "rtsp":
        return rtsp_source(p.address, **limits)
    if p.source == "gstreamer":
        return gstreamer_source(
            p.address, width=p.width, height=p.height, rate_hz=p.rate_hz, **limits
        )
    return V4l2Source(
        p.address,
        width=p.width,
        height=p.height,
        rate_hz=p.rate_hz,
        fourcc=p.pixel_format,
        exposure_us=p.exposure_us,
        silence_s=p.silence_s,
    )


def _bag_source(p: CameraParameters) -> Source:
    try:
        from shopfloor.camera.bag import BagSource
    except ImportError as missing:
        text = f"source bag needs the packages rosbags and mcap: {missing}"
        raise SourceError(Cause.CONFIGURATION, text) from missing
    return BagSource(p.address, p.topic, p.rate_hz, p.loop)
