"""Cameras pulled again and again: how long until frames are back, from the same device, none stale.

./run bench cameras            50 pulls of each device, about 5 minutes
./run bench cameras --quick    8 pulls of each, a minute

The emulator of the GenICam SDK is pulled inside the process of the node; the simulated camera and
the RTSP server are processes of their own that are killed with SIGKILL. The baseline is the bare
SDK, socket or OpenCV: opened once the device is there, up to its first frame.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.time import Time
from rich.progress import track
from table import Results

from shopfloor.camera.capture import CaptureState
from shopfloor.camera.node import CameraNode
from shopfloor.ros.endpoint_node import message_type
from shopfloor.ros.frame_socket import FrameHeader, FrameReader
from shopfloor.ros.interfaces import interface
from shopfloor.ros.qos import subscription_qos
from shopfloor.sim.camera_device import CameraDevice

HERE = Path(__file__).resolve().parent
RTSP_SERVER = HERE.parent / "unit" / "rtsp_server.py"
EMULATED = "PYLON_CAMEMU"
RATE_HZ = 30.0
LIMIT_S = 2.0
GIVE_UP_S = 20.0
SETTLED = 5
"""Pulls before memory and files are counted: allocators and caches have what they need by then."""


@dataclass
class Watch:
    """What is seen of a camera node from outside: its frame_info and state."""

    infos: list[tuple[int, Any]] = field(default_factory=list)
    state: Any = None

    def on_info(self, info: Any) -> None:
        """Keep it with the steady time of its arrival."""
        self.infos.append((time.monotonic_ns(), info))

    def on_state(self, state: Any) -> None:
        """Keep the latest."""
        self.state = state


class Watcher:
    """A node that listens to one camera on a thread of its own."""

    def __init__(self, camera: str) -> None:
        self.watch = Watch()
        self._node = Node(f"watch_{camera}")
        for key, callback in (
            ("frame_info", self.watch.on_info),
            ("camera_state", self.watch.on_state),
        ):
            row = interface(key)
            self._node.create_subscription(
                message_type(row.type),
                row.resolve(camera=camera),
                callback,
                subscription_qos(row.qos),
            )
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(self._node)
        self._stopping = False
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def _spin(self) -> None:
        while not self._stopping:
            self.executor.spin_once(timeout_sec=0.05)

    def close(self) -> None:
        """End the thread and the node."""
        self._stopping = True
        self._thread.join()
        self._node.destroy_node()


@dataclass
class Pulls:
    """The outcome of all pulls of one device."""

    back_ms: list[float] = field(default_factory=list)
    stale: int = 0
    failed: int = 0
    ids: set[str] = field(default_factory=set)
    files: list[int] = field(default_factory=list)
    memory_mb: list[float] = field(default_factory=list)


def pull(
    name: str,
    count: int,
    watch: Watch,
    process: psutil.Process,
    unplug: Callable[[], None],
    plug_in: Callable[[], None],
) -> Pulls:
    """Pull `count` times, for 0.2 to 2 s each."""
    rng, found = random.Random(1), Pulls()
    wait_for(lambda: len(watch.infos) > 3, f"{name}: frames at the start")
    for _ in track(range(count), description=f"{name}: pulled"):
        unplug()
        time.sleep(rng.uniform(0.2, 2.0))
        watch.infos.clear()
        plug_in()
        back_ns, ros_ns = time.monotonic_ns(), time.time_ns()
        try:
            wait_for(lambda: len(watch.infos) > 3, f"{name}: frames after a pull")
        except TimeoutError:
            found.failed += 1
            continue
        found.back_ms.append((watch.infos[0][0] - back_ns) / 1e6)
        for _, info in watch.infos:
            error_ms = info.stamp_error_ms if info.stamp_error_ms > 0 else 0.0
            exposed_ns = Time.from_msg(info.header.stamp).nanoseconds
            # A device may expose while it is plugged in, before it says that it is there.
            found.stale += exposed_ns + error_ms * 1e6 + 50e6 < ros_ns
            found.ids.add(info.source)
        found.files.append(process.num_fds())
        found.memory_mb.append(process.memory_info().rss / 1e6)
    return found


def wait_for(predicate: Callable[[], bool], what: str) -> None:
    """Poll until it is true; raises TimeoutError."""
    end = time.monotonic() + GIVE_UP_S
    while not predicate():
        if time.monotonic() > end:
            raise TimeoutError(what)
        time.sleep(0.005)


def report(
    results: Results,
    name: str,
    count: int,
    found: Pulls,
    bare_ms: float,
    bare_mb: float | None = None,
) -> None:
    """The rows of one device; bare_mb: what one opening costs in the bare SDK."""
    back = np.array(found.back_ms or [float("nan")])
    limit = f"<= {LIMIT_S * 1e3:.0f}"
    note = "baseline: bare open to first frame, device there"
    results.add(f"{name} back, median", float(np.median(back)), "ms", bare_ms, limit, note)
    results.add(f"{name} back, longest", float(back.max()), "ms", bare_ms, limit)
    in_time = int((back <= LIMIT_S * 1e3).sum())
    results.add(f"{name} back in time", in_time, "pulls", count, f"{count} of {count}")
    results.add(f"{name} ids seen", len(found.ids), "", limit="1", note=", ".join(found.ids))
    results.add(f"{name} stale frames", found.stale, "frames", limit="0")
    if len(found.files) > SETTLED:
        files = found.files[-1] - found.files[SETTLED - 1]
        memory = found.memory_mb[-1] - found.memory_mb[SETTLED - 1]
        over = f"over {len(found.files) - SETTLED} pulls"
        results.add(f"{name} files left open", files, "", limit="0", note=over)
        pulls = len(found.files) - SETTLED
        baseline = None if bare_mb is None else bare_mb * pulls
        note = over if bare_mb is None else f"{over}; baseline: as many openings of the bare SDK"
        results.add(f"{name} memory grown", memory, "MB", baseline, "no trend", note)


def bare_ms(runs: int, first_frame: Callable[[], None]) -> float:
    """Median time of `first_frame`, ms."""
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        first_frame()
        times.append((time.perf_counter() - start) * 1e3)
    return float(np.median(times))


# GenICam: the node in this process, as only this process can pull its emulated camera


def emulator(results: Results, count: int) -> None:
    """The SDK's emulator."""
    os.environ[EMULATED] = "1"

    def bare() -> None:
        from pypylon import pylon

        info = pylon.DeviceInfo()
        info.SetDeviceClass("BaslerCamEmu")
        camera = pylon.InstantCamera(pylon.TlFactory.GetInstance().CreateDevice(info))
        camera.Open()
        camera.AcquisitionFrameRateEnable.Value = True
        camera.AcquisitionFrameRateAbs.Value = RATE_HZ
        camera.StartGrabbing(pylon.GrabStrategy_LatestImageOnly)
        camera.RetrieveResult(2000, pylon.TimeoutHandling_ThrowException).Release()
        camera.StopGrabbing()
        camera.Close()

    baseline = bare_ms(10, bare)
    before_mb = psutil.Process().memory_info().rss / 1e6
    bare_ms(40, bare)
    bare_mb = (psutil.Process().memory_info().rss / 1e6 - before_mb) / 40
    watcher = Watcher("emulated")
    overrides = {"source": "genicam", "rate_hz": RATE_HZ}
    node = CameraNode(
        "emulated",
        parameter_overrides=[Parameter(key, value=value) for key, value in overrides.items()],
    )
    watcher.executor.add_node(node)

    def is_lost() -> bool:
        return node._loop is not None and node._loop.health().state is CaptureState.LOST

    def unplug() -> None:
        # The count goes last: a device that is given back while it is 0 costs the SDK 14 files.
        while not (is_lost() and os.environ[EMULATED] == "0"):
            os.environ[EMULATED] = "1"
            camera = node._source._camera  # type: ignore[attr-defined]
            if camera is not None and not is_lost():
                camera.FirePnPCallback.Execute()
            wait_for(is_lost, "emulator: the loss")
            os.environ[EMULATED] = "0"

    def plug_in() -> None:
        os.environ[EMULATED] = "1"

    found = pull("emulator", count, watcher.watch, psutil.Process(), unplug, plug_in)
    report(results, "emulator", count, found, baseline, bare_mb)
    watcher.close()
    node.close()
    node.destroy_node()


# Devices that are processes


class Device:
    """A process that is a device: it prints a line once it is there, and is killed to pull it."""

    def __init__(self, *command: str) -> None:
        self._command = [sys.executable, *command]
        self._process: subprocess.Popen[str] | None = None

    def plug_in(self) -> str:
        """Start it; returns its line."""
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def unplug(self) -> None:
        """SIGKILL."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


def killed(
    results: Results,
    name: str,
    count: int,
    device: Device,
    source: str,
    bare: Callable[[str], None],
) -> None:
    """A node in a process of its own on a device that is killed."""
    address = device.plug_in()
    baseline = bare_ms(5, lambda: bare(address))
    watcher = Watcher(name)
    command = [sys.executable, "-m", "shopfloor.plant.group", "--node", f"camera:{name}"]
    parameters = ["-p", f"source:={source}", "-p", f"address:={address}"]
    child = subprocess.Popen([*command, "--ros-args", *parameters], stderr=subprocess.DEVNULL)
    try:
        process = psutil.Process(child.pid)
        found = pull(name, count, watcher.watch, process, device.unplug, device.plug_in)
        report(results, name, count, found, baseline)
    finally:
        child.send_signal(signal.SIGTERM)
        child.wait(10)
        watcher.close()
        device.unplug()


def bare_socket(address: str) -> None:
    """The first frame of a simulated camera."""
    reader = FrameReader(address)
    reader.connect(timeout_s=1.0)
    while reader.read(1.0) is None:
        pass
    reader.close()


def bare_rtsp(address: str) -> None:
    """The first frame of a stream, whatever its age."""
    capture = cv2.VideoCapture(address, cv2.CAP_FFMPEG)
    capture.read()
    capture.release()


def run_device(address: str) -> None:
    """Be a simulated camera: noise at 30 Hz."""
    device = CameraDevice(address)
    device.open()
    print(address, flush=True)
    pictures = np.random.default_rng(1).integers(0, 255, (8, 480, 640, 3), np.uint8)
    began_ns = time.monotonic_ns()
    sequence = 0
    while True:
        sequence += 1
        pixels = pictures[sequence % 8].reshape(-1)
        now_ns = time.monotonic_ns()
        header = FrameHeader(
            width=640,
            height=480,
            encoding="bgr8",
            sequence=sequence,
            trigger=sequence,
            device_stamp_ns=now_ns - began_ns,
            host_stamp_ns=time.time_ns(),
            steady_ns=now_ns,
            part_id="",
            payload_bytes=pixels.nbytes,
        )
        device.send(header, pixels)
        time.sleep(max(0.0, (began_ns + sequence / RATE_HZ * 1e9 - time.monotonic_ns()) / 1e9))


PARTS = ("simulated", "rtsp", "emulator")


def main() -> None:
    """Pull each device."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="8 pulls of each device")
    parser.add_argument("--only", choices=PARTS, help="this device alone")
    parser.add_argument("--device", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.device:
        run_device(args.device)
    os.environ.setdefault("ROS_DOMAIN_ID", "97")
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    count = 8 if args.quick else 50
    results = Results("cameras")
    rclpy.init()
    parts = (args.only,) if args.only else PARTS
    if "simulated" in parts:
        with tempfile.TemporaryDirectory() as folder:
            address = str(Path(folder) / "camera.sock")
            simulated = Device(str(Path(__file__)), "--device", address)
            killed(results, "simulated", count, simulated, "simulated", bare_socket)
    if "rtsp" in parts:
        port = 20_000 + os.getpid() % 20_000
        server = Device(str(RTSP_SERVER), "--port", str(port), "--rate", str(RATE_HZ))
        killed(results, "rtsp", count, server, "rtsp", bare_rtsp)
    if "emulator" in parts:
        emulator(results, count)
    rclpy.shutdown()
    results.finish()


if __name__ == "__main__":
    main()
