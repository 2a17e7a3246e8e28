"""The quota of a folder of bags: the oldest go, and nothing that is not its own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from shopfloor.replay.bag import BagFile, Topic, is_in_use, typestore
from shopfloor.replay.quota import Quota

DATA = Topic("/a/data", "std_msgs/msg/String")
TYPES = typestore([])


def make_bag(path: Path, written_s: int, size: int = 100_000) -> Path:
    bag = BagFile(path, TYPES)
    bag.write(DATA, 1, bytes(size))
    bag.close()
    os.utime(path / f"{path.name}.mcap", (written_s, written_s))
    return path


def test_the_quota_takes_the_oldest_and_spares_what_is_not_its_own(tmp_path: Path) -> None:
    noted = make_bag(tmp_path / "noted", 1)
    (noted / "why.txt").write_text("the day the belt tore")
    old, newer, newest = (make_bag(tmp_path / f"bag_{n}", 10 + n) for n in range(3))
    foreign = tmp_path / "photos"
    foreign.mkdir()
    (foreign / "big.jpg").write_bytes(bytes(500_000))
    link = tmp_path / "link"
    link.symlink_to(noted)
    crashed = make_bag(tmp_path / "crashed", 5)
    (crashed / "metadata.yaml").unlink()
    writing = BagFile(tmp_path / "writing", TYPES)
    writing.write(DATA, 1, bytes(200_000))
    quota = Quota(tmp_path, 350_000, 0)
    quota.enforce()
    assert quota.deleted == ["crashed", "bag_0"]
    assert not quota.is_over
    tight = Quota(tmp_path, 1, 0)
    tight.enforce()
    assert tight.is_over
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link", "noted", "photos", "writing"]
    assert is_in_use(tmp_path / "writing")
    writing.close()
    assert not is_in_use(tmp_path / "writing")
    assert not old.exists() and not newer.exists() and not newest.exists()


def test_a_folder_that_may_not_be_read_is_none_of_the_quotas(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lost+found").mkdir()
    usual = Path.iterdir

    def guarded(path: Path) -> Iterator[Path]:
        if path.name == "lost+found":
            raise PermissionError(13, "Permission denied")
        return usual(path)

    monkeypatch.setattr(Path, "iterdir", guarded)
    quota = Quota(tmp_path, 1000, 0)
    quota.enforce()
    assert quota.size_bytes == 0 and not quota.problem


def test_a_bag_that_cannot_be_deleted_does_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck, free = (make_bag(tmp_path / f"bag_{n}", 10 + n) for n in range(2))
    real = shutil.rmtree

    def refuse(path: Path) -> None:
        if path == stuck:
            raise PermissionError(13, "Permission denied", str(path))
        real(path)

    monkeypatch.setattr(shutil, "rmtree", refuse)
    quota = Quota(tmp_path, 1, 0)
    quota.enforce()
    assert "bag_0: [Errno 13]" in quota.problem
    assert stuck.exists() and not free.exists()
    assert quota.is_over
