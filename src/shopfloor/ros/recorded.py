"""A recorded message as data. Nothing here needs ROS."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Recorded:
    """A message of a bag or a replay: `stamp_ns` in ROS time, `data` in CDR."""

    topic: str
    stamp_ns: int
    data: bytes
