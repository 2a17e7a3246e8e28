"""The belt with a clock that the test moves, and the renderer that works ahead of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import numpy as np
import pytest

from shopfloor.sim.faults import Fault, Timetable, parse_fault
from shopfloor.sim.line import BeltPart, BeltSettings, Line, PictureQueue, plan_part
from shopfloor.sim.scene import Picture, Scene

SECOND_NS = 1_000_000_000
EMPTY = Picture(
    np.zeros((2, 2, 3), np.uint8), np.zeros((0, 4), np.float32), np.zeros(0, np.int64), False
)


class Shelf:
    """Parts that the test puts there."""

    def __init__(self, settings: BeltSettings, count: int) -> None:
        self.parts = deque(BeltPart(plan_part(settings, n + 1), EMPTY) for n in range(count))
        self.is_exhausted = False

    def take(self) -> BeltPart | None:
        return self.parts.popleft() if self.parts else None


SETTINGS = BeltSettings(parts_per_minute=60.0, batch="t")


def test_a_part_comes_every_period() -> None:
    line = Line(SETTINGS, Shelf(SETTINGS, 10), start_ns=5 * SECOND_NS)
    seen = []
    for now_ns in range(5 * SECOND_NS, 9 * SECOND_NS, SECOND_NS // 10):
        trigger = line.poll(now_ns)
        if trigger is not None:
            seen.append((trigger.due_ns // SECOND_NS, trigger.part.plan.part_id))
    assert seen == [(6, "t-000001"), (7, "t-000002"), (8, "t-000003")]
    assert line.triggers == 3 and line.empty_places == 0


def test_not_a_nanosecond_too_early() -> None:
    line = Line(SETTINGS, Shelf(SETTINGS, 1), start_ns=0)
    assert line.poll(SECOND_NS - 1) is None
    trigger = line.poll(SECOND_NS)
    assert trigger is not None and trigger.due_ns == SECOND_NS


def test_a_late_caller_gets_one_trigger_and_keeps_the_beat() -> None:
    line = Line(SETTINGS, Shelf(SETTINGS, 10), start_ns=0)
    trigger = line.poll(round(4.7 * SECOND_NS))
    assert trigger is not None and trigger.due_ns == 4 * SECOND_NS
    assert line.empty_places == 3
    assert line.due_ns == 5 * SECOND_NS
    assert line.poll(round(4.8 * SECOND_NS)) is None


def test_a_picture_that_is_not_ready_leaves_a_gap_and_no_part_is_lost() -> None:
    shelf = Shelf(SETTINGS, 1)
    line = Line(SETTINGS, shelf, start_ns=0)
    assert line.poll(1 * SECOND_NS) is not None
    assert line.poll(2 * SECOND_NS) is None
    shelf.parts.append(BeltPart(plan_part(SETTINGS, 2), EMPTY))
    assert line.poll(2 * SECOND_NS + 1) is None
    trigger = line.poll(3 * SECOND_NS)
    assert trigger is not None and trigger.part.plan.number == 2
    assert line.empty_places == 1 and line.triggers == 2 and trigger.number == 2


def test_an_exhausted_belt_stops() -> None:
    shelf = Shelf(SETTINGS, 1)
    line = Line(SETTINGS, shelf, start_ns=0)
    shelf.is_exhausted = True
    assert line.is_done and line.poll(9 * SECOND_NS) is None and line.empty_places == 0


def test_the_plan_is_the_same_whenever_it_is_asked() -> None:
    forwards = [plan_part(SETTINGS, n) for n in range(1, 30)]
    backwards = [plan_part(SETTINGS, n) for n in range(29, 0, -1)]
    assert forwards == backwards[::-1]
    assert len({plan.part_id for plan in forwards}) == 29


def test_another_seed_is_another_plan() -> None:
    other = BeltSettings(seed=2, batch="t")
    assert [plan_part(SETTINGS, n).seed for n in range(1, 9)] != [
        plan_part(other, n).seed for n in range(1, 9)
    ]


@pytest.mark.parametrize("rate", [0.0, 0.25, 1.0])
def test_defect_rate(rate: float) -> None:
    settings = BeltSettings(defect_rate=rate)
    plans = [plan_part(settings, n) for n in range(1, 801)]
    assert np.mean([plan.defects > 0 for plan in plans]) == pytest.approx(rate, abs=0.05)
    assert max(plan.defects for plan in plans) <= 6


def test_kinds_mix_by_how_often_they_are_named() -> None:
    settings = BeltSettings(kinds=("board", "board", "board", "steel"))
    kinds = [plan_part(settings, n).kind for n in range(1, 801)]
    assert kinds.count("board") / 800 == pytest.approx(0.75, abs=0.05)


def test_distinct_parts_come_again_under_new_ids() -> None:
    settings = BeltSettings(distinct_parts=3)
    plans = [plan_part(settings, n) for n in range(1, 8)]
    assert [plan.seed for plan in plans[:3]] == [plan.seed for plan in plans[3:6]]
    assert len({plan.part_id for plan in plans}) == 7


@pytest.mark.parametrize(
    "wrong",
    [
        {"parts_per_minute": 0.0},
        {"defect_rate": 1.1},
        {"defect_rate": -0.1},
        {"kinds": ()},
        {"kinds": ("board", "wood")},
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        BeltSettings(**wrong)  # type: ignore[arg-type]


def test_parts_are_numbered_from_one() -> None:
    with pytest.raises(ValueError, match="numbered from 1"):
        plan_part(SETTINGS, 0)


# The renderer ahead of the belt ----------------------------------------------------------------


class CountingScene(Scene):
    """Counts what it renders; fails where it is told to."""

    def __init__(self, fail_at: int = 0) -> None:
        super().__init__(160, 160)
        self.rendered = 0
        self._fail_at = fail_at

    def picture(self, kind: str, seed: int, defects: int) -> Picture:
        self.rendered += 1
        if self.rendered == self._fail_at:
            raise MemoryError("no room")
        return EMPTY


@pytest.fixture
def queues() -> Iterator[list[PictureQueue]]:
    made: list[PictureQueue] = []
    yield made
    for queue in made:
        queue.stop()


def test_the_queue_keeps_order_and_is_bounded(queues: list[PictureQueue]) -> None:
    scene = CountingScene()
    queue = PictureQueue(SETTINGS, scene, ahead=3)
    queues.append(queue)
    assert queue.take() is None
    queue.start()
    numbers = []
    for _ in range(20):
        assert queue.wait_ready(1, timeout_s=10.0)
        part = queue.take()
        assert part is not None
        numbers.append(part.plan.number)
        queue.refill()
    assert numbers == list(range(1, 21))
    assert queue.wait_ready(99, timeout_s=10.0)
    assert scene.rendered <= 20 + 3 + 1  # three wait, one is being placed


def test_the_queue_ends_after_the_last_part(queues: list[PictureQueue]) -> None:
    settings = BeltSettings(parts=2)
    queue = PictureQueue(settings, CountingScene(), ahead=4)
    queues.append(queue)
    queue.start()
    assert queue.wait_ready(4, timeout_s=10.0)
    assert not queue.is_exhausted
    assert [part.plan.number for part in (queue.take(), queue.take()) if part] == [1, 2]
    assert queue.take() is None and queue.is_exhausted


def test_distinct_pictures_are_rendered_once(queues: list[PictureQueue]) -> None:
    scene = CountingScene()
    queue = PictureQueue(BeltSettings(distinct_parts=2, parts=50), scene, ahead=50)
    queues.append(queue)
    queue.start()
    assert queue.wait_ready(50, timeout_s=10.0)
    assert scene.rendered == 2


def test_a_renderer_that_fails_says_so_where_parts_are_taken(queues: list[PictureQueue]) -> None:
    queue = PictureQueue(SETTINGS, CountingScene(fail_at=2), ahead=4)
    queues.append(queue)
    queue.start()
    assert queue.wait_ready(2, timeout_s=10.0)
    assert queue.take() is not None
    with pytest.raises(RuntimeError, match="no room"):
        queue.take()


def test_stop_ends_a_queue_that_waits_for_room(queues: list[PictureQueue]) -> None:
    queue = PictureQueue(SETTINGS, CountingScene(), ahead=1)
    queues.append(queue)
    queue.start()
    assert queue.wait_ready(1, timeout_s=10.0)
    queue.stop()
    assert not queue._thread.is_alive()


# Faults ------------------------------------------------------------------------------------------


def test_a_fault_is_read() -> None:
    assert parse_fault("unplug@20+3") == Fault("unplug", 20.0, 3.0)
    assert parse_fault(" freeze @ 0.5 + 1.25 ") == Fault("freeze", 0.5, 1.25)


@pytest.mark.parametrize(
    "text", ["", "unplug", "unplug@5", "melt@5+1", "gap@-1+2", "gap@1+", "gap@1+2+3", "gap@nan+1"]
)
def test_an_unreadable_fault_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="kinds are unplug, freeze, corrupt, gap"):
        parse_fault(text)


def test_a_fault_must_last() -> None:
    with pytest.raises(ValueError, match="lasts 0 s"):
        parse_fault("gap@1+0")


def test_timetable_bounds() -> None:
    timetable = Timetable([Fault("gap", 1.0, 2.0), Fault("freeze", 2.5, 1.0)], 10 * SECOND_NS)
    at = {s: timetable.active(round((10 + s) * SECOND_NS)) for s in (0.999, 1.0, 2.5, 3.0, 3.5)}
    assert at == {
        0.999: frozenset(),
        1.0: {"gap"},
        2.5: {"gap", "freeze"},
        3.0: {"freeze"},
        3.5: frozenset(),
    }
