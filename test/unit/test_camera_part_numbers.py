"""Part ids from a trigger's count: none twice, and none that could be another part's."""

from __future__ import annotations

import pytest

from shopfloor.camera.part_numbers import PartNumbers


def test_a_lost_frame_costs_its_own_id_and_no_other() -> None:
    numbers = PartNumbers("belt1-{series}-{trigger:04d}", lambda: 0.0)
    assert [numbers.part_id(n, 1) for n in (1, 2, 5)] == [
        "belt1-19700101T000001-0001", "belt1-19700101T000001-0002", "belt1-19700101T000001-0005"
    ]  # fmt: skip


def test_a_count_that_begins_anew_never_gives_an_id_of_before() -> None:
    numbers = PartNumbers("{series}/{trigger}", lambda: 100.0)
    seen = [numbers.part_id(n, opening) for n, opening in ((1, 1), (2, 1), (1, 1), (2, 1), (3, 2))]
    assert len(set(seen)) == 5 and not numbers.lost
    assert seen[4].split("/")[0] != seen[3].split("/")[0], "opened anew: parts may have passed"


def test_without_a_series_there_are_no_ids_once_the_count_began_anew() -> None:
    numbers = PartNumbers("{trigger}")
    assert [numbers.part_id(n, 1) for n in (7, 8)] == ["7", "8"]
    assert [numbers.part_id(n, 2) for n in (9, 10)] == ["", ""] and numbers.lost


def test_a_count_that_stands_still_names_no_two_parts_alike() -> None:
    numbers = PartNumbers("{series}/{trigger}", lambda: 5.0)
    assert numbers.part_id(3, 1) != numbers.part_id(3, 1)
    bare = PartNumbers("{trigger}")
    assert [bare.part_id(3, 1), bare.part_id(3, 1)] == ["3", ""] and bare.lost


def test_a_camera_that_is_activated_again_names_parts_again_and_none_twice() -> None:
    bare = PartNumbers("{trigger}")
    assert [bare.part_id(7, 1), bare.part_id(1, 2)] == ["7", ""] and bare.lost
    bare.begin()
    # The next capture counts its openings from 1 again.
    assert [bare.part_id(n, 1) for n in (1, 2)] == ["1", "2"] and not bare.lost
    numbers = PartNumbers("{series}/{trigger}", lambda: 5.0)
    before = numbers.part_id(1, 1)
    numbers.begin()
    assert numbers.part_id(1, 1) != before and not numbers.lost


def test_a_camera_that_runs_free_names_no_parts() -> None:
    numbers = PartNumbers("{trigger}")
    assert numbers.part_id(0, 1) == "" and not numbers.lost
    assert numbers.part_id(1, 1) == "1"


def test_frames_are_counted_where_each_is_a_part() -> None:
    numbers = PartNumbers("{series}/{frame:03d}", lambda: 0.0)
    assert numbers.counts_frames and not PartNumbers("{trigger}").counts_frames
    ids = [numbers.part_id(n, opening) for n, opening in ((1, 1), (3, 1), (4, 2), (1, 2))]
    assert [text.split("/")[1] for text in ids] == ["001", "003", "004", "001"]
    assert len(set(ids)) == 4, "opened anew, or counted anew: parts may have passed"


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("belt1", "has no {trigger}"),
        ("{part}", "'part'"),
        ("{trigger:q}", "format"),
        ("{", "{"),
        ("{frame}", "has no {series}"),
        ("{series}{frame}{trigger}", "has {trigger} and {frame}"),
    ],
)
def test_a_template_that_cannot_work_is_refused(template: str, says: str) -> None:
    with pytest.raises(ValueError, match=r"allowed: \{trigger\}") as error:
        PartNumbers(template)
    assert says in str(error.value)
