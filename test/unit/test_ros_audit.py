"""The audit log: whatever is done to it shows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shopfloor.ros.audit import AuditError, AuditLog, Tail, main, verify


@pytest.fixture
def log(tmp_path: Path) -> Path:
    audit = AuditLog(tmp_path / "node" / "audit.jsonl")
    for number in range(5):
        audit.append(number, {"service": "override", "person": "Zoë", "text": f"line {number}"})
    audit.close()
    return audit.path


def test_a_log_verifies_and_goes_on_after_a_restart(log: Path) -> None:
    tail = verify(log)
    assert tail.count == 5
    again = AuditLog(log)
    assert again.tail == tail and again.torn is None
    assert again.append(9, {}, flush=True) == verify(log)
    assert verify(log).count == 6


def changed(lines: list[bytes]) -> list[bytes]:
    return [*lines[:2], lines[2].replace(b"line 2", b"line 9"), *lines[3:]]


def rewritten(lines: list[bytes]) -> list[bytes]:
    entry = json.loads(lines[2])
    entry["text"] = "line 9"
    from shopfloor.ros.audit import _canonical, _hash  # as somebody who knows the format

    entry.pop("sha256")
    return [*lines[:2], _canonical({**entry, "sha256": _hash(entry)}).encode() + b"\n", *lines[3:]]


@pytest.mark.parametrize(
    ("tamper", "where"),
    [
        (changed, ":3: was changed"),
        (rewritten, ":4: does not follow"),
        (lambda lines: lines[:1] + lines[2:], ":2: entry 3, expected 2"),
        (lambda lines: [*lines[:2], lines[1], *lines[2:]], ":3: entry 2, expected 3"),
        (lambda lines: [lines[0], lines[2], lines[1], *lines[3:]], ":2: entry 3"),
        (lambda lines: [*lines, b"[]\n"], ":6: not an entry"),
        (lambda lines: [*lines, b"{\xff}\n"], ":6: not an entry"),
        (lambda lines: [*lines[:-1], lines[-1][:-1]], ":5: the last line is not whole"),
    ],
)
def test_tampering_is_caught_and_placed(log: Path, tamper: object, where: str) -> None:
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(tamper(lines)))  # type: ignore[operator]
    with pytest.raises(AuditError, match=where):
        verify(log)


@pytest.mark.parametrize("left", [0, 1, 4])
def test_a_cut_end_shows_against_a_kept_tail_alone(log: Path, left: int) -> None:
    kept = verify(log)
    log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:left]))
    assert verify(log).count == left  # the file itself is whole
    with pytest.raises(AuditError, match=f"cut off: {left} entries, 5 were kept"):
        verify(log, kept)


def test_a_chain_made_anew_shows_against_a_kept_tail_of_a_log_that_grew(log: Path) -> None:
    kept = verify(log)
    entries = [json.loads(line) for line in log.read_text("utf-8").splitlines()]
    log.unlink()
    forged = AuditLog(log)
    for entry in entries:
        forged.append(entry["stamp_ns"], {"text": entry["text"].replace("line 2", "line 9")})
    forged.append(9, {})
    forged.close()
    assert verify(log).count == 6
    with pytest.raises(AuditError, match=":5: written anew"):
        verify(log, kept)


def test_a_kept_tail_holds_while_the_log_grows(log: Path) -> None:
    kept = Tail.parse(str(verify(log)))
    again = AuditLog(log)
    again.append(9, {})
    again.close()
    assert verify(log, kept).count == 6


def test_a_torn_line_is_moved_aside_and_a_broken_chain_is_not_continued(log: Path) -> None:
    log.write_bytes(log.read_bytes()[:-9])
    audit = AuditLog(log)
    assert audit.torn is not None and audit.torn.read_bytes().startswith(b'{"n":5')
    assert audit.tail.count == 4 and verify(log) == audit.tail
    with pytest.raises(OSError, match="another process"):
        AuditLog(log)
    audit.close()
    log.write_bytes(b"".join(changed(log.read_bytes().splitlines(keepends=True))))
    with pytest.raises(AuditError, match=":3: was changed"):
        AuditLog(log)


def test_an_empty_log_and_reserved_keys(tmp_path: Path) -> None:
    audit = AuditLog(tmp_path / "a")
    assert audit.tail == Tail() == verify(tmp_path / "a")
    with pytest.raises(ValueError, match="reserved in an audit entry: n, prev"):
        audit.append(1, {"n": 1, "prev": "x"})


def test_the_command_tells_and_its_exit_code_too(
    log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(log)]) == 0
    tail = verify(log)
    assert f"5 entries, unbroken; keep elsewhere: {tail}" in capsys.readouterr().out
    assert main(["--kept", str(tail), str(log)]) == 0
    assert main(["--kept", f"6:{tail.sha256}", str(log)]) == 1
    assert "cut off: 5 entries, 6 were kept" in capsys.readouterr().err
    log.write_bytes(log.read_bytes().replace(b"line 1", b"line 7"))
    assert main([str(log), str(log.parent / "none")]) == 1
    told = capsys.readouterr().err
    assert ":2: was changed" in told and "none" in told
    for wrong in ([], ["--kept", "five", str(log)], ["--kept", str(tail), str(log), str(log)]):
        with pytest.raises(SystemExit) as ended:
            main(wrong)
        assert ended.value.code == 2
