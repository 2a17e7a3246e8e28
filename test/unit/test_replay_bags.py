"""Bags that were cut off: nothing but the last second is lost, and they can be made whole."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from mcap.reader import make_reader
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from shopfloor.replay.bag import (
    NOTES_FILE,
    BagError,
    BagFile,
    BagWriter,
    Topic,
    is_in_use,
    typestore,
)
from shopfloor.replay.bag_reader import BagReader
from shopfloor.replay.cli import main
from shopfloor.replay.repair import repair

STRING = Topic("/a/string", "std_msgs/msg/String")

WRITER = """
import sys, time
from pathlib import Path
from shopfloor.replay.bag import BagWriter, Topic, typestore
bag = BagWriter(Path(sys.argv[1]), typestore([]))
topic, n = Topic("/a/string", "std_msgs/msg/String"), 0
while True:
    bag.put(topic, n, b"\\0\\1\\0\\0" + (6).to_bytes(4, "little") + f"{n:05}".encode() + b"\\0")
    n += 1
    time.sleep(0.01)
    if bag.path.joinpath(bag.path.name + ".mcap").stat().st_size > 5000:
        print(n, flush=True)
"""


def string(text: str) -> bytes:
    body = text.encode() + b"\0"
    return b"\0\1\0\0" + len(body).to_bytes(4, "little") + body


def write(path: Path, count: int = 3000) -> None:
    bag = BagWriter(path, typestore([]))
    dice = random.Random(1)
    for n in range(count):
        assert bag.put(STRING, n, string(f"{n} " + dice.randbytes(500).hex()))
    bag.close()
    assert not bag.error


def texts(path: Path) -> list[int]:
    with BagReader(path) as reader:
        decode = reader.decoder()
        return [int(decode(item).data.split()[0]) for item in reader.messages()]


def test_a_bag_of_a_killed_writer_is_whole_but_for_its_last_second(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path / "bag")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert int(process.stdout.readline())  # a first part has reached the file
    assert is_in_use(tmp_path / "bag")
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not is_in_use(tmp_path / "bag")
    with pytest.raises(BagError):
        BagReader(tmp_path / "bag")
    saved = repair(tmp_path / "bag", tmp_path / "whole")
    assert saved.counts["/a/string"] > 0
    found = texts(tmp_path / "whole")
    assert found == list(range(len(found)))
    assert 0 < len(found) == saved.counts["/a/string"]


def test_the_plant_of_a_bag_outlives_a_cut_and_a_writer_that_ended_left_no_notes(
    tmp_path: Path,
) -> None:
    about = {"plant": "plant: one\n", "files": "abc"}
    bag = BagFile(tmp_path / "bag", typestore([]), about)
    for n in range(3):
        bag.write(STRING, n, string(f"{n} x"))
    bag.abandon()
    (tmp_path / "bag" / "metadata.yaml").unlink(missing_ok=True)
    repair(tmp_path / "bag", tmp_path / "whole")
    with BagReader(tmp_path / "whole") as reader:
        assert (reader.plant, reader.files) == ("plant: one\n", "abc")
    whole = BagFile(tmp_path / "ended", typestore([]), about)
    whole.close()
    assert not (tmp_path / "ended" / NOTES_FILE).exists()


def test_a_type_with_other_fields_than_today_is_refused_by_name(tmp_path: Path) -> None:
    write(tmp_path / "bag", 10)
    other = get_typestore(Stores.EMPTY)
    other.register(get_types_from_msg("string data\nint32 more", "std_msgs/msg/String"))
    with BagReader(tmp_path / "bag") as reader:
        reader.check_types(["/a/string"], typestore([]))
        with pytest.raises(BagError, match="/a/string: std_msgs/msg/String has other fields"):
            reader.check_types(["/a/string"], other)
        with pytest.raises(BagError, match="not known here"):
            reader.check_types(["/a/string"], get_typestore(Stores.EMPTY))


def test_saving_where_a_chunk_has_just_ended_leaves_no_empty_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shopfloor.replay.bag.SAVE_PERIOD_S", 0.0)
    bag = BagFile(tmp_path / "bag", typestore([]))
    for n, size in enumerate((10, 2_000_000, 2_000_000, 10), start=1):
        bag.write(STRING, n, string(" " * size))
    bag.close()
    with (tmp_path / "bag" / "bag.mcap").open("rb") as stream:
        summary = make_reader(stream).get_summary()
    assert summary is not None
    spans = [(c.message_start_time, c.message_end_time) for c in summary.chunk_indexes]
    assert spans == [(1, 1), (2, 2), (3, 3), (4, 4)]


@pytest.mark.parametrize("seed", range(20))
def test_cut_anywhere_what_came_before_is_saved(tmp_path: Path, seed: int) -> None:
    write(tmp_path / "bag", 1500)
    file = tmp_path / "bag" / "bag.mcap"
    content = file.read_bytes()
    cut = random.Random(seed).randrange(len(content) // 2, len(content))
    file.write_bytes(content[:cut])
    (tmp_path / "bag" / "metadata.yaml").unlink()
    repair(tmp_path / "bag", tmp_path / "whole")
    found = texts(tmp_path / "whole")
    assert found == list(range(len(found)))
    assert not found or len(found) >= 900 * (cut > 1_100_000)


def test_the_command_repairs_beside_and_writes_over_nothing(tmp_path: Path) -> None:
    write(tmp_path / "bag", 10)
    assert main(["repair", str(tmp_path / "bag")]) == 0
    assert texts(tmp_path / "bag_repaired") == list(range(10))
    assert main(["repair", str(tmp_path / "bag")]) == 2
    assert main(["repair", str(tmp_path / "none")]) == 2
    assert main(["run", str(tmp_path / "none")]) == 2
