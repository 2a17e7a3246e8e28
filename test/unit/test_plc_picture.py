"""The heartbeat watch: what counts as a PLC that lives."""

from __future__ import annotations

import math

from shopfloor.plc.picture import HeartbeatWatch, Link

MS = 1_000_000


def test_a_first_reading_is_no_sign_of_life() -> None:
    # An OPC UA server reports its own initial value once, PLC or not: taken as a beat, every
    # start of the bridge would hold a running line 0.4 s later.
    watch = HeartbeatWatch(400.0)
    watch.connected(True)
    watch.seen(0, 0)
    assert watch.link(1 * MS) is Link.UNKNOWN
    assert math.isnan(watch.age_ms(1 * MS))
    watch.seen(0, 2 * MS)
    assert watch.link(1000 * MS) is Link.UNKNOWN


def test_a_counter_that_moves_is_alive_until_the_timeout() -> None:
    watch = HeartbeatWatch(400.0)
    watch.connected(True)
    watch.seen(7, 0)
    watch.seen(8, 100 * MS)
    assert watch.link(500 * MS) is Link.OK
    assert watch.age_ms(500 * MS) == 400.0
    watch.seen(8, 450 * MS)  # read again, not moved
    assert watch.link(501 * MS) is Link.STALLED
    watch.connected(False)
    assert watch.link(501 * MS) is Link.DOWN
    watch.seen(2, 600 * MS)  # a PLC that restarted counts from the bottom
    assert watch.link(601 * MS) is Link.OK
