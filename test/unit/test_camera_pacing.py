"""Pacing: no drift, no burst, no longer wait than allowed."""

from __future__ import annotations

import pytest

from shopfloor.camera.pacing import Pacer


class FakeTime:
    """A steady clock that only `sleep` moves."""

    def __init__(self) -> None:
        self.now_ns = 1_000

    def clock_ns(self) -> int:
        return self.now_ns

    def sleep(self, seconds: float) -> None:
        self.now_ns += round(seconds * 1e9)


def test_pacing_does_not_drift_when_each_frame_costs_time() -> None:
    fake = FakeTime()
    pacer = Pacer(30.0, fake.clock_ns, fake.sleep)
    due = []
    for _ in range(301):
        while not pacer.wait(1.0):
            pass
        due.append(fake.now_ns)
        fake.now_ns += 20_000_000  # the frame's work
    assert due[-1] - due[0] == pytest.approx(10e9, abs=2)


def test_pacing_waits_no_longer_than_it_is_told() -> None:
    fake = FakeTime()
    pacer = Pacer(1.0, fake.clock_ns, fake.sleep)
    assert pacer.wait(0.1)
    start = fake.now_ns
    assert not pacer.wait(0.1)
    assert fake.now_ns - start == 100_000_000


def test_pacing_does_not_burst_after_a_stall() -> None:
    fake = FakeTime()
    pacer = Pacer(10.0, fake.clock_ns, fake.sleep)
    assert pacer.wait(1.0)
    fake.now_ns += 5_000_000_000
    assert pacer.wait(1.0)
    stalled_until = fake.now_ns
    assert pacer.wait(1.0)
    assert fake.now_ns - stalled_until == pytest.approx(100_000_000, abs=2)
