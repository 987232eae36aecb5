"""The console output of a training run."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.text import Text


class RunConsole:
    """Prints to stdout in the active process, and keeps the error once stdout cannot be written.

    A run whose output ends, as that of `train.py | head`, can then be saved before it ends.

    Attributes:
        failure: the error of writing to stdout; None without one.
    """

    def __init__(self, *, active: bool):
        self.failure: OSError | None = None
        self._console = Console(quiet=not active, highlight=False)

    def __call__(self, content: Any) -> None:
        """Prints a line, whose brackets are no markup and which is not wrapped, or a table of rich."""
        if self.failure:
            return
        is_line = isinstance(content, str | Text)
        try:
            self._console.print(escape(content) if isinstance(content, str) else content, soft_wrap=is_line)
        except SystemExit:  # raised by rich for a closed pipe
            self.failure = BrokenPipeError("stdout is closed")
        except OSError as error:
            self.failure = OSError(f"stdout cannot be written: {error.strerror}")
