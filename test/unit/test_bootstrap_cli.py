"""The verbs of `./run`, and the script that finds a Python for them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from shopfloor.bootstrap import cli
from shopfloor.bootstrap.checks import names_tests, suites
from shopfloor.bootstrap.layout import Layout

ROOT = Path(__file__).resolve().parents[2]


def test_suites_without_tests_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "test" / "unit").mkdir(parents=True)
    (tmp_path / "test" / "graph").mkdir()
    (tmp_path / "test" / "unit" / "test_a.py").touch()
    assert suites(tmp_path) == ["test/unit"]


def test_paths_among_pytest_arguments_are_seen(tmp_path: Path) -> None:
    (tmp_path / "a.py").touch()
    assert names_tests(tmp_path, ["-x", "a.py::test_b"])
    assert not names_tests(tmp_path, ["-k", "ledger", "-x"])


def test_benchmarks_are_the_files_with_a_main(tmp_path: Path) -> None:
    folder = tmp_path / "test" / "bench"
    folder.mkdir(parents=True)
    (folder / "vision.py").write_text('if __name__ == "__main__":\n    main()\n')
    (folder / "table.py").write_text("x = 1\n")
    assert list(cli.benchmarks(Layout(tmp_path))) == ["vision"]


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["--help"], 0, "examples:"),
        ([], 2, "verbs:"),
        (["dem"], 2, "no verb 'dem'; there are: demo, test,"),
        (["exec"], 2, "exec needs a command"),
        (["clean", "all"], 2, "clean takes no arguments, got: all"),
        (["bench", "nothing"], 2, "no benchmark 'nothing'; there are: "),
    ],
)
def test_wrong_words_get_one_clear_line(
    words: list[str], code: int, text: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(words) == code
    output = capfd.readouterr()
    assert text in output.out + output.err
    assert "Traceback" not in output.err


@pytest.mark.parametrize(("word", "code"), [("--help", 0), ("--secnods", 2)])
def test_the_demo_s_options_are_answered_before_any_set_up(
    word: str, code: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "_ready", lambda _: pytest.fail("set-up began"))
    with pytest.raises(SystemExit) as ended:
        cli.main(["demo", word])
    assert ended.value.code == code
    output = capfd.readouterr()
    assert "usage: ./run demo" in output.out + output.err


def run_script(environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    """`./run WORDS` from another directory."""
    return subprocess.run(
        [str(ROOT / "run"), *words],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
    )


def fake_python(folder: Path, version: str, fits: bool) -> Path:
    """A program that answers `run` as a Python of that version would."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "python3"
    body = f"exec {sys.executable} " + '"$@"' if fits else f"echo Python {version}; exit 1"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def test_run_refuses_the_python_that_is_named(tmp_path: Path) -> None:
    python = fake_python(tmp_path / "bin", "3.9.2", fits=False)
    done = run_script({**os.environ, "PYTHON": str(python)}, "--help")
    assert done.returncode == 2
    assert f"PYTHON={python} is not Python 3.10 to 3.13 (it says: Python 3.9.2)" in done.stderr


def test_run_looks_past_an_unsupported_python(tmp_path: Path) -> None:
    fake_python(tmp_path / "old", "3.9.2", fits=False)
    fake_python(tmp_path / "new place", "3.11.7", fits=True)
    path = f"{tmp_path / 'old'}:{tmp_path / 'new place'}:/usr/bin:/bin"
    environment = {key: value for key, value in os.environ.items() if key != "PYTHON"}
    done = run_script({**environment, "PATH": path}, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "examples:" in done.stdout
