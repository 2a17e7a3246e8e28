"""Fixtures of the graph tests; without ROS they are skipped, and say so."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

collect_ignore_glob: list[str] = []
try:
    import rclpy  # noqa: F401
    import shopfloor_msgs.msg  # noqa: F401
except ImportError as error:
    _missing = str(error)
    collect_ignore_glob = ["test_*.py"]
    print(f"graph tests are left out: {_missing} (source install/setup.bash)")


@pytest.fixture
def domain_id() -> Iterator[int]:
    """A ROS domain that no other test on this machine uses, held by a file lock."""
    folder = Path(tempfile.gettempdir()) / "shopfloor-test-domains"
    folder.mkdir(exist_ok=True)
    for number in range(20, 100):
        fd = os.open(folder / str(number), os.O_CREAT | os.O_RDWR)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            continue
        yield number
        os.close(fd)
        return
    pytest.fail("all ROS domains from 20 to 99 are taken by tests")


@pytest.fixture
def graph(domain_id: int, tmp_path: Path) -> Iterator[Graph]:  # noqa: F821
    """A private graph; everything that it started is gone afterwards."""
    from harness import Graph

    made = Graph(domain_id, tmp_path)
    try:
        yield made
    finally:
        made.close()
