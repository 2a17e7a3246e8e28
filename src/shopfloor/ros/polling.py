"""Subscriptions that are looked at some times a second instead of once per message.

A turn of the executor costs rclpy some 0.3 ms, several times what taking a small message costs.
Where a hundred messages a second come and 0.1 s makes no difference, one turn takes all that wait.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.callback_groups import CallbackGroup
from rclpy.qos import QoSProfile
from rclpy.subscription import Subscription

from shopfloor.ros.interfaces import Qos
from shopfloor.ros.qos import subscription_qos

_MOST = 500
"""Messages taken in one turn; the rest is left to the next, so that others get theirs."""

_DEPTH = 1000
"""What comes between two looks, and while the executor is busy elsewhere, waits here."""


class OutOfWaitSet(CallbackGroup):
    """Its entities never wake an executor."""

    def can_execute(self, entity: Any) -> bool:
        """Never."""
        return False

    def beginning_execution(self, entity: Any) -> bool:
        """Never."""
        return False

    def ending_execution(self, entity: Any) -> None:
        """Nothing was begun."""


def polled_qos(qos: Qos) -> QoSProfile:
    """What a polled subscriber of the class asks for: the same with a longer queue."""
    profile = subscription_qos(qos)
    profile.depth = _DEPTH
    return profile


def take_waiting(subscription: Subscription, callback: Callable[[Any, int], None]) -> int:
    """Hand over what waits in a subscription, oldest first; returns how many there were.

    callback(message, arrival_ns): arrival in the middleware, system time; 0 where it does not tell.
    """
    taken = 0
    with subscription.handle:
        while taken < _MOST:
            found = subscription.handle.take_message(subscription.msg_type, subscription.raw)
            if found is None:
                break
            message, info = found
            taken += 1
            callback(message, int(info["received_timestamp"]))
    return taken
