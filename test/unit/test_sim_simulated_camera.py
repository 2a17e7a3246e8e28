"""The camera that may lie: gaps, frozen and damaged frames, and no power."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from frame_socket_tools import LIMIT_S, eventually, picture, read_frame

from shopfloor.ros.frame_socket import ConnectionLost, DamagedFrame, DeviceAbsent, FrameReader
from shopfloor.sim.camera_device import CameraDevice
from shopfloor.sim.faults import Fault, Timetable
from shopfloor.sim.simulated_camera import SimulatedCamera

SECOND_NS = 1_000_000_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "camera.sock"


@pytest.fixture
def lying(path: Path) -> Iterator[SimulatedCamera]:
    """gap from 1 s, freeze from 2 s, corrupt from 3 s, unplugged from 4 s to 5 s."""
    faults = [
        Fault("gap", 1.0, 1.0),
        Fault("freeze", 2.0, 1.0),
        Fault("corrupt", 3.0, 1.0),
        Fault("unplug", 4.0, 1.0),
    ]
    camera = SimulatedCamera(CameraDevice(path), Timetable(faults, start_ns=0))
    camera.update(0)
    yield camera
    camera.unplug()


def expose(camera: SimulatedCamera, at_s: float, seed: int) -> int:
    now_ns = round(at_s * SECOND_NS)
    camera.update(now_ns)
    return camera.expose(
        picture(seed), part_id=f"p{seed}", trigger=seed, steady_ns=now_ns, ros_ns=7 + now_ns
    )


def test_faults_of_the_camera(lying: SimulatedCamera, path: Path) -> None:
    reader = FrameReader(path)
    reader.connect()
    eventually(lambda: lying.counters().readers == 1)

    assert expose(lying, 0.5, seed=1) == 1
    frame = read_frame(reader)
    assert np.array_equal(frame.image, picture(1))
    assert (frame.header.part_id, frame.header.trigger) == ("p1", 1)
    assert frame.header.steady_ns == SECOND_NS // 2 == frame.header.host_stamp_ns - 7

    assert expose(lying, 1.5, seed=2) == 2  # lost on the way
    assert lying.withheld == 1

    assert expose(lying, 2.5, seed=3) == 3  # frozen: a new frame of an old part
    frame = read_frame(reader)
    assert frame.header.sequence == 3 and frame.header.part_id == "p3"
    assert np.array_equal(frame.image, picture(2))

    assert expose(lying, 3.5, seed=4) == 4
    with pytest.raises(DamagedFrame, match="frame 4 has 288 bytes"):
        reader.read(LIMIT_S)

    assert expose(lying, 4.5, seed=5) == 0  # no power: the part passes unseen
    assert lying.withheld == 2 and lying.faults == {"unplug"}
    assert not path.exists()
    with pytest.raises(ConnectionLost):
        reader.read(LIMIT_S)
    with pytest.raises(DeviceAbsent):
        reader.connect()

    lying.update(round(5.5 * SECOND_NS))  # back, with counters that start anew
    reader.connect()
    eventually(lambda: lying.counters().readers == 1)
    assert expose(lying, 5.6, seed=6) == 1
    frame = read_frame(reader)
    assert np.array_equal(frame.image, picture(6))
    assert frame.header.device_stamp_ns == round(0.1 * SECOND_NS)
    reader.close()


def test_a_new_timetable_replaces_the_old(lying: SimulatedCamera) -> None:
    lying.set_timetable(Timetable([], 0))
    assert expose(lying, 4.5, seed=1) == 1
    assert lying.faults == frozenset()
