"""The named quality-of-service classes of the interface table, as rclpy's profiles."""

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
from shopfloor.ros.qos_settings import HEARTBEAT_PERIOD_S as HEARTBEAT_PERIOD_S
from shopfloor.ros.qos_settings import QosSettings, offered, requested


def publisher_qos(qos: Qos) -> QoSProfile:
    """What a publisher or server of the class offers."""
    return qos_profile_services_default if qos is Qos.SERVICES else _profile(offered(qos))


def subscription_qos(qos: Qos) -> QoSProfile:
    """What a subscriber or client of the class asks for."""
    return qos_profile_services_default if qos is Qos.SERVICES else _profile(requested(qos))


def _profile(settings: QosSettings) -> QoSProfile:
    reliability, durability = ReliabilityPolicy, DurabilityPolicy
    profile = QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=settings.depth,
        reliability=reliability.RELIABLE if settings.reliable else reliability.BEST_EFFORT,
        durability=durability.TRANSIENT_LOCAL if settings.latched else durability.VOLATILE,
    )
    if settings.lease_s:
        profile.liveliness = LivelinessPolicy.MANUAL_BY_TOPIC
        profile.liveliness_lease_duration = Duration(seconds=settings.lease_s)
    return profile
