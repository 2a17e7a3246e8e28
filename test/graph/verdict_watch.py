"""Prints each verdict of a cell as a line of JSON: `python verdict_watch.py /line_1`."""

from __future__ import annotations

import json
import sys
import time

import rclpy
from rclpy.node import Node
from shopfloor_msgs.msg import PartVerdict

from shopfloor.ros.interfaces import interface
from shopfloor.ros.qos import subscription_qos


def main() -> None:
    """Until a signal."""
    rclpy.init()
    node = Node("verdict_watch", namespace=sys.argv[1])
    row = interface("part_verdict")

    def show(message: PartVerdict) -> None:
        line = {
            "part": message.part_id,
            "revision": message.revision,
            "verdict": message.verdict,
            "stage": message.stage,
            "timing": message.timing,
            "tiers": sorted(evidence.tier for evidence in message.evidence),
            "latency_ms": message.latency_ms,
            "steady_s": time.monotonic(),
        }
        print(json.dumps(line), flush=True)

    node.create_subscription(PartVerdict, row.resolve(), show, subscription_qos(row.qos))
    print("watching", flush=True)
    rclpy.spin(node)


if __name__ == "__main__":
    main()
