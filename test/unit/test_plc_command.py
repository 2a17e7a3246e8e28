"""`python -m shopfloor.plc`: what is wrong is said in one line, and no file is spoilt by it."""

from __future__ import annotations

from pathlib import Path

import pytest

from shopfloor.plc.__main__ import main
from shopfloor.plc.opcua import Users


def knows(users: Path, name: str, password: str) -> bool:
    found = Users(users, lambda what, why: None)
    return found.get_user(None, username=name, password=password) is not None


def certificates(folder: Path, user: str, password: str) -> int:
    return main(["certificates", str(folder), "--user", user, "--password", password])


def test_users_are_added_and_keys_are_kept(tmp_path: Path) -> None:
    keys = tmp_path / "deep" / "keys"
    assert certificates(keys, "plc1", "one") == 0
    key = (keys / "server.pem").read_bytes()
    assert certificates(keys, "hmi", "two") == certificates(keys, "plc1", "three") == 0
    assert (keys / "server.pem").read_bytes() == key
    users = keys / "users.yaml"
    assert knows(users, "hmi", "two") and knows(users, "plc1", "three")
    assert not knows(users, "plc1", "one") and not knows(users, "nobody", "")
    assert {path.stat().st_mode & 0o077 for path in keys.iterdir()} == {0}


@pytest.mark.parametrize("content", ["[1,2", "- plc1", "plc1: secret", "\xff"])
def test_a_damaged_users_file_is_named_and_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str
) -> None:
    users = tmp_path / "users.yaml"
    users.write_bytes(content.encode("latin-1"))
    assert certificates(tmp_path, "plc1", "one") == 1
    told = capsys.readouterr().err
    assert f"{users}: allowed: NAME: {{salt: HEX, sha256: HEX}}" in told
    assert users.read_bytes() == content.encode("latin-1")
    assert not (tmp_path / "server.pem").exists()


def test_what_cannot_be_done_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    assert certificates(file / "keys", "plc1", "one") == 1
    assert str(file / "keys") in capsys.readouterr().err
    assert certificates(tmp_path, "plc1", "") == 1
    assert "the password of plc1 is empty" in capsys.readouterr().err
    assert main(["certificates", str(tmp_path), "--user", "plc1"]) == 1  # no terminal to ask on
    assert "--password" in capsys.readouterr().err
    assert main(["check", str(tmp_path / "none.yaml")]) == 1
    assert "there is no such file" in capsys.readouterr().err
    assert main(["schema", "verdict"]) == 1
    assert "no topic 'verdict'; there are: " in capsys.readouterr().err
