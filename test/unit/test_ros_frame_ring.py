"""The shared-memory ring: whole frames only, whoever is killed, restarted, slow or wrong."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shopfloor.ros import frame_ring
from shopfloor.ros.frame_ring import (
    RingAbsent,
    RingElsewhere,
    RingError,
    RingReader,
    RingWriter,
    remove_abandoned,
)

FRAME = np.arange(48 * 64 * 3, dtype=np.uint32).astype(np.uint8).reshape(48, 64, 3)


def rings(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def test_a_frame_comes_out_as_it_went_in_and_cannot_be_written_to(tmp_path: Path) -> None:
    writer, reader = RingWriter(FRAME.nbytes, folder=tmp_path), RingReader(tmp_path)
    found = reader.frame(writer.write(FRAME))
    assert found is not None and found.intact()
    np.testing.assert_array_equal(found.pixels.reshape(FRAME.shape), FRAME)
    with pytest.raises(ValueError, match="read-only"):
        found.pixels[0] = 1
    writer.close()
    assert rings(tmp_path) == []
    assert found.intact(), "who looks at a frame keeps it"


def test_rows_that_do_not_lie_together_are_copied_one_after_another(tmp_path: Path) -> None:
    writer, reader = RingWriter(FRAME.nbytes, folder=tmp_path), RingReader(tmp_path)
    part = FRAME[3:40:2, 5:50]
    found = reader.frame(writer.write(part))
    assert found is not None
    np.testing.assert_array_equal(found.pixels.reshape(part.shape), part)


def test_a_frame_that_is_overwritten_is_noticed_before_and_after(tmp_path: Path) -> None:
    writer, reader = RingWriter(FRAME.nbytes, slots=3, folder=tmp_path), RingReader(tmp_path)
    place = writer.write(FRAME)
    found = reader.frame(place)
    assert found is not None
    for _ in range(2):
        writer.write(FRAME)
        assert found.intact()
    writer.write(FRAME)
    assert not found.intact()
    assert reader.frame(place) is None


def test_other_sizes_fit_into_the_slots_and_larger_ones_are_refused(tmp_path: Path) -> None:
    writer, reader = RingWriter(FRAME.nbytes, folder=tmp_path), RingReader(tmp_path)
    small = np.arange(20, dtype=np.uint16).reshape(4, 5)
    found = reader.frame(writer.write(small))
    assert found is not None
    np.testing.assert_array_equal(found.pixels.view(np.uint16).reshape(4, 5), small)
    with pytest.raises(RingError, match="10000 bytes; the slots hold 9216"):
        writer.write(np.zeros(10_000, np.uint8))


def test_a_place_that_cannot_be_right_is_refused(tmp_path: Path) -> None:
    writer, reader = RingWriter(FRAME.nbytes, folder=tmp_path), RingReader(tmp_path)
    place = writer.write(FRAME)
    for wrong in (
        replace(place, slot=99),
        replace(place, generation=place.generation + 1),
        replace(place, offset_bytes=place.offset_bytes + 1),
        replace(place, size_bytes=1 << 40),
    ):
        with pytest.raises(RingError, match="outside of its ring"):
            reader.frame(wrong)
    for name in ("", "../../etc/passwd", "shopfloor-ring-x"):
        with pytest.raises(RingError, match="is no name of a ring"):
            reader.frame(replace(place, ring=name))
    (tmp_path / place.ring).write_bytes(b"no ring")
    with pytest.raises(RingError):
        RingReader(tmp_path).frame(place)


def test_a_ring_from_before_a_restart_or_of_another_host_is_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = RingWriter(FRAME.nbytes, folder=tmp_path).write(FRAME)
    monkeypatch.setattr(frame_ring, "boot_id", lambda: "0" * 36)
    with pytest.raises(RingElsewhere, match="not of this boot"):
        RingReader(tmp_path).frame(place)


def test_a_writer_that_ended_leaves_an_absent_ring(tmp_path: Path) -> None:
    writer = RingWriter(FRAME.nbytes, folder=tmp_path)
    place = writer.write(FRAME)
    writer.close()
    with pytest.raises(RingAbsent, match="No such file"):
        RingReader(tmp_path).frame(place)


def test_no_room_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RingError, match="for a ring in"):
        RingWriter(1 << 60, folder=tmp_path)
    assert rings(tmp_path) == []
    with pytest.raises(RingError, match="absent"):
        RingWriter(10, folder=tmp_path / "absent")


_WRITE = """
import sys
from pathlib import Path
import numpy as np
from shopfloor.ros.frame_ring import RingWriter
writer = RingWriter(1 << 20, slots=3, folder=Path(sys.argv[1]))
image = np.empty(1 << 20, np.uint8)
for number in range(1 << 40):
    image.fill(number % 251)
    place = writer.write(image)
    if number % int(sys.argv[2]) == 0:
        print(place.ring, place.slot, place.generation, place.offset_bytes, place.size_bytes,
              number, flush=True)
"""

_READ = """
import sys
from dataclasses import replace
from pathlib import Path
from shopfloor.ros.frame_ring import Place, RingReader
ring, *numbers = sys.argv[2].split()
place = Place(ring, *map(int, numbers[:4]))
reader = RingReader(Path(sys.argv[1]))
reader.frame(place)
generations = reader._ring.generations
good = torn = late = 0
while (done := good + torn + late) < 3000 or (done < 100_000 and not (good and late)):
    generation = int(generations[place.slot])
    if generation % 2:
        continue
    found = reader.frame(replace(place, generation=generation))
    if found is None:
        late += 1
        continue
    if good == 0 and late == 0:
        print("reading", flush=True)
    lowest, highest = int(found.pixels.min()), int(found.pixels.max())
    if found.intact():
        good += lowest == highest
        torn += lowest != highest
    else:
        late += 1
print(good, torn, late, flush=True)
"""


def start(code: str, folder: Path, *arguments: str, **pipes: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, str(folder), *arguments], text=True, **pipes
    )


def place_of(line: str) -> frame_ring.Place:
    ring, slot, generation, offset, size, _ = line.split()
    return frame_ring.Place(ring, int(slot), int(generation), int(offset), int(size))


def test_no_torn_frame_under_full_load_and_a_killed_reader_holds_nothing(tmp_path: Path) -> None:
    """A writer that never waits, in three slots, against two readers that it keeps overtaking."""
    writer = start(_WRITE, tmp_path, "1000000", stdout=subprocess.PIPE)
    assert writer.stdout is not None
    place = writer.stdout.readline()
    readers = [start(_READ, tmp_path, place, stdout=subprocess.PIPE) for _ in range(2)]
    try:
        killed, reader = readers
        assert killed.stdout is not None and reader.stdout is not None
        killed.stdout.readline()
        killed.kill()
        good, torn, late = map(int, reader.stdout.read().splitlines()[-1].split())
        assert writer.poll() is None
    finally:
        for child in (writer, *readers):
            child.kill()
            child.wait()
    assert torn == 0 and good > 0 and late > 0, (good, torn, late)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_ring_goes_with_its_killed_writer_and_stays_with_a_stopped_one(
    tmp_path: Path, how: signal.Signals
) -> None:
    writer = start(_WRITE, tmp_path, "1000000", stdout=subprocess.PIPE)
    try:
        assert writer.stdout is not None
        place = place_of(writer.stdout.readline())
        reader = RingReader(tmp_path)
        reader.frame(place)
        assert not reader.close_abandoned() and remove_abandoned(tmp_path) == []
        os.kill(writer.pid, how)
        if how is signal.SIGSTOP:
            assert not reader.close_abandoned() and rings(tmp_path) == [place.ring]
            return
        writer.wait()
        assert reader.close_abandoned()
        assert rings(tmp_path) == []
        with pytest.raises(RingAbsent):
            reader.frame(place)
    finally:
        writer.kill()
        writer.wait()


def test_the_next_writer_removes_the_ring_of_one_that_was_killed(tmp_path: Path) -> None:
    dead = start(_WRITE, tmp_path, "1000000", stdout=subprocess.PIPE)
    assert dead.stdout is not None
    old = place_of(dead.stdout.readline())
    reader = RingReader(tmp_path)
    dead.kill()
    dead.wait()
    left = reader.frame(old)  # whole or half-written: what counts is that nothing hangs or breaks
    alive = RingWriter(FRAME.nbytes, folder=tmp_path)
    place = alive.write(FRAME)
    assert rings(tmp_path) == [place.ring]
    found = reader.frame(place)
    assert found is not None and found.intact()
    np.testing.assert_array_equal(found.pixels.reshape(FRAME.shape), FRAME)
    del left


def test_a_frame_that_a_killed_writer_left_half_written_is_never_taken(tmp_path: Path) -> None:
    writer, reader = RingWriter(FRAME.nbytes, slots=3, folder=tmp_path), RingReader(tmp_path)
    place = writer.write(FRAME)
    # What a kill in the middle of a write leaves: the odd generation, never the even one.
    writer._generations[place.slot] += 1
    assert reader.frame(place) is None
    assert reader.frame(replace(place, generation=place.generation + 2)) is None
