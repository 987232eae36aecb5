"""Lists the document files that a setting names."""

from collections.abc import Iterable
from pathlib import Path

from mindllm_jax.text.documents import document_files


def input_files(inputs: Iterable[str]) -> list[Path]:
    """Lists the document files that `inputs` name: files, and the .jsonl and .jsonl.gz files of folders.

    Raises:
        OSError: there is no such file or folder.
        ValueError: `inputs` is empty, a folder has no such file, or a file is named twice.
    """
    files: list[Path] = []
    for path in map(Path, inputs):
        if not path.exists():
            raise FileNotFoundError(f"there is no file or folder {path} (a relative path starts at {Path.cwd()})")
        files += document_files(path) if path.is_dir() else [path]
    if not files:
        raise ValueError("inputs is empty; name .jsonl or .jsonl.gz files, or folders of them")
    seen: set[tuple[int, int]] = set()
    for file in files:
        place = file.stat()
        if (place.st_dev, place.st_ino) in seen:
            raise ValueError(f"inputs name {file} more than once")
        seen.add((place.st_dev, place.st_ino))
    return files
