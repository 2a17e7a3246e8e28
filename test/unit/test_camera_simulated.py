"""The simulated camera's reading end, on a bare socket."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from shopfloor.camera.simulated import SimulatedSource
from shopfloor.camera.source import BadFrame, Cause, SourceError, SourceLost
from shopfloor.ros.frame_socket import HEADER_BYTES, FrameHeader, pack_header


class Wire:
    """The device's end of a frame socket, without the device."""

    def __init__(self, path: Path) -> None:
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen(1)

    def send(
        self,
        sequence: int,
        *,
        short_by: int = 0,
        part_id: str = "p",
        trigger: int = 0,
        steady_ns: int = 7,
    ) -> None:
        """A mono8 frame of 4 x 3 pixels, `short_by` bytes of them missing."""
        size = 12 - short_by
        header = FrameHeader(4, 3, "mono8", sequence, trigger, 5, 6, steady_ns, part_id, size)
        self.peer.sendall(pack_header(header) + bytes(range(size)))

    def accept(self) -> None:
        self.peer, _ = self.listener.accept()

    def close(self) -> None:
        self.peer.close()
        self.listener.close()


@pytest.fixture
def wired(tmp_path: Path) -> Iterator[tuple[Wire, SimulatedSource]]:
    wire = Wire(tmp_path / "camera.sock")
    source = SimulatedSource(tmp_path / "camera.sock")
    source.open()
    wire.accept()
    yield wire, source
    source.close()
    wire.close()


def test_simulated_frames_keep_stamps_part_and_counter(
    wired: tuple[Wire, SimulatedSource],
) -> None:
    wire, source = wired
    assert source.read(0.0) is None
    wire.send(41, part_id="board-1")
    got = source.read(1.0)
    assert got is not None
    assert (got.sequence, got.part_id, got.encoding) == (41, "board-1", "mono8")
    assert (got.device_stamp_ns, got.steady_ns) == (5, 7)
    np.testing.assert_array_equal(got.image, np.arange(12).reshape(3, 4))


def test_simulated_damaged_frame_is_bad_and_the_next_is_good(
    wired: tuple[Wire, SimulatedSource],
) -> None:
    wire, source = wired
    wire.send(1, short_by=5, part_id="hurt", trigger=41, steady_ns=900)
    wire.send(2)
    with pytest.raises(BadFrame) as caught:
        source.read(1.0)
    assert (caught.value.sequence, caught.value.part_id) == (1, "hurt")
    assert caught.value.trigger == 41, "its part is named though its picture is lost"
    assert caught.value.steady_ns == 900, "where that part is on the belt depends on it"
    good = source.read(1.0)
    assert good is not None and good.sequence == 2


def test_simulated_nonsense_and_hang_up_are_a_loss_and_it_can_be_opened_again(
    wired: tuple[Wire, SimulatedSource],
) -> None:
    wire, source = wired
    wire.peer.sendall(b"GET / HTTP/1.1\r\n" + bytes(HEADER_BYTES))
    with pytest.raises(SourceLost) as caught:
        source.read(1.0)
    assert caught.value.cause is Cause.FORMAT
    source.close()
    source.open()
    wire.accept()
    wire.send(3)
    assert source.read(1.0) is not None
    wire.peer.close()
    with pytest.raises(SourceLost, match="closed the connection"):
        source.read(1.0)


def test_simulated_camera_that_is_not_there_says_so(tmp_path: Path) -> None:
    source = SimulatedSource(tmp_path / "absent.sock")
    with pytest.raises(SourceError, match=r"absent\.sock") as caught:
        source.open()
    assert caught.value.cause is Cause.ABSENT
    with pytest.raises(SourceError) as caught:
        SimulatedSource("/" + "x" * 200)
    assert caught.value.cause is Cause.CONFIGURATION
