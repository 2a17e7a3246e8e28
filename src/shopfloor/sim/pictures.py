"""Draw parts with known defects into a folder, for evaluating and quantising models.

python -m shopfloor.sim.pictures FOLDER --count 80

Writes FOLDER/pictures/NAME.png and FOLDER/truth/NAME.txt with one `x1 y1 x2 y2 class` a defect.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import cv2
from rich.progress import track

from shopfloor.sim.parts import CLASS_NAMES, KINDS, MAX_SIZE_PX, MIN_SIZE_PX, render

FIRST_SEED = 50_000_000
"""Far from the seeds that models were trained and measured on."""


def draw(folder: Path, kind: str, seed: int, size_px: int) -> None:
    """Write the picture and the truth of one part."""
    part = render(kind, seed, size_px)
    name = f"{kind}_{seed}"
    path = folder / "pictures" / f"{name}.png"
    if not cv2.imwrite(str(path), part.image):
        raise OSError(f"{path}: can't be written")
    rows = zip(part.boxes.tolist(), part.classes.tolist(), strict=True)
    lines = [f"{x1:.1f} {y1:.1f} {x2:.1f} {y2:.1f} {label}" for (x1, y1, x2, y2), label in rows]
    text = "".join(f"{line}\n" for line in lines)
    (folder / "truth" / f"{name}.txt").write_text(text, encoding="ascii")


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m shopfloor.sim.pictures",
        description="Draw parts with known defects into a folder.",
        epilog="classes: " + ", ".join(f"{i} {name}" for i, name in enumerate(CLASS_NAMES)),
    )
    parser.add_argument("folder", type=Path, help="gets pictures/ and truth/")
    parser.add_argument("--count", type=int, default=80, help="parts of each kind (80)")
    parser.add_argument("--kind", nargs="+", choices=KINDS, default=[*KINDS])
    parser.add_argument("--size", type=int, default=640, metavar="PX", help="(640)")
    parser.add_argument("--seed", type=int, default=FIRST_SEED, help=f"of the first ({FIRST_SEED})")
    options = parser.parse_args(arguments)
    if not MIN_SIZE_PX <= options.size <= MAX_SIZE_PX:
        parser.error(f"--size {options.size} is not allowed; allowed: {MIN_SIZE_PX}-{MAX_SIZE_PX}")
    if options.count < 1 or options.seed < 0:
        parser.error("--count must be at least 1 and --seed at least 0")
    for name in ("pictures", "truth"):
        (options.folder / name).mkdir(parents=True, exist_ok=True)
    parts = [(kind, options.seed + i) for i in range(options.count) for kind in options.kind]
    for kind, seed in track(parts, description=str(options.folder), transient=True):
        draw(options.folder, kind, seed, options.size)
    print(f"{len(parts)} parts: {options.folder}/pictures and {options.folder}/truth")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
