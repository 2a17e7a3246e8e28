"""The device clock: offset and drift under jitter, steps and resets, and errors that hold."""

from __future__ import annotations

import math

import numpy as np
import pytest

from shopfloor.camera.device_clock import DeviceClock, Latch, Mapped

SECOND = 1_000_000_000
MS = 1_000_000
START = 7_000 * SECOND


class Way:
    """A device whose clock runs `ppm` fast, and a way to the host that delays its frames.

    The shortest delay is 4 ms, jitter is exponential (1 ms mean) with a spike now and then.
    """

    def __init__(self, ppm: float = 40.0, seed: int = 1, jitter_ms: float = 1.0) -> None:
        self.random = np.random.default_rng(seed)
        self.ppm = ppm
        self.jitter_ms = jitter_ms
        self.begin = START
        self.device_at_begin = 0

    def device(self, true_ns: int) -> int:
        return self.device_at_begin + round((true_ns - self.begin) * (1 + self.ppm * 1e-6))

    def delay(self) -> int:
        spike = 30.0 if self.random.random() < 0.02 else 0.0
        return round((4.0 + self.random.exponential(self.jitter_ms) + spike) * MS)

    def set_clock(self, true_ns: int, device_ns: int) -> None:
        self.begin, self.device_at_begin = true_ns, device_ns

    def latch(self, true_ns: int) -> Latch:
        return Latch(self.device(true_ns), true_ns - 150_000, true_ns + 50_000)


def run(
    clock: DeviceClock, way: Way, start_ns: int, seconds: float, hz: float = 30.0
) -> tuple[list[float], list[Mapped]]:
    """Errors in ms (mapped - true) and what was mapped, frame by frame."""
    errors, mapped = [], []
    for n in range(int(seconds * hz)):
        true = start_ns + round(n / hz * SECOND)
        m = clock.observe(way.device(true), true + way.delay())
        errors.append((m.steady_ns - true) / MS)
        mapped.append(m)
    return errors, mapped


def held(errors: list[float], mapped: list[Mapped]) -> float:
    """Share of frames whose stated error holds."""
    pairs = zip(errors, mapped, strict=True)
    return float(np.mean([abs(e) * MS <= m.error_ns for e, m in pairs]))


@pytest.mark.parametrize("ppm", [-100.0, -3.0, 0.0, 40.0, 200.0])
def test_drift_and_offset_are_found_under_jitter(ppm: float) -> None:
    clock, way = DeviceClock(), Way(ppm)
    clock.latch(way.latch(START))
    errors, mapped = run(clock, way, START, 120.0)
    settled = slice(30 * 30, None)
    assert clock.drift_ppm == pytest.approx(ppm, abs=8.0)
    assert max(map(abs, errors[settled])) < 0.5, "jitter of 1 to 30 ms must not come through"
    assert held(errors[settled], mapped[settled]) > 0.99
    assert mapped[-1].error_ns < 0.5 * MS and clock.steps == 0


def test_without_a_latch_the_stamp_is_late_by_the_shortest_delay_and_says_not_known() -> None:
    clock, way = DeviceClock(), Way()
    errors, mapped = run(clock, way, START, 60.0)
    assert np.median(errors[900:]) == pytest.approx(4.0, abs=0.5)
    assert all(math.isnan(m.error_ns) for m in mapped)


def test_a_known_bound_of_the_delay_is_halved_and_stated() -> None:
    clock, way = DeviceClock(delay_bound_ns=10.0 * MS), Way()
    errors, mapped = run(clock, way, START, 60.0)
    assert np.median(errors[900:]) == pytest.approx(-1.0, abs=0.5)
    assert held(errors, mapped) == 1.0
    assert mapped[-1].error_ns == pytest.approx(5 * MS, abs=1 * MS)


def test_a_stamp_is_never_after_the_arrival() -> None:
    clock, way = DeviceClock(), Way(jitter_ms=0.01)
    for n in range(1000):
        true = START + n * 33 * MS
        arrival = true + way.delay()
        assert clock.observe(way.device(true), arrival).steady_ns <= arrival


@pytest.mark.parametrize("seconds_on", [2.0, -1.0, -300.0, 86_400.0])
def test_a_clock_that_is_set_or_begins_anew_is_learnt_anew(seconds_on: float) -> None:
    clock, way = DeviceClock(), Way()
    run(clock, way, START, 20.0)
    later = START + 20 * SECOND
    way.set_clock(later, way.device(later) + round(seconds_on * SECOND))
    clock.latch(way.latch(later))
    errors, mapped = run(clock, way, later, 20.0)
    assert clock.steps == 1
    assert max(map(abs, errors[60:])) < 1.5
    assert held(errors[60:], mapped[60:]) > 0.95


def test_a_clock_set_back_by_less_than_a_period_is_noticed_and_doubted_until_then() -> None:
    """No stamp runs backwards then: only the delays grow, as in a congestion that does not end."""
    clock, way = DeviceClock(delay_bound_ns=10.0 * MS), Way(jitter_ms=0.2)
    run(clock, way, START, 20.0, hz=5.0)
    later = START + 20 * SECOND
    way.set_clock(later, way.device(later) - 120 * MS)
    errors, mapped = run(clock, way, later, 30.0, hz=5.0)
    assert clock.steps == 1
    assert abs(errors[-1]) < 6.0
    assert held(errors, mapped) > 0.95, "while it is in doubt, the stated error says so"


@pytest.mark.parametrize("hz", [30.0, 120.0])
def test_delays_that_grow_for_good_are_learnt_at_any_rate(hz: float) -> None:
    """A clock that was set back while no frame came, or a way that became longer."""
    clock, way = DeviceClock(delay_bound_ns=10.0 * MS), Way(jitter_ms=0.2)
    run(clock, way, START, 20.0, hz)
    later = START + 22 * SECOND
    way.set_clock(later, way.device(later) - 120 * MS)
    errors, mapped = run(clock, way, later, 8.0, hz)
    assert clock.steps == 1
    assert max(map(abs, errors[-round(hz) :])) < 6.0
    assert held(errors, mapped) > 0.95, "while it is in doubt, the stated error says so"


def test_a_congestion_that_ends_is_no_step() -> None:
    clock, way = DeviceClock(delay_bound_ns=10.0 * MS), Way(jitter_ms=0.2)
    run(clock, way, START, 20.0)
    errors = []
    for n in range(60):  # two seconds of frames that are 300 ms late
        true = START + 20 * SECOND + n * 33 * MS
        mapped = clock.observe(way.device(true), true + way.delay() + 300 * MS)
        errors.append((mapped.steady_ns - true) / MS)
        assert abs(errors[-1]) * MS <= mapped.error_ns
    assert clock.steps == 0 and max(map(abs, errors)) < 2.0


def test_a_backlog_at_the_start_does_not_spoil_what_follows() -> None:
    clock, way = DeviceClock(delay_bound_ns=10.0 * MS), Way(jitter_ms=0.2)
    for n in range(30):  # a second's worth of old frames at once
        clock.observe(way.device(START + n * 33 * MS), START + SECOND + n * MS)
    errors, _ = run(clock, way, START + SECOND, 30.0)
    assert max(map(abs, errors[90:])) < 3.0


def test_a_host_that_slept_is_a_step() -> None:
    """CLOCK_MONOTONIC stands still in suspend, the camera's clock does not."""
    clock, way = DeviceClock(), Way(jitter_ms=0.2)
    run(clock, way, START, 10.0)
    way.device_at_begin += 3600 * SECOND
    errors, _ = run(clock, way, START + 10 * SECOND, 10.0)
    assert clock.steps == 1 and np.median(errors[60:]) == pytest.approx(4.0, abs=0.5)


def test_drift_is_not_known_at_first() -> None:
    clock = DeviceClock()
    assert math.isnan(clock.drift_ppm)
    clock.observe(5, START)
    assert math.isnan(clock.drift_ppm)


def test_a_loose_latch_does_not_replace_a_tight_one() -> None:
    clock, way = DeviceClock(), Way()
    clock.latch(way.latch(START))
    clock.latch(Latch(way.device(START + SECOND), START - SECOND, START + 3 * SECOND))
    _, mapped = run(clock, way, START + SECOND, 10.0)
    assert mapped[-1].error_ns < 1 * MS
