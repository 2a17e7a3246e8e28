"""The journal: killed at every step, nothing is lost and nothing is started twice."""

from __future__ import annotations

from pathlib import Path

import pytest
from scheduling_crash import JOBS, EventKind, Killer, killed_at, run_shop, started

from shopfloor.scheduling.journal import Event, Journal, JournalError
from shopfloor.scheduling.problem import JobState


@pytest.mark.parametrize("tells", [True, False], ids=["machine tells", "machine forgets"])
def test_kill_at_every_step(tmp_path: Path, tells: bool) -> None:
    at = 1
    while True:
        folder = tmp_path / str(at)
        folder.mkdir()
        if not killed_at(folder, at, tells):
            break
        seen = run_shop(folder, Killer(0), tells)
        states = seen["states"]
        assert len(states) == JOBS
        assert max(started(folder).values(), default=0) <= 1, f"twice, killed at step {at}"
        assert seen["sequences"] == list(range(1, len(seen["sequences"]) + 1))
        held = [job for job, state in states.items() if state is JobState.HELD]
        if tells:
            assert not held
        # what is not done is what a person was told about
        assert len(held) == seen["doubt"] == seen["kinds"][EventKind.IN_DOUBT]
        if held:  # its machine may still work, so nothing else is started there
            states = run_shop(folder, Killer(0), tells, resume=True)["states"]
        assert set(states.values()) == {JobState.DONE}
        at += 1
    assert at > 25


def test_a_transaction_that_fails_leaves_nothing(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.sqlite")
    with pytest.raises(RuntimeError), journal.transaction() as t:
        t.put("job", "x", "{}")
        t.event(Event(EventKind.JOB_ADDED, 1, "x"))
        raise RuntimeError
    assert journal.items("job") == {}
    assert journal.events() == []


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.sqlite")
    with pytest.raises(JournalError, match="another scheduler"):
        Journal(tmp_path / "j.sqlite")
    journal.close()
    Journal(tmp_path / "j.sqlite").close()


def test_a_file_that_is_no_journal_is_named(tmp_path: Path) -> None:
    path = tmp_path / "j.sqlite"
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(JournalError, match=r"j\.sqlite"):
        Journal(path)
