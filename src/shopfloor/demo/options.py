"""The command line of `./run demo`; standard library only, as it is asked before any set-up.

examples:
  ./run demo                              simulated boards and steel for 60 s
  ./run demo --images ~/parts --seconds 30    your own pictures, once each
  ./run demo --json summary.json          the figures as data
  ./run demo --keep                       leave it running for rqt, rviz and ros2; Ctrl-C ends it
"""

from __future__ import annotations

import argparse
from pathlib import Path


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    examples = (__doc__ or "").partition("examples:")[2]
    parser = argparse.ArgumentParser(
        prog="./run demo",
        description="Start the whole graph, watch it for a minute, and answer how it did.",
        epilog="examples:" + examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="how long (default 60)")
    parser.add_argument("--images", type=Path, help="folder of your own pictures to inspect")
    parser.add_argument("--plant", type=Path, help="another plant file (default config/demo.yaml)")
    parser.add_argument("--json", type=Path, help="write the summary here as JSON")
    parser.add_argument("--output", type=Path, help="folder for report, bag and logs")
    parser.add_argument("--keep", action="store_true", help="leave it running until Ctrl-C")
    return parser.parse_args(arguments)
