"""The simulated camera's reading end: frames over a socket, from another process of this host."""

from __future__ import annotations

from pathlib import Path

from shopfloor.camera.source import (
    BadFrame,
    Cause,
    Grab,
    SourceError,
    SourceInfo,
    SourceLost,
)
from shopfloor.ros.frame_socket import (
    ConnectionLost,
    DamagedFrame,
    DeviceAbsent,
    DeviceDenied,
    FrameReader,
    FrameSocketError,
    ProtocolError,
    usual_path,
)


class SimulatedSource:
    """Frames of the line simulator's camera.

    address: path of its socket; empty: the simulator's usual one in this ROS domain.

    Stamps, sequence and part come with each frame. A belt that stands still gives no frames, so
    silence is no loss here.
    """

    def __init__(self, address: str | Path = "") -> None:
        path = Path(address).expanduser() if str(address) else usual_path()
        try:
            self._reader = FrameReader(path)
        except FrameSocketError as error:
            raise SourceError(Cause.CONFIGURATION, str(error)) from error

    def describe(self) -> SourceInfo:
        """The socket."""
        path = str(self._reader.path)
        return SourceInfo("simulated", path, has_noise=True, triggered=True)

    def open(self) -> None:
        """Connect; raises SourceError when nobody listens there or this user may not."""
        try:
            self._reader.connect(timeout_s=0.2)
        except DeviceAbsent as error:
            raise SourceError(Cause.ABSENT, str(error)) from error
        except DeviceDenied as error:
            raise SourceError(Cause.DENIED, str(error)) from error
        except FrameSocketError as error:
            raise SourceError(Cause.UNKNOWN, str(error)) from error

    def read(self, timeout_s: float) -> Grab | None:
        """The next frame; BadFrame when it is damaged, SourceLost when the device is gone."""
        try:
            frame = self._reader.read(timeout_s)
        except DamagedFrame as error:
            of = error.header
            raise BadFrame(
                str(error), of.sequence, of.part_id, of.trigger, steady_ns=of.steady_ns
            ) from error
        except ConnectionLost as error:
            raise SourceLost(str(error)) from error
        except ProtocolError as error:
            raise SourceLost(str(error), Cause.FORMAT) from error
        if frame is None:
            return None
        header = frame.header
        return Grab(
            image=frame.image,
            encoding=header.encoding,
            device_stamp_ns=header.device_stamp_ns,
            steady_ns=header.steady_ns,
            sequence=header.sequence,
            part_id=header.part_id,
            stamp_error_ns=0.0,
            trigger=header.trigger,
        )

    def close(self) -> None:
        """Hang up."""
        self._reader.close()
