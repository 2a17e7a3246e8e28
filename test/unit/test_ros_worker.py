"""Worker, slot and frame hub: latest wins, errors are results, nothing hangs."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from shopfloor.ros import timing
from shopfloor.ros.frames import Frame, FrameHub
from shopfloor.ros.lock_step import LockStep
from shopfloor.ros.timing import RateMeter, Rolling, StageTimer
from shopfloor.ros.worker import Done, LatestSlot, Worker


def frame(sequence: int = 1) -> Frame:
    return Frame(np.zeros((2, 3), np.uint8), "mono8", 0, sequence, "camera", "", 0)


class Bench:
    """A worker whose pace the test sets, and what it delivered."""

    def __init__(self, max_results: int = 16) -> None:
        self.may_go = threading.Semaphore(0)
        self.started = threading.Semaphore(0)
        self.woken = threading.Semaphore(0)
        self.delivered: list[Done[int, int]] = []
        self.worker = Worker(
            "test", self._work, self.delivered.append, self.woken.release, max_results=max_results
        )
        self.worker.start()

    def _work(self, item: int) -> int:
        self.started.release()
        assert self.may_go.acquire(timeout=5.0)
        if item < 0:
            raise ValueError("negative")
        return item * 2

    def finish_one(self) -> None:
        self.may_go.release()
        assert self.woken.acquire(timeout=5.0)


def test_a_busy_worker_takes_the_latest_item_only() -> None:
    bench = Bench()
    assert not bench.worker.put(1)
    assert bench.started.acquire(timeout=5.0)
    assert not bench.worker.put(2)
    assert bench.worker.put(3)
    assert bench.worker.progress().busy
    bench.finish_one()
    bench.finish_one()
    bench.worker.drain()
    assert [done.result for done in bench.delivered] == [2, 6]
    assert (bench.worker.replaced, bench.worker.done) == (1, 2)
    assert bench.worker.stop()


def test_an_error_is_delivered_and_the_worker_goes_on() -> None:
    bench = Bench()
    bench.worker.put(-1)
    bench.finish_one()
    bench.worker.put(4)
    bench.finish_one()
    bench.worker.drain()
    assert [str(done.error) for done in bench.delivered] == ["negative", "None"]
    assert bench.delivered[1].result == 8
    assert bench.worker.stop()


def test_results_nobody_collects_are_bounded_and_counted() -> None:
    bench = Bench(max_results=2)
    for item in range(4):
        bench.worker.put(item)
        bench.finish_one()
    bench.worker.drain()
    assert [done.item for done in bench.delivered] == [2, 3]
    assert bench.worker.lost_results == 2
    assert bench.worker.stop()


def test_stop_says_when_the_worker_is_stuck() -> None:
    bench = Bench()
    bench.worker.put(1)
    assert bench.started.acquire(timeout=5.0)
    assert not bench.worker.stop(timeout_s=0.01)
    bench.may_go.release()
    assert bench.worker.stop()


def test_a_closed_slot_wakes_its_reader() -> None:
    slot: LatestSlot[int] = LatestSlot()
    got: list[int | None] = []
    reader = threading.Thread(target=lambda: got.append(slot.take(timeout_s=30.0)))
    reader.start()
    slot.close()
    reader.join(5.0)
    assert got == [None]


def test_the_hub_hands_over_by_reference_and_knows_who_offers() -> None:
    hub = FrameHub()
    first: list[Frame] = []
    second: list[Frame] = []
    end_first = hub.subscribe("/a", first.append)
    hub.subscribe("/a", second.append)
    sent = frame()
    assert hub.publish("/a", sent) == 2
    assert first[0] is sent
    assert hub.publish("/b", sent) == 0
    end_first()
    end_first()
    assert hub.publish("/a", sent) == 1
    assert (len(first), len(second)) == (1, 2)
    assert not hub.offers("/a")
    hub.offer("/a")
    hub.offer("/a")
    hub.withdraw("/a")
    assert hub.offers("/a")
    hub.withdraw("/a")
    hub.withdraw("/a")
    assert not hub.offers("/a")


def test_rates_and_percentiles(monkeypatch: pytest.MonkeyPatch) -> None:
    meter = RateMeter(window_s=1.0)
    for i in range(11):
        meter.tick(i * 100_000_000)
    assert meter.hz(1_000_000_000) == pytest.approx(10.0)
    assert meter.hz(5_000_000_000) == 0.0
    rolling = Rolling(size=4)
    assert np.isnan(rolling.percentile(50))
    for value in (100.0, 1.0, 2.0, 3.0, 4.0):
        rolling.add(value)
    assert rolling.percentile(100) == 4.0
    clock = iter([0, 1_000_000, 3_000_000, 7_000_000])
    monkeypatch.setattr(timing, "_stage_clock", lambda: next(clock))
    timer = StageTimer()
    for name in ("decode", "infer", "decode"):
        timer.lap(name)
    assert list(timer.stages_ms.items()) == [("decode", 5.0), ("infer", 2.0)]


def test_a_worker_with_a_period_works_by_itself_and_only_news_wakes() -> None:
    news, woken = [None, None, "first", None, "second"], threading.Event()
    turns = iter(news)
    delivered: list[str | None] = []
    worker: Worker[None, str] = Worker(
        "sensors",
        lambda _: next(turns, None),
        lambda done: delivered.append(done.result),
        woken.set,
        period_s=0.001,
    )
    worker.start()
    while len(delivered) < 2:
        assert woken.wait(10.0)
        woken.clear()
        worker.drain()
    assert worker.stop()
    worker.drain()
    assert delivered == ["first", "second"]
    assert worker.done >= len(news)


def test_a_quiet_worker_tells_of_news_and_errors_only() -> None:
    woken, delivered = threading.Event(), []

    def work(item: int) -> int | None:
        if item < 0:
            raise ValueError(item)
        return item or None

    worker = Worker("test", work, delivered.append, woken.set, quiet=True)
    worker.start()
    for item in (0, 7, 0, -1):
        done = worker.done
        worker.put(item)
        while worker.done == done:
            woken.wait(0.01)
    assert worker.stop()
    worker.drain()
    assert [(each.result, str(each.error)) for each in delivered] == [(7, "None"), (None, "-1")]


def test_in_lock_step_a_period_is_a_tick_and_silence_is_no_result() -> None:
    turns = iter([None, 7])
    delivered: list[int | None] = []
    lock_step = LockStep(0)
    worker = lock_step.worker(
        "sensors", lambda _: next(turns), lambda done: delivered.append(done.result), 0.125
    )
    worker.tick()
    assert delivered == []
    worker.tick()
    assert delivered == [7]
