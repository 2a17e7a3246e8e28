"""A triggered camera that may lie: it sends pictures, with the faults of a timetable."""

from __future__ import annotations

import threading

import numpy as np
import numpy.typing as npt

from shopfloor.ros.frame_socket import FrameHeader
from shopfloor.sim.camera_device import CameraDevice, DeviceCounters
from shopfloor.sim.faults import Timetable


class SimulatedCamera:
    """One camera with its own frame counter and clock, which start anew when it is plugged in.

    withheld: parts whose picture no reader could get, because of a fault.
    """

    def __init__(self, device: CameraDevice, timetable: Timetable) -> None:
        self._device = device
        self._timetable = timetable
        self._lock = threading.Lock()
        self._plugged_ns: int | None = None
        self._sequence = 0
        self.withheld = 0
        self._last_image: npt.NDArray[np.uint8] | None = None
        self._faults: frozenset[str] = frozenset()

    def set_timetable(self, timetable: Timetable) -> None:
        """Other faults from now on; from any thread."""
        with self._lock:
            self._timetable = timetable

    @property
    def faults(self) -> frozenset[str]:
        """The faults that were on at the last `update`."""
        return self._faults

    def counters(self) -> DeviceCounters:
        """What the device did."""
        return self._device.counters()

    def update(self, now_ns: int) -> None:
        """Plug in or unplug as the timetable says; raises FrameSocketError if it cannot listen."""
        with self._lock:
            self._faults = self._timetable.active(now_ns)
        if "unplug" in self._faults:
            self.unplug()
        elif not self._device.is_open:
            self._device.open()
            self._plugged_ns = now_ns
            self._sequence = 0
            self._last_image = None

    def unplug(self) -> None:
        """Close the device."""
        self._device.close()
        self._plugged_ns = None

    def expose(
        self,
        image: npt.NDArray[np.uint8],
        *,
        part_id: str,
        trigger: int,
        steady_ns: int,
        ros_ns: int,
    ) -> int:
        """Take and send a picture (H, W, 3) bgr8, unless a fault forbids it.

        Returns the sequence of the frame, 0 when the camera has no power.
        """
        if self._plugged_ns is None:
            self.withheld += 1
            return 0
        self._sequence += 1
        if "freeze" in self._faults and self._last_image is not None:
            image = self._last_image
        self._last_image = image
        if "gap" in self._faults:
            self.withheld += 1
            return self._sequence
        pixels = np.ascontiguousarray(image).reshape(-1)
        payload = pixels[: pixels.size // 2] if "corrupt" in self._faults else pixels
        header = FrameHeader(
            width=image.shape[1],
            height=image.shape[0],
            encoding="bgr8",
            sequence=self._sequence,
            trigger=trigger,
            device_stamp_ns=steady_ns - self._plugged_ns,
            host_stamp_ns=ros_ns,
            steady_ns=steady_ns,
            part_id=part_id,
            payload_bytes=payload.nbytes,
        )
        self._device.send(header, payload)
        return self._sequence
