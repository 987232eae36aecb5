"""A folder that gets its name when it is complete."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mindllm_jax.locks import lock_folder


@contextmanager
def new_folder(output: Path) -> Iterator[Path]:
    """Yields a folder to fill, which becomes `output` when the block ends without an error.

    It lies in `.NAME.partial` beside `output`, where a killed process leaves it until the next one begins again. A link
    is kept, and what it points to is written.

    Raises:
        ValueError: `output` is neither missing nor an empty folder, or another process writes it.
        OSError: it cannot be written.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ValueError(f"Convert.output = {output} exists already: remove it, or give another folder")
    output = output.resolve()
    partial = output.with_name(f".{output.name}.partial")
    with lock_folder(partial, user="a conversion", otherwise="give another Convert.output"):
        folder = partial / "folder"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        try:
            yield folder
            if output.exists():
                output.rmdir()
            folder.rename(output)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):
        partial.rmdir()  # of a killed process
