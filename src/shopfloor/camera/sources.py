"""Which source the parameters ask for."""

from __future__ import annotations

from shopfloor.camera.folder import FolderSource
from shopfloor.camera.parameters import CameraParameters
from shopfloor.camera.simulated import SimulatedSource
from shopfloor.camera.source import Cause, Source, SourceError
from shopfloor.camera.v4l2 import V4l2Source
from shopfloor.camera.video import VideoSource


def make_source(parameters: CameraParameters) -> Source:
    """A closed source; raises SourceError when the parameters could never open one."""
    p = parameters
    if p.source == "simulated":
        return SimulatedSource(p.address)
    if not p.address:
        raise SourceError(Cause.CONFIGURATION, f"source {p.source} needs the parameter 'address'")
    if p.source == "folder":
        return FolderSource(p.address, p.rate_hz, p.loop)
    if p.source == "video":
        return VideoSource(p.address, p.rate_hz, p.loop)
    return V4l2Source(
        p.address,
        width=p.width,
        height=p.height,
        rate_hz=p.rate_hz,
        fourcc=p.pixel_format,
        silence_s=p.silence_s,
    )
