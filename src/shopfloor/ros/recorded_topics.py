"""Which topics a recorder takes: all of the interface table, and pictures by policy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from shopfloor.ros.interfaces import Interface, Kind

POLICIES = ("none", "crops", "annotated", "camera", "all")
TOPIC_POLICIES = ("none", "jpeg", "raw")

_JPEG = {
    "image_compressed": ("camera", "all"),
    "annotated_compressed": ("annotated", "all"),
    "score_map_compressed": ("annotated", "all"),
    "suspect_crop": ("crops", "annotated", "camera", "all"),
}
"""Rows with pictures, and the policies that record them."""

_RAW = ("image", "annotated", "score_map")


def may_be_wanted(row: Interface, raw: bool = True) -> bool:
    """Whether any policy records topics of the row; without `raw`: any but raw."""
    return row.kind is Kind.TOPIC and (row.record or (raw and row.key in _RAW))


def is_wanted(row: Interface, topic: str, policy: str, by_topic: Mapping[str, str]) -> bool:
    """Whether `topic` of `row` is recorded.

    policy: one of POLICIES. by_topic: one of TOPIC_POLICIES for topics that differ from it, by
    their absolute name; pictures by the name of the uncompressed topic. Raw goes by name only: one
    camera at 1080p and 30 Hz is 187 MB/s.
    """
    own = by_topic.get(topic.removesuffix("/compressed"))
    if row.key in _RAW:
        return own == "raw"
    if own is not None:
        return own == "jpeg"
    return row.record and (row.key not in _JPEG or policy in _JPEG[row.key])


def parse(entries: Iterable[str]) -> dict[str, str]:
    """`TOPIC=POLICY` by topic. Raises ValueError that names the entry and what is allowed."""
    found: dict[str, str] = {}
    for entry in entries:
        topic, _, policy = entry.partition("=")
        if not topic or policy not in TOPIC_POLICIES or "*" in topic:
            allowed = ", ".join(TOPIC_POLICIES)
            raise ValueError(f"{entry!r} is not allowed; allowed: TOPIC=POLICY with {allowed}")
        found[topic] = policy
    return found
