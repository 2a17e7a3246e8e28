"""Commands repeated, reordered, delayed, replayed, with kill -9 of bridge and line in between."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Iterator

from asyncua import Client, ua
from plc_line import MODES, Caller, Line
from rich.progress import track
from shopfloor_msgs.msg import CommandResult
from table import Results

from shopfloor.ros.audit import AuditError, verify

_NAMES = {1: "ACCEPTED", 2: "DUPLICATE", 3: "REJECTED", 4: "EXPIRED"}
_AT_ONCE = 8
_CALL_S = 5.0


class Tally:
    """What was asked and answered, by caller."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.accepted: set[tuple[str, str]] = set()
        self.open: set[tuple[str, str]] = set()
        """Asked and never answered yet."""
        self._answered: set[tuple[str, str]] = set()

    def note(self, caller: str, command_id: str, outcome: int) -> None:
        """One call's answer, 0 where there was none."""
        key = (caller, command_id)
        self.outcomes[_NAMES.get(outcome, "no answer")] += 1
        if outcome in _NAMES:
            self._answered.add(key)
            self.open.discard(key)
        elif key not in self._answered:
            self.open.add(key)
        if outcome == CommandResult.OUTCOME_ACCEPTED:
            self.accepted.add(key)


def numbers(rng: random.Random, count: int) -> Iterator[int]:
    """Counters: a fifth of them new, most others of the last 40, some from anywhere before."""
    fresh = 0
    for _ in range(count):
        if not fresh or rng.random() < 0.2:
            fresh += 1
        oldest = max(1, fresh - 40) if rng.random() < 0.95 else 1
        yield rng.randint(oldest, fresh)


def directly(caller: Caller, tally: Tally, asked: list[int], start_ns: int) -> None:
    """Calls of the service itself, with the time of issue."""
    for number in asked:
        command_id = f"{start_ns}-{number}"
        answer = caller.call(command_id, MODES[number % 2], start_ns + number)
        tally.note("bench", command_id, 0 if answer is None else answer.outcome)


async def over_opcua(port: int, tally: Tally, asked: list[int], base: int) -> None:
    """Calls through the bridge, several at once; connects again when the bridge was killed."""
    waiting = list(reversed(asked))
    while waiting:
        cancelled = False
        with contextlib.suppress(Exception):  # the bridge is being started again
            async with Client(f"opc.tcp://127.0.0.1:{port}/shopfloor", timeout=_CALL_S) as client:
                try:
                    await _ask_all(client, tally, waiting, base)
                except asyncio.CancelledError:
                    cancelled = True
                    client.disconnect_socket()  # else it says good-bye first, to a dead bridge too
                    raise
        if cancelled:  # by Ctrl-C: what disconnecting raises may take its place
            raise asyncio.CancelledError
        await asyncio.sleep(0.05)


async def _ask_all(client: Client, tally: Tally, waiting: list[int], base: int) -> None:
    """Until none waits or none is answered."""
    index = await client.get_namespace_index("urn:shopfloor:plc")
    parent = await client.nodes.objects.get_child([f"{index}:shopfloor", f"{index}:plc1"])
    method = ua.NodeId("plc1.line", index)
    while waiting:
        batch = [waiting.pop() for _ in range(min(_AT_ONCE, len(waiting)))]
        calls = [_call(parent, method, base + number, number) for number in batch]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        for number, answer in zip(batch, answers, strict=True):
            outcome = 0 if isinstance(answer, BaseException) else int(answer)
            tally.note("plc1", str(base + number), outcome)
        if all(isinstance(answer, BaseException) for answer in answers):
            return


async def _call(parent: object, method: ua.NodeId, command_id: int, number: int) -> int:
    arguments = [
        ua.Variant(str(command_id), ua.VariantType.String),
        ua.Variant("", ua.VariantType.String),
        ua.Variant("bench", ua.VariantType.String),
        ua.Variant(0, ua.VariantType.Byte),
        ua.Variant(0, ua.VariantType.UInt16),
        ua.Variant(MODES[number % 2], ua.VariantType.UInt16),
    ]
    return int((await parent.call_method(method, *arguments))[0])  # type: ignore[attr-defined]


def acts_of(line: Line) -> tuple[dict[tuple[str, str], Counter[str]], float]:
    """Outcomes in the audit log by caller and id, and whether the chain is whole."""
    acts: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    chain = 1.0
    for path in (line.folder / "state").rglob("audit.jsonl"):
        if "line_state" not in str(path):
            continue
        try:
            verify(path)
        except AuditError as error:
            chain = 0.0
            print(error)
        for text in path.read_text("utf-8").splitlines():
            entry = json.loads(text)
            acts[entry["caller"], entry["command_id"]][entry["outcome"]] += 1
    return acts, chain


def repeats(results: Results, line: Line, caller: Caller, count: int, kills: int) -> None:
    """Half of the calls over OPC UA, half of the service; a kill between any two rounds."""
    rng, tally = random.Random(7), Tally()
    start_ns, base = time.time_ns(), int(time.time()) % 100_000 * 10_000
    streams = [list(numbers(rng, count // 2)) for _ in range(2)]
    rounds, killed = kills + 1, Counter[str]()
    size = -(-(count // 2) // rounds)
    for round_ in track(range(rounds), description="repeated commands"):
        if round_:
            victim = ("line_state", "plc_bridge")[round_ % 2]
            # In the middle of calls that are on their way.
            delay_s = rng.uniform(0.0, 0.3)
            with contextlib.suppress(ProcessLookupError):
                _kill_later(line.pid(victim), delay_s)
                killed[victim] += 1
        part = slice(round_ * size, (round_ + 1) * size)
        asyncio.run(over_opcua(line.opcua_port, tally, streams[0][part], base))
        directly(caller, tally, streams[1][part], start_ns)
    unanswered = len(tally.open)
    for _ in range(20):  # none may stay without an end
        late = list(tally.open)
        own = [int(i.rsplit("-", 1)[1]) for c, i in late if c == "bench"]
        directly(caller, tally, own, start_ns)
        plc = [int(i) - base for c, i in late if c == "plc1"]
        asyncio.run(over_opcua(line.opcua_port, tally, plc, base))
        if not tally.open:
            break
    acts, chain = acts_of(line)
    repeated = sum(max(0, seen["ACCEPTED"] - 1) for seen in acts.values())
    silent = sum(not acts[key]["ACCEPTED"] for key in tally.accepted)
    note = ", ".join(f"{v} {k}" for k, v in tally.outcomes.most_common())
    results.add("calls of repeated, reordered, replayed commands", count, "calls", None, "", note)
    who = ", ".join(f"{v} of {k}" for k, v in killed.items())
    results.add("kill -9 in between", sum(killed.values()), "kills", None, "", who)
    results.add("acts repeated", repeated, "acts", None, "0", f"{len(acts)} commands")
    results.add("acts answered and not in the audit log", silent, "acts", None, "0")
    results.add("commands without an end, asked again after the last kill", len(tally.open),
                "commands", None, "0", f"{unanswered} before")  # fmt: skip
    results.add("audit chain unbroken", chain, "", None, "1")


def _kill_later(pid: int, delay_s: float) -> None:
    import threading

    def kill() -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    threading.Timer(delay_s, kill).start()
