"""What a run prints while it trains."""

from __future__ import annotations

from typing import Any

from rich.console import Console


class RunConsole:
    """Prints to stdout in the process that is active, and keeps the error once stdout cannot be written.

    So a run whose output ends, as that of `train.py | head`, can be saved before it ends.

    Attributes:
        failure: what keeps stdout from being written; None while all is well.
    """

    def __init__(self, *, active: bool):
        self.failure: OSError | None = None
        self._console = Console(quiet=not active, highlight=False)

    def __call__(self, content: Any) -> None:
        """Prints a line or a table."""
        if self.failure:
            return
        try:
            self._console.print(content)
        except SystemExit:  # rich's answer to a pipe that nobody reads any more
            self.failure = BrokenPipeError("stdout is closed")
        except OSError as error:
            self.failure = OSError(f"stdout cannot be written: {error.strerror}")
