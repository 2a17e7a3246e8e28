"""`python -m shopfloor.inspection`: choose, build and check engines."""

from __future__ import annotations

import argparse
import logging
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from shopfloor.inspection.build import build_int8, build_tensorrt
from shopfloor.inspection.engine_bench import (
    Bench,
    Measured,
    candidates,
    fastest,
    plant_fragment,
)
from shopfloor.inspection.engines import BACKENDS, PRECISIONS, EngineError
from shopfloor.inspection.engines.precisions import MAX_MAP_LOSS
from shopfloor.inspection.model import ModelError, ModelPackage, load_model_package
from shopfloor.inspection.offline import labelled_images
from shopfloor.inspection.quantise import Attempt
from shopfloor.ros.paths import model_folder

FAILED, WRONG_INPUT = 1, 2
SHORT_S = 0.0
"""Of timing in `parity`: three inferences, which nobody reads."""

_EXAMPLES = """examples:
  python -m shopfloor.inspection bench surface_nano/1
  python -m shopfloor.inspection bench surface_nano/1 --threads 1 2 4 --write inspector.yaml
  python -m shopfloor.inspection parity surface_nano/1 --engine openvino --precision bfloat16
  python -m shopfloor.sim.pictures build/parts --count 80
  python -m shopfloor.inspection build surface_nano/1 --precision int8 \\
      --pictures build/parts/pictures --truth build/parts/truth
  python -m shopfloor.inspection build surface_nano/1 --engine tensorrt --precision float16
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a verb; returns the exit code (1: no engine may serve, 2: something wrong with input)."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    verbs = {"bench": _bench, "build": _build, "parity": _parity}
    try:
        package = load_model_package(model_folder(options.model))
        return verbs[options.verb](options, package)
    except (OSError, ValueError, ModelError, EngineError) as error:
        print(f"error: {error}", file=sys.stderr)
        return WRONG_INPUT


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m shopfloor.inspection",
        description="Choose, build and check what runs a model on this machine.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    bench = verbs.add_parser("bench", help="time every engine, pick the fastest that may serve")
    bench.add_argument("--seconds", type=float, default=5.0, help="of timing for each (5)")
    bench.add_argument("--write", type=Path, metavar="FILE", help="write the choice to this file")
    parity = verbs.add_parser("parity", help="compare engines with the reference, without timing")
    for command in (bench, parity):
        command.add_argument("model", help="NAME/VERSION, or the folder of a model package")
        command.add_argument("--engine", nargs="+", choices=tuple(BACKENDS), default=[*BACKENDS])
        command.add_argument("--precision", nargs="+", choices=PRECISIONS, default=[*PRECISIONS])
        command.add_argument("--threads", nargs="+", type=_count, default=[1], help="(1)")
    build = verbs.add_parser("build", help="quantise to int8, or build a TensorRT plan")
    build.add_argument("model", help="NAME/VERSION, or the folder of a model package")
    build.add_argument("--engine", choices=("tensorrt",), help="build its plan for this GPU")
    build.add_argument("--precision", choices=("float32", "float16", "int8"), required=True)
    build.add_argument("--pictures", type=Path, help="int8: folder of pictures")
    build.add_argument("--truth", type=Path, help="int8: folder with NAME.txt: x1 y1 x2 y2 class")
    build.add_argument("--symmetric", action="store_true", help="int8: as TensorRT reads it")
    build.add_argument("--first-class", type=int, default=0, help="number of the first class (0)")
    return parser


def _count(text: str) -> int:
    count = int(text)
    if not 1 <= count <= 64:
        raise argparse.ArgumentTypeError(f"{text} is not allowed; allowed: 1 to 64")
    return count


def _bench(options: argparse.Namespace, package: ModelPackage) -> int:
    measured = _measure(options, package, options.seconds)
    console = Console()
    _show(console, package, measured, timed=True)
    choice = fastest(measured)
    if choice is None:
        console.print("no engine may serve")
        return FAILED
    fragment = plant_fragment(choice, package, platform.node())
    if options.write is not None:
        options.write.write_text(fragment, encoding="utf-8")
        console.print(f"written: {options.write}")
    console.print(fragment, highlight=False, soft_wrap=True)
    return 0


def _parity(options: argparse.Namespace, package: ModelPackage) -> int:
    measured = _measure(options, package, SHORT_S)
    _show(Console(), package, measured, timed=False)
    # An engine that is not there differs from nothing; one that runs must agree.
    ran = [one for one in measured if one.parity is not None]
    return FAILED if not ran or any(one.complaint for one in ran) else 0


def _measure(options: argparse.Namespace, package: ModelPackage, seconds: float) -> list[Measured]:
    chosen = candidates(options.engine, options.precision, options.threads)
    with _progress() as progress:
        task = progress.add_task("reference", total=len(chosen))
        bench = Bench(package, seconds)
        measured = []
        for candidate in chosen:
            text = f"{candidate.engine} {candidate.precision} x {candidate.threads}"
            progress.update(task, description=text)
            measured.append(bench.measure(candidate))
            progress.advance(task)
    return measured


def _build(options: argparse.Namespace, package: ModelPackage) -> int:
    console = Console()
    if options.engine == "tensorrt":
        with _progress() as progress:
            tasks = {}

            def show(phase: str, done: int, total: int) -> None:
                if phase not in tasks:
                    tasks[phase] = progress.add_task(phase)
                progress.update(tasks[phase], completed=done, total=total)

            path = build_tensorrt(package, options.precision, show)
        console.print(f"written: {path}", soft_wrap=True)
        return 0
    if options.precision != "int8":
        raise ValueError(f"only --engine tensorrt is built in {options.precision}")
    if options.pictures is None or options.truth is None:
        raise ValueError(
            "int8 needs --pictures and --truth: pictures like the line's, with labelled defects; "
            "`python -m shopfloor.sim.pictures --help` draws some"
        )
    pictures = list(labelled_images(options.pictures, options.truth, options.first_class))
    attempts: list[Attempt] = []
    with _progress() as progress:
        task = progress.add_task("", total=None)

        def started(text: str) -> None:
            progress.update(task, description=text)

        def attempted(attempt: Attempt) -> None:
            attempts.append(attempt)
            progress.console.print(
                f"float32 up to stride {attempt.float_stride}, {attempt.quantised:.0%} of "
                f"convolutions in int8: mAP50 {attempt.map50:.4f}, loss {attempt.loss:+.4f}"
                + (f"; {attempt.complaint}" if attempt.complaint else "")
            )

        path, best = build_int8(package, pictures, started, attempted, symmetric=options.symmetric)
    console.print(f"loss {best.loss:+.4f}, allowed {MAX_MAP_LOSS}; written: {path}", soft_wrap=True)
    return 0


def _progress() -> Progress:
    columns = TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
    return Progress(*columns, console=Console(stderr=True), transient=True)


def _show(
    console: Console, package: ModelPackage, measured: Sequence[Measured], *, timed: bool
) -> None:
    """A table of what runs here, and why the rest does not or may not serve."""
    table = Table(title=f"{package.name}/{package.version} on {platform.node()}")
    for column in ("engine", "precision"):
        table.add_column(column, no_wrap=True)
    for column in ("threads", *(("p50 ms", "p99 ms") if timed else ()), "score off by", "overlap"):
        table.add_column(column, justify="right")
    table.add_column("serves")
    choice = fastest(measured) if timed else None
    for one in sorted(measured, key=lambda m: (not m.times_ms, m.p50_ms)):
        if one.parity is None:
            continue
        candidate = one.candidate
        times = (f"{one.p50_ms:.1f}", f"{one.p99_ms:.1f}") if timed else ()
        style = "red" if one.complaint else "bold green" if one is choice else ""
        table.add_row(
            candidate.engine,
            candidate.precision,
            str(candidate.threads),
            *times,
            f"{one.parity.score:.4f}",
            f"{one.parity.iou:.3f}",
            "no" if one.complaint else "yes",
            style=style,
        )
    console.print(table)
    reasons: dict[str, list[str]] = {}
    for one in measured:
        label = f"{one.candidate.engine} {one.candidate.precision}"
        if one.complaint and label not in reasons.setdefault(one.complaint, []):
            reasons[one.complaint].append(label)
    for reason, labels in reasons.items():
        console.print(f"{', '.join(labels)}: {reason}", soft_wrap=True, highlight=False)
