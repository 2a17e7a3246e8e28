"""1080p at 30 Hz from one process to another: Image, with our profile and the stock one, and ring.

./run bench transport             about 7 minutes (2 minutes each)
./run bench transport --quick     about 1 minute

Both ends use the graph's own endpoints (`FramePublisher`, `FrameSubscription`). With a role,
`publisher` or `subscriber`, this is one of the two processes; the subscriber prints one line of
JSON at its end: frames sent and received, latency from before publish to the callback.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time

import numpy as np
from shopfloor_msgs.msg import FrameInfo
from table import Results

from shopfloor.plant.environment import transport_environment
from shopfloor.ros.frame_endpoints import FramePublisher, FrameSubscription
from shopfloor.ros.frames import Frame
from shopfloor.ros.main import run_nodes
from shopfloor.ros.node import ShopfloorNode
from shopfloor.ros.parameters import BaseParameters

WIDTH, HEIGHT = 1920, 1080
CAMERA = "bench_camera"
RATE_HZ = 30.0
STOCK = {
    "FASTRTPS_DEFAULT_PROFILES_FILE": "",
    "FASTDDS_DEFAULT_PROFILES_FILE": "",
    "MALLOC_MMAP_THRESHOLD_": "",
    "MALLOC_TRIM_THRESHOLD_": "",
}
"""Variables that are taken away for ROS 2 as it comes."""


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

    def teardown(self) -> None:
        """Remove the ring."""
        self._publisher.close()

    def _run(self) -> None:
        images = [
            np.random.default_rng(i).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
            for i in range(4)
        ]
        publisher = self._publisher
        listeners = (publisher._image, publisher._handles._publisher)
        while not any(p.get_subscription_count() for p in listeners):
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
            info = FrameInfo(
                sequence=sequence, part_id=part, width=WIDTH, height=HEIGHT, encoding="bgr8"
            )
            info.header.stamp = self.stamp(stamp_ns)
            image = images[sequence % len(images)]
            frame = Frame(image, "bgr8", stamp_ns, sequence, CAMERA, part, 0)
            self._publisher.publish(frame, lambda info=info: info)


class SubscriberNode(ShopfloorNode[BaseParameters]):
    """Counts frames and their latency; ends itself after the last."""

    def __init__(self, frames: int, road: str, silence_s: float) -> None:
        super().__init__("bench_subscriber")
        self._road = road
        self._frames = frames
        self._silence_ns = int(silence_s * 1e9)
        self._latency_ms: list[float] = []
        self._bad = 0
        self._last_ns = 0

    def start(self) -> None:
        """Listen."""
        self._frames_in = FrameSubscription(self, CAMERA, self._on_frame, road=self._road)
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


def between_processes(results: Results, seconds: float) -> None:
    """1080p at 30 Hz from process to process, by Image with either profile, and by ring."""
    stock = _transport(seconds, STOCK, "image")
    copies = {"image": "8 copies or so on the way", "ring": "1 copy on the way"}
    for road, floor in copies.items():
        ours = _transport(seconds, transport_environment(), road)
        note = f"{seconds:g} s; baseline: Image, stock Fast DDS profile"
        for key, unit, limit in (
            ("lost", "%", "0"),
            ("p50_ms", "ms", "<= 5" if road == "image" else "<= 1.5"),
            ("p99_ms", "ms", f"floor: {floor}"),
            ("cpu_s", "s", ""),
        ):
            results.add(f"1080p30 by {road}: {key}", ours[key], unit, stock[key], limit, note)
    note = f"{WIDTH * HEIGHT * 3 / 1e6:.1f} MB; baseline: again and again without a pause"
    results.add("copy of a frame, 33 ms apart", copy_ms(1 / RATE_HZ), "ms", copy_ms(0.0), "", note)


def copy_ms(pause_s: float) -> float:
    """Median time of a copy whose memory nobody touched for `pause_s`.

    On a shared machine other tenants' data takes the cache meanwhile: a frame's copy costs twice
    what the same copy costs in a loop.
    """
    frame, target = (np.full((HEIGHT, WIDTH, 3), value, np.uint8) for value in (0, 1))
    times = []
    for _ in range(50):
        time.sleep(pause_s)
        start = time.perf_counter()
        np.copyto(target, frame)
        times.append((time.perf_counter() - start) * 1e3)
    return float(np.median(times))


def _transport(seconds: float, environment: dict[str, str], road: str) -> dict[str, float]:
    frames = int(RATE_HZ * seconds)
    env = {key: value for key, value in {**os.environ, **environment}.items() if value}
    command = [sys.executable, __file__, "--frames", str(frames), "--road", road]
    subscriber = subprocess.Popen(
        [*command, "subscriber"], env=env, stdout=subprocess.PIPE, text=True
    )
    publisher = subprocess.Popen([*command, "publisher"], env=env)
    try:
        output, _ = subscriber.communicate(timeout=seconds + 60)
    finally:
        subscriber.kill()
        publisher.terminate()
        publisher.wait(10)
    figures: dict[str, float] = json.loads(output.strip().splitlines()[-1])
    figures["lost"] = 100.0 * (1 - figures["received"] / figures["sent"])
    return figures


def main() -> int:
    """Run the benchmark, or one end of it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("role", nargs="?", choices=("publisher", "subscriber"))
    parser.add_argument("--quick", action="store_true", help="short runs, for a first look")
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--road", default="image", help="image, ring, auto or compressed")
    args = parser.parse_args()
    if args.role == "publisher":
        return run_nodes([lambda: PublisherNode(RATE_HZ, args.frames)], args=[])
    if args.role == "subscriber":
        return run_nodes([lambda: SubscriberNode(args.frames, args.road, silence_s=5.0)], args=[])
    os.environ.setdefault("ROS_DOMAIN_ID", "97")
    results = Results("transport")
    between_processes(results, 8.0 if args.quick else 120.0)
    results.finish()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
