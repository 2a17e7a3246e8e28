"""The named quality-of-service classes of the interface table."""

from __future__ import annotations

from rclpy.duration import Duration
from rclpy.qos import (
    DurabilityPolicy,
    HistoryPolicy,
    LivelinessPolicy,
    QoSProfile,
    ReliabilityPolicy,
    qos_profile_services_default,
)

from shopfloor.ros.interfaces import Qos

HEARTBEAT_LEASE_S = 0.5
"""A node that has not asserted its liveliness for this long counts as dead."""

HEARTBEAT_PERIOD_S = 0.1
"""Four heartbeats may be late before the lease ends."""

FRAME_DEPTH = 4
"""At 30 Hz a process may be off its core for 100 ms and lose no frame; what waits is 25 MB at most
of 1080p colour. It is no work queue: a node's worker takes the newest frame."""


def _keep_last(
    depth: int, reliability: ReliabilityPolicy, durability: DurabilityPolicy
) -> QoSProfile:
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST, depth=depth, reliability=reliability, durability=durability
    )


def publisher_qos(qos: Qos) -> QoSProfile:
    """What a publisher or server of the class offers."""
    volatile, latched = DurabilityPolicy.VOLATILE, DurabilityPolicy.TRANSIENT_LOCAL
    reliable = ReliabilityPolicy.RELIABLE
    if qos is Qos.FRAMES:
        # Reliable on offer, so that rviz, which asks for it, sees frames too; never a long queue.
        return _keep_last(FRAME_DEPTH, reliable, volatile)
    if qos is Qos.RESULTS:
        return _keep_last(100, reliable, volatile)
    if qos is Qos.STATE:
        return _keep_last(1, reliable, latched)
    if qos is Qos.HEARTBEAT:
        profile = _keep_last(1, reliable, volatile)
        profile.liveliness = LivelinessPolicy.MANUAL_BY_TOPIC
        profile.liveliness_lease_duration = Duration(seconds=HEARTBEAT_LEASE_S)
        return profile
    if qos is Qos.DIAGNOSTICS:
        return _keep_last(10, reliable, volatile)
    return qos_profile_services_default


def subscription_qos(qos: Qos) -> QoSProfile:
    """What a subscriber or client of the class asks for."""
    profile = publisher_qos(qos)
    if qos is Qos.FRAMES:
        # A lost frame is not worth waiting for: the next one is newer.
        return _keep_last(FRAME_DEPTH, ReliabilityPolicy.BEST_EFFORT, DurabilityPolicy.VOLATILE)
    if qos is Qos.HEARTBEAT:
        profile.depth = 100  # one topic carries every node's
    return profile
