"""One end of the 1080p benchmark: `publisher` or `subscriber`, each a process of its own.

Both use the graph's own endpoints (`FramePublisher`, `FrameSubscription`). The subscriber prints
one line of JSON at the end: frames sent and received, latency from before publish to the callback.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time

import numpy as np
from shopfloor_msgs.msg import FrameInfo

from shopfloor.ros.frame_endpoints import FramePublisher, FrameSubscription
from shopfloor.ros.frames import Frame
from shopfloor.ros.main import run_nodes
from shopfloor.ros.node import ShopfloorNode
from shopfloor.ros.parameters import BaseParameters

WIDTH, HEIGHT = 1920, 1080
CAMERA = "bench_camera"


class PublisherNode(ShopfloorNode[BaseParameters]):
    """Sends numbered 1080p frames at a steady rate once somebody listens."""

    def __init__(self, rate_hz: float, frames: int) -> None:
        super().__init__("bench_publisher")
        self._period_s = 1.0 / rate_hz
        self._frames = frames
        self._stopping = threading.Event()

    def setup(self) -> None:
        """Make the endpoints."""
        self._publisher = FramePublisher(self, CAMERA)
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Start to send."""
        self._thread.start()

    def stop(self) -> None:
        """Send no more."""
        self._stopping.set()
        self._thread.join(2.0)

    def _run(self) -> None:
        images = [
            np.random.default_rng(i).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
            for i in range(4)
        ]
        while not self._publisher._image.get_subscription_count():
            if self._stopping.wait(0.05):
                return
        # Discovery is mutual: give the other side the same moment before the first frame counts.
        self._stopping.wait(1.0)
        due = time.monotonic()
        for sequence in range(1, self._frames + 1):
            due += self._period_s
            if self._stopping.wait(max(0.0, due - time.monotonic())):
                return
            stamp_ns = time.time_ns()
            part = str(sequence)
            info = FrameInfo(sequence=sequence, part_id=part, width=WIDTH, height=HEIGHT)
            info.header.stamp = self.stamp(stamp_ns)
            image = images[sequence % len(images)]
            self._publisher.publish(Frame(image, "bgr8", stamp_ns, sequence, CAMERA, part, 0), info)


class SubscriberNode(ShopfloorNode[BaseParameters]):
    """Counts frames and their latency; ends itself after the last."""

    def __init__(self, frames: int, silence_s: float) -> None:
        super().__init__("bench_subscriber")
        self._frames = frames
        self._silence_ns = int(silence_s * 1e9)
        self._latency_ms: list[float] = []
        self._bad = 0
        self._last_ns = 0

    def start(self) -> None:
        """Listen."""
        self._frames_in = FrameSubscription(self, CAMERA, self._on_frame, road="image")
        self.steady_timer(0.2, self._end_when_done)

    def _on_frame(self, frame: Frame) -> None:
        self._latency_ms.append((time.time_ns() - frame.stamp_ns) / 1e6)
        self._bad += not frame.readable
        self._last_ns = time.monotonic_ns()

    def _end_when_done(self) -> None:
        silent = self._last_ns and time.monotonic_ns() - self._last_ns > self._silence_ns
        if len(self._latency_ms) >= self._frames or silent:
            latency = self._latency_ms or [float("nan")]
            print(
                json.dumps(
                    {
                        "sent": self._frames,
                        "received": len(self._latency_ms),
                        "bad": self._bad,
                        "p50_ms": float(np.percentile(latency, 50)),
                        "p99_ms": float(np.percentile(latency, 99)),
                        "max_ms": float(np.max(latency)),
                        "cpu_s": time.process_time(),
                    }
                ),
                flush=True,
            )
            sys.exit(0)


def main() -> int:
    """Run one end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("role", choices=("publisher", "subscriber"))
    parser.add_argument("--frames", type=int, required=True)
    parser.add_argument("--rate-hz", type=float, default=30.0)
    args = parser.parse_args()
    if args.role == "publisher":
        return run_nodes([lambda: PublisherNode(args.rate_hz, args.frames)], args=[])
    return run_nodes([lambda: SubscriberNode(args.frames, silence_s=5.0)], args=[])


if __name__ == "__main__":
    raise SystemExit(main())
