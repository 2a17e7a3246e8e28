"""The command ledger: once, whatever comes again, late, mixed up, or after a crash."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shopfloor.ros.commands import (
    AllowList,
    Answer,
    Ledger,
    Order,
    Outcome,
    Reason,
    accepted,
    rejected,
)

SECOND = 1_000_000_000


def order(command_id: str = "1", caller: str = "plc1", **more: object) -> Order:
    return Order(service="override", caller=caller, command_id=command_id, **more)  # type: ignore[arg-type]


def carry_out(ledger: Ledger, new: Order, acts: list[str], now_ns: int = 10 * SECOND) -> Answer:
    answer = ledger.begin(new, now_ns)
    if answer is None:
        acts.append(f"{new.caller}/{new.command_id}")
        answer = ledger.finish(new, accepted(now_ns, 7, "done"), b"whole answer")
    return answer


def test_a_repeat_gets_the_first_result_and_does_not_act() -> None:
    ledger, acts = Ledger(), []
    first = carry_out(ledger, order(), acts)
    assert (first.outcome, first.reason) == (Outcome.ACCEPTED, Reason.NONE)
    again = carry_out(ledger, order(), acts, now_ns=99 * SECOND)
    assert again.outcome is Outcome.DUPLICATE and again.first_outcome is Outcome.ACCEPTED
    assert (again.text, again.state, again.acted_ns) == ("done", 7, 10 * SECOND)
    assert again.response == b"whole answer"
    assert acts == ["plc1/1"]


def test_the_same_id_of_another_caller_is_another_command() -> None:
    ledger, acts = Ledger(), []
    carry_out(ledger, order(), acts)
    assert carry_out(ledger, order(caller="plc2"), acts).outcome is Outcome.ACCEPTED
    assert len(acts) == 2


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (order(caller=""), Reason.ID_MISSING),
        (order(command_id=""), Reason.ID_MISSING),
        (order(command_id="0", content=b"other"), Reason.ID_REUSED),
        (order(deadline_ns=9 * SECOND), Reason.DEADLINE_PASSED),
        (order(issued_ns=13 * SECOND), Reason.CLOCK),
        (order(expected_state=3), Reason.STATE_MISMATCH),
        (order(caller="guest"), Reason.NOT_ALLOWED),
    ],
)
def test_what_does_not_act(wrong: Order, reason: Reason) -> None:
    ledger, acts = Ledger(allow=AllowList(["plc?:override", "hmi:*"])), []
    carry_out(ledger, order("0"), acts)
    answer = ledger.begin(wrong, 10 * SECOND, state=5)
    assert answer is not None and answer.reason is reason and answer.text
    assert answer.outcome is (
        Outcome.EXPIRED if reason is Reason.DEADLINE_PASSED else Outcome.REJECTED
    )


def test_a_refusal_is_remembered_unless_it_may_work_later() -> None:
    ledger, acts = Ledger(), []
    assert ledger.begin(order("a", expected_state=3), 0, state=2)
    again = ledger.begin(order("a", expected_state=3), 0, state=3)
    assert again is not None and again.first_outcome is Outcome.REJECTED
    assert ledger.begin(order("b"), 0) is None
    ledger.finish(order("b"), rejected(Reason.NOT_READY, "not active"))
    assert carry_out(ledger, order("b"), acts).outcome is Outcome.ACCEPTED


def test_a_command_under_way_is_busy() -> None:
    ledger = Ledger()
    assert ledger.begin(order(), 0) is None
    answer = ledger.begin(order(), 0)
    assert answer is not None and answer.reason is Reason.BUSY


def test_a_crash_leaves_doubt_and_no_second_act(tmp_path: Path) -> None:
    path = tmp_path / "state" / "commands.sqlite"
    script = (
        "import os, sys; from pathlib import Path\n"
        "from shopfloor.ros.commands import Ledger, Order, accepted\n"
        "ledger = Ledger(Path(sys.argv[1]))\n"
        "one, two = (Order('override', 'plc1', i) for i in '12')\n"
        "assert ledger.begin(one, 5) is None; ledger.finish(one, accepted(5), b'r')\n"
        "assert ledger.begin(two, 6) is None; os.kill(os.getpid(), 9)\n"
    )
    source = Path(__file__).resolve().parents[2] / "src"
    environment = {**os.environ, "PYTHONPATH": str(source)}
    done = subprocess.run([sys.executable, "-c", script, str(path)], env=environment, check=False)
    assert done.returncode == -9
    ledger = Ledger(path)
    assert ledger.in_doubt == {("plc1", "2")}
    one = ledger.begin(order("1"), 7)
    assert one is not None and one.outcome is Outcome.DUPLICATE and one.response == b"r"
    two = ledger.begin(order("2"), 7)
    assert two is not None and two.reason is Reason.IN_DOUBT
    with pytest.raises(OSError, match="does this node run twice"):
        Ledger(path)
    ledger.close()
    later = Ledger(path)
    assert not later.in_doubt  # told once
    two = later.begin(order("2"), 8)
    assert two is not None and two.reason is Reason.IN_DOUBT


def test_tidying_up_keeps_the_log_short_and_forgets_nothing(tmp_path: Path) -> None:
    path, log = tmp_path / "ledger.sqlite", tmp_path / "ledger.sqlite-wal"
    ledger, acts = Ledger(path), []
    sizes = []
    for number in range(700):
        carry_out(ledger, order(str(number)), acts)
        ledger.tidy()
        sizes.append(log.stat().st_size)
    assert sizes[300] == sizes[-1], "what was moved makes room"
    ledger.close()
    again = Ledger(path)
    for number in range(700):
        assert carry_out(again, order(str(number)), acts).outcome is Outcome.DUPLICATE
    assert len(acts) == 700 and not again.in_doubt


def test_a_damaged_file_is_said(tmp_path: Path) -> None:
    path = tmp_path / "commands.sqlite"
    path.write_bytes(b"no database, " * 400)
    with pytest.raises(OSError, match="is damaged"):
        Ledger(path)


def test_what_is_forgotten_does_not_act_again() -> None:
    ledger, acts = Ledger(per_caller=5), []
    for n in range(1, 9):
        carry_out(ledger, order(str(n)), acts)
        carry_out(ledger, order(f"x{n}", caller="mes", issued_ns=n * SECOND), acts)
    assert len(acts) == 16
    for late in (order("3"), order("x3", caller="mes", issued_ns=3 * SECOND)):
        answer = carry_out(ledger, late, acts)
        assert answer.outcome is Outcome.EXPIRED and "may have acted" in answer.text
    assert len(acts) == 16


def test_a_counter_may_wrap() -> None:
    ledger, acts = Ledger(per_caller=3), []
    for n in range(2**32 - 6, 2**32 + 6):
        carry_out(ledger, order(str(n % 2**32)), acts)
    assert len(acts) == 12


@pytest.mark.parametrize("pattern", ["plc1", ":x", "a:", "a:b:c"])
def test_a_wrong_pattern_is_named(pattern: str) -> None:
    with pytest.raises(ValueError, match="is not CALLER:SERVICE"):
        AllowList([pattern])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 40))
def test_any_order_of_repeats_acts_once(seed: int, remembered: int) -> None:
    draw = random.Random(seed)
    ledger, acts = Ledger(per_caller=remembered), []
    calls = [order(str(n), caller=f"plc{n % 3}") for n in range(40)]
    for number in range(200):
        near = calls[max(0, number // 5 - 6) : number // 5 + 1]
        carry_out(ledger, draw.choice(near), acts)
    assert len(acts) == len(set(acts))
