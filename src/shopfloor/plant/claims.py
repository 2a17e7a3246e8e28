"""Node names claimed on this machine, so that two graphs on one domain are refused, not mixed up.

Each claim is a locked file; the lock goes with the process that holds it, however that ends. Graphs
started elsewhere, or node by node, are seen by the line manager instead.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from shopfloor.plant.plant_file import Plant
from shopfloor.plant.specs import ProcessSpec
from shopfloor.ros.paths import run_folder


class ClashError(RuntimeError):
    """The nodes cannot be told from another graph's: same names, same domain, same machine."""


class Claims:
    """Names held on a domain until `release`. Raises ClashError naming who has them."""

    def __init__(
        self, domain_id: int, names: Iterable[str], plant: str, folder: Path | None = None
    ) -> None:
        self._fds: list[int] = []
        folder = folder or run_folder()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        taken: dict[str, list[str]] = {}
        for name in names:
            file = folder / f"domain_{domain_id}{name.replace('/', '.')}"
            fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                taken.setdefault(_owner(fd), []).append(name)
                os.close(fd)
                continue
            self._fds.append(fd)
            owner = {"plant": plant, "pid": os.getpid(), "since": time.strftime("%H:%M:%S")}
            os.ftruncate(fd, 0)
            os.pwrite(fd, json.dumps(owner).encode(), 0)
        if taken:
            self.release()
            who = "; ".join(f"{', '.join(n)} by {owner}" for owner, n in taken.items())
            raise ClashError(
                f"on ROS domain {domain_id} these nodes run already: {who}. "
                "Stop it first, or use another domain (--domain-id N, 0 to 101)"
            )

    def release(self) -> None:
        """Give the names back; safe to call twice."""
        for fd in self._fds:
            os.close(fd)
        self._fds.clear()

    def __enter__(self) -> Claims:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def claim(plant: Plant, specs: Sequence[ProcessSpec]) -> Claims:
    """Claim the nodes of `specs` on their domain; raises ClashError when they run already."""
    domain = specs[0].environment.get("ROS_DOMAIN_ID") or os.environ.get("ROS_DOMAIN_ID") or "0"
    if not domain.isdecimal():
        raise ClashError(f"ROS_DOMAIN_ID is '{domain}'; allowed: a whole number, 0 to 101")
    names = [node.full_name for spec in specs for node in spec.nodes]
    return Claims(int(domain), names, plant.name)


def _owner(fd: int) -> str:
    try:
        owner = json.loads(os.pread(fd, 4096, 0))
        return f"plant '{owner['plant']}', process {owner['pid']}, since {owner['since']}"
    except (ValueError, KeyError, TypeError):
        return "another process"
