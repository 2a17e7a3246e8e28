"""`python -m shopfloor.plant`; the work is in `shopfloor.plant.cli`."""

from __future__ import annotations

import signal
import sys

if __name__ == "__main__":
    # Until the processes start, Ctrl-C just ends it; without a traceback from amid the imports.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from shopfloor.plant.cli import main

    sys.exit(main())
