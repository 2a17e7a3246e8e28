"""The protection from torn frames, step by step: it notices each one, and without it they are used.

Each interleaving of one writer and one reader is played by hand, so that nothing hangs on timing.
It is played twice: as it is, and with one part of the protection taken out. The second shows that
the first could fail.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from shopfloor.ros.frame_ring import Place, RingFrame, RingReader, RingWriter

SLOTS = 3
BYTES = 4096 * 3
HALF = BYTES // 2

Pixels = npt.NDArray[np.uint8]
Taken = tuple[Pixels, bool]
"""A reader's copy, and whether the ring says that it is whole."""


def filled(value: int) -> Pixels:
    return np.full(BYTES, value, np.uint8)


def is_torn(copy: Pixels) -> bool:
    return bool(copy.min() != copy.max())


def take(reader: RingReader, place: Place, meanwhile: Callable[[], object]) -> Taken | None:
    """What every reader does: look at the frame, copy it, ask; `meanwhile` in mid-copy."""
    frame = reader.frame(place)
    if frame is None:
        return None
    copy = np.empty(BYTES, np.uint8)
    copy[:HALF] = frame.pixels[:HALF]
    meanwhile()
    copy[HALF:] = frame.pixels[HALF:]
    return copy, frame.intact()


class Ring:
    """A writer whose copy of a frame can be stopped half-way, and a reader."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.writer = RingWriter(BYTES, slots=SLOTS, folder=folder)
        self.reader = RingReader(folder)
        self._in_mid_copy: Callable[[], object] | None = None
        self._copyto = np.copyto
        monkeypatch.setattr(np, "copyto", self._copy_in_halves)

    def come_round(self) -> None:
        """Write until the next slot is the one that was written first."""
        for number in range(SLOTS - 1):
            self.writer.write(filled(5 + number))

    def write_half_then(self, value: int, act: Callable[[], object]) -> None:
        """Write a frame, and do `act` when half of it lies in the slot."""
        self._in_mid_copy = act
        self.writer.write(filled(value))

    def _copy_in_halves(self, slot: Pixels, image: Pixels) -> None:
        act, self._in_mid_copy = self._in_mid_copy, None
        self._copyto(slot[:HALF], image[:HALF])
        if act is not None:
            act()
        self._copyto(slot[HALF:], image[HALF:])


@pytest.fixture
def ring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ring:
    return Ring(tmp_path, monkeypatch)


def overtaken_in_mid_copy(ring: Ring) -> list[Taken | None]:
    """The writer comes round and writes the slot while the reader is half-way through it."""
    place = ring.writer.write(filled(1))
    ring.come_round()
    return [take(ring.reader, place, lambda: ring.writer.write(filled(9)))]


def written_half_in_mid_copy(ring: Ring) -> list[Taken | None]:
    """The reader ends its copy while the writer is half-way through the slot."""
    frame = ring.reader.frame(ring.writer.write(filled(1)))
    assert frame is not None
    copy = np.empty(BYTES, np.uint8)
    copy[HALF:] = frame.pixels[HALF:]
    taken: list[Taken | None] = []

    def end_the_copy() -> None:
        copy[:HALF] = frame.pixels[:HALF]
        taken.append((copy, frame.intact()))

    ring.come_round()
    ring.write_half_then(9, end_the_copy)
    return taken


def begun_while_it_is_written(ring: Ring) -> list[Taken | None]:
    """The reader comes late: the writer is half-way through the slot already."""
    place = ring.writer.write(filled(1))
    ring.come_round()
    taken: list[Taken | None] = []
    ring.write_half_then(9, lambda: taken.append(take(ring.reader, place, lambda: None)))
    return taken


INTERLEAVINGS = (overtaken_in_mid_copy, written_half_in_mid_copy, begun_while_it_is_written)


class OddIsLost:
    """The writer's generations, where "is being written" never arrives."""

    def __init__(self, generations: npt.NDArray[np.uint64]) -> None:
        self._generations = generations

    def __getitem__(self, slot: int) -> np.uint64:
        return np.uint64(self._generations[slot])

    def __setitem__(self, slot: int, generation: int) -> None:
        if generation % 2 == 0:
            self._generations[slot] = generation


def used_and_torn(taken: list[Taken | None]) -> int:
    """How many torn copies the ring would let a reader use."""
    return sum(one is not None and one[1] and is_torn(one[0]) for one in taken)


@pytest.mark.parametrize("play", INTERLEAVINGS)
def test_a_torn_frame_is_noticed(ring: Ring, play: Callable[[Ring], list[Taken | None]]) -> None:
    (taken,) = play(ring)
    assert taken is None or (is_torn(taken[0]) and not taken[1])


@pytest.mark.parametrize("play", INTERLEAVINGS)
def test_without_the_sequence_check_the_same_frames_are_used_torn(
    ring: Ring, play: Callable[[Ring], list[Taken | None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RingFrame, "intact", lambda _: True)
    assert used_and_torn(play(ring)) == 1


@pytest.mark.parametrize("play", [written_half_in_mid_copy, begun_while_it_is_written])
def test_without_the_writer_s_mark_the_same_frames_are_used_torn(
    ring: Ring, play: Callable[[Ring], list[Taken | None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The odd generation is what tells of a write that has begun and has not ended."""
    monkeypatch.setattr(ring.writer, "_generations", OddIsLost(ring.writer._generations))
    assert used_and_torn(play(ring)) == 1


def test_a_reader_that_keeps_its_frame_long_enough_is_not_disturbed(ring: Ring) -> None:
    """Two more frames go to the other slots: what must not be refused is not."""
    place = ring.writer.write(filled(1))
    taken = take(ring.reader, place, ring.come_round)
    assert taken is not None and taken[1] and not is_torn(taken[0])
