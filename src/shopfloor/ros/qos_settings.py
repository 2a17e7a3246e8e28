"""What the named quality-of-service classes offer and ask for, as data. Needs no ROS.

`shopfloor.ros.qos` turns it into rclpy's profiles; the plant's check compares it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from shopfloor.ros.interfaces import Qos

HEARTBEAT_LEASE_S = 0.5
"""A node that has not asserted its liveliness for this long counts as dead."""

HEARTBEAT_PERIOD_S = 0.1
"""Four heartbeats may be late before the lease ends."""

FRAME_DEPTH = 4
"""At 30 Hz a process may be off its core for 100 ms and lose no frame; what waits is 25 MB at most
of 1080p colour. It is no work queue: a node's worker takes the newest frame."""


@dataclass(frozen=True)
class QosSettings:
    """Keep-last settings. lease_s: the publisher asserts its liveliness within it; 0: no lease."""

    depth: int
    reliable: bool = True
    latched: bool = False
    lease_s: float = 0.0


_OFFERED = {
    # Reliable on offer, so that rviz, which asks for it, sees frames too; never a long queue.
    Qos.FRAMES: QosSettings(FRAME_DEPTH),
    Qos.RESULTS: QosSettings(100),
    Qos.STATE: QosSettings(1, latched=True),
    Qos.HEARTBEAT: QosSettings(1, lease_s=HEARTBEAT_LEASE_S),
    Qos.DIAGNOSTICS: QosSettings(10),
    Qos.SERVICES: QosSettings(10),
}
_REQUESTED = {
    # A lost frame is not worth waiting for: the next one is newer.
    Qos.FRAMES: replace(_OFFERED[Qos.FRAMES], reliable=False),
    # One topic carries every node's.
    Qos.HEARTBEAT: replace(_OFFERED[Qos.HEARTBEAT], depth=100),
}


def offered(qos: Qos) -> QosSettings:
    """What a publisher or server of the class offers."""
    return _OFFERED[qos]


def requested(qos: Qos) -> QosSettings:
    """What a subscriber or client of the class asks for."""
    return _REQUESTED.get(qos, _OFFERED[qos])


def incompatibility(offer: QosSettings, request: QosSettings) -> str:
    """Why DDS would not connect the two; empty where it does (DDS 1.4, section 2.2.3)."""
    if request.reliable and not offer.reliable:
        return "reliable delivery is asked for and best effort offered"
    if request.latched and not offer.latched:
        return "latched messages are asked for and volatile ones offered"
    if request.lease_s and not 0.0 < offer.lease_s <= request.lease_s:
        return f"a liveliness lease of {request.lease_s:g} s is asked for and none such offered"
    return ""
