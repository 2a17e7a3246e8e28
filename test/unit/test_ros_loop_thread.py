"""A thread of a node: ends when it is asked to, and can begin again."""

from __future__ import annotations

import threading

from shopfloor.ros.loop_thread import LoopThread

LIMIT_S = 20.0


def test_it_runs_until_it_is_asked_to_end_and_again_after() -> None:
    loop = LoopThread("test")
    rounds: list[str] = []
    begun = threading.Semaphore(0)

    def run() -> None:
        begun.release()
        loop.stopping.wait(LIMIT_S)
        rounds.append(threading.current_thread().name)

    loop.stop()
    for count in (1, 2):
        loop.start(run)
        assert begun.acquire(timeout=LIMIT_S)
        assert len(rounds) == count - 1, "it goes on until it is asked to end"
        loop.stop()
        assert rounds == ["test"] * count, "stop waits for the end"
        loop.stop()
