"""The capture loop: it counts, it comes back, it never ends by itself, it stops at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from shopfloor.camera.capture import CaptureHealth, CaptureLoop, CaptureState
from shopfloor.camera.source import (
    BadFrame,
    Cause,
    EndOfStream,
    Grab,
    SourceError,
    SourceInfo,
    SourceLost,
)

IMAGE = np.zeros((4, 6, 3), np.uint8)


NOW = -1


def grab(sequence: int, steady_ns: int = NOW, **more: Any) -> Grab:
    """A frame that is exposed when it is read, unless it says otherwise."""
    more.setdefault("device_stamp_ns", None)
    return Grab(
        more.pop("image", IMAGE), "bgr8", more.pop("device_stamp_ns"), steady_ns, sequence,
        f"p{sequence}", **more,
    )  # fmt: skip


class Script:
    """A source that does what its script says: return a Grab or None, or raise.

    `openings` is consumed by `open`, one entry each (None: it opens); then it always opens.
    """

    def __init__(self, *steps: Any, openings: tuple[Exception | None, ...] = ()) -> None:
        self.steps = list(steps)
        self.openings = list(openings)
        self.info = SourceInfo("script", "script:1")
        self.opened = 0
        self.closed = 0
        self.threads: set[int] = set()
        self.exhausted = threading.Event()

    def describe(self) -> SourceInfo:
        return self.info

    def open(self) -> None:
        self.threads.add(threading.get_ident())
        self.opened += 1
        step = self.openings.pop(0) if self.openings else None
        if step is not None:
            raise step

    def read(self, timeout_s: float) -> Grab | None:
        self.threads.add(threading.get_ident())
        if not self.steps:
            self.exhausted.set()
            threading.Event().wait(min(timeout_s, 0.005))
            return None
        step = self.steps.pop(0)
        if isinstance(step, Exception):
            raise step
        if isinstance(step, Grab) and step.steady_ns == NOW:
            return replace(step, steady_ns=time.monotonic_ns())
        return step  # type: ignore[no-any-return]

    def close(self) -> None:
        self.threads.add(threading.get_ident())
        self.closed += 1


class Ran:
    """A capture loop that is run until its source's script is used up."""

    def __init__(
        self, source: Script, until: Callable[[CaptureHealth], bool] | None = None, **options: Any
    ) -> None:
        self.grabs: list[Grab] = []
        self.changes: list[CaptureHealth] = []
        reached = threading.Event()

        def on_change(health: CaptureHealth) -> None:
            self.changes.append(health)
            if until is not None and until(health):
                reached.set()

        self.bad: list[BadFrame] = []
        options.setdefault("on_grab", self.grabs.append)
        self.loop = CaptureLoop(
            source,
            on_change=on_change,
            on_bad=self.bad.append,
            backoff_s=(0.001, 0.004),
            **options,
        )
        self.loop.start()
        assert (reached if until is not None else source.exhausted).wait(5.0)
        self.health = self.loop.health()
        assert self.loop.stop()

    @property
    def states(self) -> list[tuple[CaptureState, Cause]]:
        return [(h.state, h.cause) for h in self.changes]


def test_frames_are_handed_on_and_the_source_is_used_by_one_thread() -> None:
    source = Script(grab(1), None, grab(2), grab(3))
    ran = Ran(source)
    assert [g.sequence for g in ran.grabs] == [1, 2, 3]
    assert ran.health.state is CaptureState.STREAMING and ran.health.frames == 3
    assert ran.health.size == (6, 4) and ran.health.encoding == "bgr8"
    assert ran.health.time_to_first_frame_ms is not None
    assert len(source.threads) == 1 and threading.get_ident() not in source.threads
    assert source.closed >= 1
    assert ran.states == [
        (CaptureState.OPENING, Cause.NONE),
        (CaptureState.STREAMING, Cause.NONE),
        (CaptureState.CLOSED, Cause.NONE),
    ]


def test_gaps_and_repeats_of_the_source_counter_are_counted() -> None:
    ran = Ran(Script(grab(1), grab(1), grab(5), grab(6), grab(6)))
    assert [g.sequence for g in ran.grabs] == [1, 5, 6]
    assert (ran.health.lost, ran.health.duplicates) == (3, 2)
    assert ran.health.lost_rate_hz > 0


def test_frames_that_a_newer_one_replaced_are_not_lost_on_the_way() -> None:
    ran = Ran(Script(grab(1), grab(6, superseded=3), grab(7, superseded=2)))
    assert (ran.health.superseded, ran.health.lost) == (3, 1)


def test_a_frame_from_before_the_opening_is_stale_and_not_handed_on() -> None:
    before = time.monotonic_ns() - 10_000_000
    source = Script(
        grab(1, before, stamp_error_ns=1e6),
        grab(2, before, stamp_error_ns=1e15),  # may well be of now
        grab(3),
    )
    ran = Ran(source)
    assert [g.sequence for g in ran.grabs] == [2, 3]
    assert ran.health.stale == 1 and ran.health.lost == 0


def test_a_sensor_that_freezes_gives_bad_frames() -> None:
    """New counters, old picture: it would be judged as the part before."""
    noise = np.random.default_rng(1).integers(0, 255, (3, 64, 64), np.uint8)
    later = time.monotonic_ns() + 60_000_000_000
    frames = [grab(n, later + n, image=noise[min(n, 2)]) for n in range(5)]
    live, still = Script(*frames), Script(*frames)
    live.info = SourceInfo("script", "script:1", has_noise=True)
    ran = Ran(live)
    assert [g.sequence for g in ran.grabs] == [0, 1, 2]
    assert [b.sequence for b in ran.bad] == [3, 4] and ran.bad[0].part_id == "p3"
    assert [b.steady_ns for b in ran.bad] == [later + 3, later + 4], "exposed then, not now"
    assert ran.health.cause is Cause.BAD_FRAMES and "frozen" in ran.health.cause_text
    assert len(Ran(still).grabs) == 5, "a file may well repeat a picture"


def test_a_device_clock_takes_the_place_of_the_arrival_and_begins_anew_with_the_device() -> None:
    class Camera(Script):
        """30 Hz by a clock that starts when it is opened; frames arrive 10 to 60 ms late."""

        def open(self) -> None:
            super().open()
            self.began_ns, self.taken = time.monotonic_ns(), 0

        def read(self, timeout_s: float) -> Grab | None:
            step = super().read(timeout_s)
            if not isinstance(step, Grab):
                return step
            self.taken += 1
            stamp_ns = self.taken * 33_000_000
            arrival_ns = self.began_ns + stamp_ns + (60, 10, 35)[self.taken % 3] * 1_000_000
            true.append(self.began_ns + stamp_ns)
            return replace(step, device_stamp_ns=stamp_ns, steady_ns=arrival_ns)

    true: list[int] = []
    source = Camera(*map(grab, range(12)), SourceLost("cable"), *map(grab, range(12)))
    source.info = SourceInfo("script", "script:1", has_clock=True)
    ran = Ran(source, delay_bound_ns=100e6)
    errors_ms = [(g.steady_ns - t) / 1e6 for g, t in zip(ran.grabs, true, strict=True)]
    for settled in (errors_ms[3:12], errors_ms[15:]):
        assert settled == pytest.approx([-40.0] * 9, abs=1.0), "10 ms of delay, 50 assumed"
    assert ran.health.stamp_error_ms == pytest.approx(50.0, abs=5.0)
    assert [g.stamp_error_ns for g in Ran(Script(grab(1, stamp_error_ns=7.0))).grabs] == [7.0]


def test_what_the_device_is_is_known_once_it_is_open() -> None:
    source = Script(grab(1))
    source.open = lambda: setattr(  # type: ignore[method-assign]
        source, "info", SourceInfo("script", "serial 7", settings={"gain_db": 3.0})
    )
    ran = Ran(source)
    assert ran.health.source.device_id == "serial 7" == ran.loop.source.device_id
    assert ran.health.source.settings == {"gain_db": 3.0} and ran.loop.openings == 1


def test_bad_frames_are_counted_and_named_and_are_no_gap() -> None:
    bad = (BadFrame("b.png: cut", 2, "b"), BadFrame("c.png: cut", 3, "c"))
    ran = Ran(Script(grab(1), *bad, grab(4)))
    assert [g.sequence for g in ran.grabs] == [1, 4]
    assert (ran.health.bad, ran.health.lost) == (2, 0)
    assert ran.health.last_bad == "c.png: cut" and ran.bad == list(bad)
    assert (CaptureState.STREAMING, Cause.BAD_FRAMES) in ran.states
    assert ran.health.cause is Cause.NONE, "a good frame clears the cause"


def test_absent_camera_is_tried_again_until_it_comes() -> None:
    absent = SourceError(Cause.ABSENT, "there is no device /dev/video7")
    ran = Ran(Script(grab(1), openings=(absent, absent, absent)))
    assert (CaptureState.OPENING, Cause.ABSENT) in ran.states
    assert ran.changes[1].cause_text == "there is no device /dev/video7"
    assert [g.sequence for g in ran.grabs] == [1]
    assert ran.health.cause is Cause.NONE and ran.health.reconnects == 1


def test_lost_camera_comes_back_and_its_counter_may_start_anew() -> None:
    source = Script(
        grab(700),
        SourceLost("cable"),
        grab(1),
        grab(2),
        openings=(None, SourceError(Cause.BUSY, "b")),
    )
    ran = Ran(source)
    assert [g.sequence for g in ran.grabs] == [700, 1, 2]
    assert (CaptureState.LOST, Cause.DISCONNECTED) in ran.states
    assert (CaptureState.LOST, Cause.BUSY) in ran.states
    assert ran.health.reconnects == 1 and ran.health.lost == 0
    assert ran.health.last_outage_s is not None and 0 < ran.health.last_outage_s < 5
    assert source.opened == 3 and source.closed >= 2


def test_a_camera_that_waits_for_a_trigger_is_well_once_it_is_open_again() -> None:
    absent = SourceError(Cause.ABSENT, "there is no camera")
    belt_stands = Script(grab(1), SourceLost("cable"), openings=(None, absent))
    belt_stands.info = SourceInfo("script", "script:1", triggered=True)
    ran = Ran(belt_stands)
    assert (CaptureState.LOST, Cause.ABSENT) in ran.states
    assert (ran.health.state, ran.health.cause) == (CaptureState.OPENING, Cause.NONE)
    assert ran.health.cause_text == ""
    free = Ran(Script(grab(1), SourceLost("cable"), openings=(None, absent)))
    assert (free.health.state, free.health.cause) == (CaptureState.LOST, Cause.ABSENT)


def test_an_outage_is_over_when_what_waits_for_a_trigger_is_open_again() -> None:
    """However long the belt stands then."""
    lost_ns: list[int] = []
    back_ns: list[int] = []

    class Belt(Script):
        def read(self, timeout_s: float) -> Grab | None:
            if self.opened == 2:
                back_ns.append(time.monotonic_ns())
                threading.Event().wait(0.05)
            elif self.steps and isinstance(self.steps[0], SourceLost):
                lost_ns.append(time.monotonic_ns())
            return super().read(timeout_s)

    source = Belt(grab(1), SourceLost("cable"), None, grab(2))
    source.info = SourceInfo("script", "script:1", triggered=True)
    health = Ran(source).health
    assert health.reconnects == 1 and health.last_outage_s is not None
    assert 0.0 < health.last_outage_s <= (back_ns[0] - lost_ns[0]) / 1e9


def test_a_trigger_that_gave_nothing_is_a_fault_until_one_gives_a_picture() -> None:
    silent = SourceLost("no picture came", Cause.NO_FRAMES)
    for steps, state, cause in (
        ([grab(1), silent], CaptureState.LOST, Cause.NO_FRAMES),
        ([grab(1), silent, grab(1)], CaptureState.STREAMING, Cause.NONE),
    ):
        source = Script(*steps)
        source.info = SourceInfo("script", "script:1", triggered=True)
        health = Ran(source).health
        assert (health.state, health.cause) == (state, cause)


def test_whatever_a_driver_raises_the_loop_goes_on() -> None:
    ran = Ran(Script(grab(1), RuntimeError("driver bug"), grab(2)))
    assert [g.sequence for g in ran.grabs] == [1, 2]
    assert any("RuntimeError: driver bug" in h.cause_text for h in ran.changes)


def test_a_source_that_fails_to_close_does_not_end_the_loop() -> None:
    source = Script(grab(1), SourceLost("gone"), grab(2))
    source.close = lambda: (_ for _ in ()).throw(OSError("ioctl"))  # type: ignore[method-assign]
    assert [g.sequence for g in Ran(source).grabs] == [1, 2]


def test_a_consumer_that_raises_costs_no_frame_and_is_counted() -> None:
    seen: list[int] = []

    def consumer(g: Grab) -> None:
        seen.append(g.sequence)
        raise ValueError("consumer bug")

    ran = Ran(Script(grab(1), grab(2)), on_grab=consumer)
    assert seen == [1, 2] and ran.health.consumer_errors == 2
    assert "consumer bug" in ran.health.last_consumer_error
    assert ran.health.reconnects == 0


def test_end_of_stream_is_told_and_the_loop_waits_for_stop() -> None:
    source = Script(grab(1), EndOfStream("all 1 pictures"))
    ran = Ran(source, until=lambda h: h.state is CaptureState.ENDED)
    assert ran.health.cause_text == "all 1 pictures" and source.opened == 1
    assert ran.changes[-1].state is CaptureState.CLOSED


def test_a_source_of_bad_frames_only_does_not_take_a_core() -> None:
    class Broken(Script):
        reads = 0

        def read(self, timeout_s: float) -> Grab | None:
            self.reads += 1
            raise BadFrame("broken", self.reads)

    source = Broken()
    loop = CaptureLoop(source, lambda g: None)
    loop.start()
    deadline = time.monotonic() + 0.3
    while time.monotonic() < deadline:
        threading.Event().wait(0.02)
    assert loop.stop()
    assert 2 <= source.reads < 60


@pytest.mark.parametrize("steps", [(), (grab(1),), (SourceLost("x"),), (EndOfStream("x"),)])
def test_stop_returns_at_once_in_any_state(steps: tuple[Any, ...]) -> None:
    loop = CaptureLoop(Script(*steps), lambda g: None, backoff_s=(30.0, 30.0))
    loop.start()
    start = time.monotonic()
    assert loop.stop()
    assert time.monotonic() - start < 0.5


@pytest.mark.parametrize("answer", [grab(1), BadFrame("cut", 1)])
def test_stop_says_when_a_driver_holds_the_thread_and_does_not_wait_for_it(
    answer: Grab | BadFrame,
) -> None:
    release = threading.Event()
    inside = threading.Event()

    class Stuck(Script):
        def read(self, timeout_s: float) -> Grab | None:
            inside.set()
            release.wait(10)
            if isinstance(answer, BadFrame):
                raise answer
            return replace(answer, steady_ns=time.monotonic_ns())

    late: list[Grab | BadFrame] = []
    changes: list[CaptureHealth] = []
    loop = CaptureLoop(Stuck(), late.append, changes.append, late.append)
    loop.start()
    assert inside.wait(2)
    start = time.monotonic()
    first = loop.health().reading_s
    assert loop.health().reading_s > first > 0.0
    assert not loop.stop(0.2)
    assert time.monotonic() - start < 0.5
    assert changes[-1].state is CaptureState.CLOSED, "it is over for whoever listens"
    told = len(changes)
    release.set()
    assert loop.stop(2.0)
    assert len(changes) == told, "another loop may speak for the camera by now"
    assert late == [], "a frame of before must not come after stop"


def test_an_opening_that_hangs_can_be_seen() -> None:
    release, inside = threading.Event(), threading.Event()

    class Stuck(Script):
        def open(self) -> None:
            inside.set()
            release.wait(10)
            super().open()

    source = Stuck(grab(1))
    loop = CaptureLoop(source, lambda g: None)
    loop.start()
    assert inside.wait(5)
    first = loop.health().opening_s
    assert loop.health().opening_s > first >= 0.0
    release.set()
    assert source.exhausted.wait(5) and loop.health().opening_s == 0.0
    assert loop.stop()


def test_stop_without_start_is_harmless() -> None:
    assert CaptureLoop(Script(), lambda g: None).stop()


def test_backoff_starts_anew_after_frames() -> None:
    """Doubling on would take minutes here."""
    steps = [step for n in range(20) for step in (grab(n), SourceLost("cable"))]
    source = Script(*steps)
    loop = CaptureLoop(source, lambda g: None, backoff_s=(0.001, 600.0))
    loop.start()
    assert source.exhausted.wait(5)
    assert loop.health().reconnects == 19
    assert loop.stop()


def test_backoff_doubles_to_its_limit() -> None:
    absent = SourceError(Cause.ABSENT, "absent")
    stamps: list[float] = []

    class Timed(Script):
        def open(self) -> None:
            stamps.append(time.monotonic())
            super().open()

    source = Timed(grab(1), openings=(absent,) * 5)
    loop = CaptureLoop(source, lambda g: None, backoff_s=(0.02, 0.08))
    loop.start()
    assert source.exhausted.wait(5)
    loop.stop()
    gaps = np.diff(stamps)
    assert len(gaps) == 5
    for gap, at_least in zip(gaps, (0.02, 0.04, 0.08, 0.08, 0.08), strict=True):
        assert gap >= at_least * 0.95
