"""How much of the disk the bags of a folder may take: the oldest go first."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from shopfloor.replay.bag import NOTES_FILE, is_in_use

_OURS = ("metadata.yaml", "metadata.yaml.tmp", NOTES_FILE)


@dataclass(frozen=True)
class _Bag:
    path: Path
    size_bytes: int
    written_ns: int
    is_ours: bool


class Quota:
    """Deletes finished bags of `folder` while all bags together are larger than `max_bytes`.

    A bag that any process writes is never deleted, nor one with a file in it that no recorder
    made: a note keeps a bag. max_bytes 0: nothing is deleted. min_free_bytes: below, the disk
    counts as full. `problem`: why the last bag that should go did not.
    """

    def __init__(self, folder: Path, max_bytes: int, min_free_bytes: int) -> None:
        self.size_bytes = 0
        self.problem = ""
        self.deleted: list[str] = []
        self._folder = folder
        self._max_bytes = max_bytes
        self._min_free_bytes = min_free_bytes

    @property
    def is_over(self) -> bool:
        """Whether the bags are larger than allowed, and none of them may go."""
        return 0 < self._max_bytes < self.size_bytes

    def enforce(self) -> None:
        """Count, and delete what is too much; raises OSError where the folder cannot be read."""
        self.problem = ""
        bags = sorted(self._bags(), key=lambda bag: bag.written_ns)
        self.size_bytes = sum(bag.size_bytes for bag in bags)
        for bag in bags:
            if not self.is_over:
                return
            if bag.is_ours and not self._is_in_use(bag):
                self._delete(bag)

    def disk_problem(self) -> str:
        """Why nothing more should be written; empty: there is room."""
        free_bytes = shutil.disk_usage(self._folder).free
        if free_bytes >= self._min_free_bytes:
            return ""
        free_mb, least_mb = free_bytes / 1e6, self._min_free_bytes / 1e6
        return f"{self._folder}: the disk has {free_mb:.0f} MB free, needed: {least_mb:.0f} MB"

    def _is_in_use(self, bag: _Bag) -> bool:
        try:
            return is_in_use(bag.path)
        except OSError as error:
            self.problem = f"cannot look into {bag.path}: {error}"
            return True

    def _delete(self, bag: _Bag) -> None:
        try:
            shutil.rmtree(bag.path)
        except FileNotFoundError:  # another recorder was quicker
            pass
        except OSError as error:
            self.problem = f"cannot delete {bag.path}: {error}"
            return
        self.size_bytes -= bag.size_bytes
        self.deleted.append(bag.path.name)

    def _bags(self) -> Iterator[_Bag]:
        for path in self._folder.iterdir():
            if path.is_symlink() or not path.is_dir():
                continue
            storage = path / f"{path.name}.mcap"
            try:
                files = list(path.iterdir())
                written_ns = storage.stat().st_mtime_ns
                size_bytes = sum(file.stat().st_size for file in files)
            except (FileNotFoundError, PermissionError):
                continue  # no bag (a disk has its lost+found), or another recorder was quicker
            is_ours = all(file == storage or file.name in _OURS for file in files)
            yield _Bag(path, size_bytes, written_ns, is_ours)
