"""Faults on demand in a real process: put on PYTHONPATH, it answers SIGUSR1 with the named fault.

SHOPFLOOR_TEST_FAULT names a file with the kind of fault; beside it, FILE.at gets the moment (steady
clock, nanoseconds) at which it began. Each is carried out where it would happen:
in a callback of the process's first node, on a worker of it, or on a thread of its own.
"""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any


def loop_for_ever() -> None:
    """A callback that does not end and keeps its core busy."""
    while True:
        pass


def wait_for_ever() -> None:
    """A callback that does not end and does nothing."""
    threading.Event().wait()


def wait_while_the_file_is_there() -> None:
    """A callback that ends when the test takes the fault's file away."""
    while Path(os.environ["SHOPFLOOR_TEST_FAULT"]).exists():
        time.sleep(0.01)


def raise_in_callback() -> None:
    """A callback that fails."""
    raise ValueError("planted in a callback")


def eat_memory() -> None:
    """A callback that takes 600 MB, page by page."""
    kept.append(bytearray(b"x") * 600_000_000)


def raise_in_thread() -> None:
    """A thread that ends by an exception."""

    def run() -> None:
        raise RuntimeError("planted in a thread")

    threading.Thread(target=run, name="planted").start()


def start_stuck_worker() -> None:
    """A worker that gets a job and does not end it."""
    worker = first_node().worker("planted", lambda _: wait_for_ever(), lambda _: None, limit_s=0.5)
    worker.put(1)


def start_endless_inference() -> None:
    """A worker that goes from one inference to the next and does not end its job."""
    import numpy as np
    import onnxruntime

    from shopfloor.ros.paths import model_folder

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    path = model_folder("surface_nano/1") / "model.onnx"
    session = onnxruntime.InferenceSession(str(path), options)
    (frame,) = session.get_inputs()
    zeros = np.zeros([side if isinstance(side, int) else 1 for side in frame.shape], np.float32)

    def infer(_: object) -> None:
        while True:
            session.run(None, {frame.name: zeros})

    first_node().worker("planted", infer, lambda _: None).put(1)


FAULTS: dict[str, Callable[[], None]] = {
    "loop_for_ever": loop_for_ever,
    "wait_for_ever": wait_for_ever,
    "wait": wait_while_the_file_is_there,
    "exception": raise_in_callback,
    "memory": eat_memory,
    "thread": raise_in_thread,
    "worker": start_stuck_worker,
    "inference": start_endless_inference,
}
kept: list[Any] = []


def first_node() -> Any:
    """A node of this process."""
    from shopfloor.ros.node import ShopfloorNode

    return next(thing for thing in gc.get_objects() if isinstance(thing, ShopfloorNode))


def on_signal(number: int, frame: FrameType | None) -> None:
    """Plant the fault in a timer's callback, once."""
    file = Path(os.environ["SHOPFLOOR_TEST_FAULT"])
    node, fault = first_node(), FAULTS[file.read_text()]

    def once() -> None:
        timer.cancel()
        new = file.with_suffix(".new")
        new.write_text(str(time.monotonic_ns()))
        os.replace(new, file.with_suffix(".at"))
        fault()

    timer = node.steady_timer(0.01, once)


if "SHOPFLOOR_TEST_FAULT" in os.environ:
    signal.signal(signal.SIGUSR1, on_signal)
