"""structlog without its coloured console. Import this first of all in a worker's process.

structlog imports rich when it is there, for tracebacks on a terminal, which takes 5 MiB. A worker's log is JSON in a
file, and a machine may run hundreds of workers.
"""

from __future__ import annotations

import sys

if "rich" not in sys.modules and "structlog" not in sys.modules:
    sys.modules["rich"] = None  # type: ignore[assignment]  # Importing it raises ImportError, as if it were not there.
    import structlog  # noqa: F401

    del sys.modules["rich"]
