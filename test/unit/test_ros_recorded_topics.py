"""Which topics are recorded: everything of the table, and pictures by policy and by name."""

from __future__ import annotations

import pytest

from shopfloor.ros.interfaces import INTERFACES, interface
from shopfloor.ros.recorded_topics import is_wanted, may_be_wanted, parse

JPEG = "cam/image_raw/compressed"


@pytest.mark.parametrize(
    ("key", "name", "policy", "by_topic", "wanted"),
    [
        ("part_verdict", "parts/verdict", "none", {}, True),
        ("part_verdict", "parts/verdict", "all", {"/l/parts/verdict": "none"}, False),
        ("image_compressed", JPEG, "annotated", {}, False),
        ("image_compressed", JPEG, "camera", {}, True),
        ("image_compressed", JPEG, "none", {"/l/cam/image_raw": "jpeg"}, True),
        ("image_compressed", JPEG, "all", {"/l/cam/image_raw": "none"}, False),
        ("image_compressed", JPEG, "all", {"/l/cam/image_raw": "raw"}, False),
        ("image_compressed", JPEG, "all", {"/l/other/image_raw": "none"}, True),
        ("image", "cam/image_raw", "all", {}, False),
        ("image", "cam/image_raw", "none", {"/l/cam/image_raw": "raw"}, True),
        ("image", "cam/image_raw", "all", {"/l/cam/image_raw": "jpeg"}, False),
        ("suspect_crop", "inspection/suspects", "crops", {}, True),
        ("suspect_crop", "inspection/suspects", "none", {}, False),
        ("frame_handle", "cam/frame_handle", "all", {}, False),
    ],
)
def test_images_by_policy_and_by_name(
    key: str, name: str, policy: str, by_topic: dict[str, str], wanted: bool
) -> None:
    assert is_wanted(interface(key), f"/l/{name}", policy, by_topic) is wanted


def test_raw_goes_by_name_only() -> None:
    assert parse(["cam/image_raw=raw", "/x=none"]) == {"cam/image_raw": "raw", "/x": "none"}
    for wrong in ("cam/image_raw", "cam=rawest", "=raw", "*/image_raw=raw"):
        with pytest.raises(ValueError, match="allowed: TOPIC=POLICY"):
            parse([wrong])
    assert not may_be_wanted(interface("frame_handle"))
    without = [row.key for row in INTERFACES if may_be_wanted(row, raw=False)]
    extra = {row.key for row in INTERFACES if may_be_wanted(row)} - set(without)
    assert extra == {"image", "annotated", "score_map"}
