"""Lists the files that a setting names, itself or by their folder."""

import logging
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from mindllm_jax.files import files_below
from mindllm_jax.text.documents import document_files, is_document_file

log = logging.getLogger(__name__)

_LIKE_DATA = re.compile(r"[^.].*\.(jsonl|ndjson|parquet)(\.\w+)?", re.IGNORECASE)


def input_files(inputs: Iterable[str]) -> list[Path]:
    """Lists the document files that `inputs` name: files, and the .jsonl and .jsonl.gz files of folders.

    The files of a folder are those in it; if it has none, those of a cleaned corpus, or those in its subfolders, as in
    the folder `documents` of a corpus. Other files listed there whose names are those of data are logged.

    Raises:
        OSError: there is no such file or folder, or a corpus is not finished.
        ValueError: `inputs` is empty, a folder has no such file, or a file is named twice.
    """
    return named_files(inputs, _folder_files, ".jsonl or .jsonl.gz files")


def named_files(inputs: Iterable[str], of_folder: Callable[[Path], list[Path]], expected: str) -> list[Path]:
    """Lists the files that `inputs` name: files, and those that `of_folder` finds in a folder.

    expected: what they are, for a message.

    Raises:
        OSError: there is no such file or folder.
        ValueError: `inputs` is empty, or a file is named twice.
    """
    files: list[Path] = []
    for path in map(Path, inputs):
        if not path.exists():
            raise FileNotFoundError(f"there is no file or folder {path} (a relative path starts at {Path.cwd()})")
        files += of_folder(path) if path.is_dir() else [path]
    if not files:
        raise ValueError(f"inputs is empty; name {expected}, or folders of them")
    seen: set[tuple[int, int]] = set()
    for file in files:
        place = file.stat()
        if (place.st_dev, place.st_ino) in seen:
            raise ValueError(f"inputs name {file} more than once")
        seen.add((place.st_dev, place.st_ino))
    return files


def corpus_files(corpus: Path) -> list[Path]:
    """Lists the document files of a cleaned corpus, `documents/LANG/SOURCE/NUMBER.jsonl.gz`.

    Raises:
        OSError: the corpus is not finished.
        ValueError: it has no document.
    """
    # The card is written last.
    if not (corpus / "card.json").exists():
        raise FileNotFoundError(f"{corpus} is not a finished corpus: it has no card.json; run launch/clean_corpus.py")
    return document_files(corpus / "documents", subfolders=True)


def _folder_files(folder: Path) -> list[Path]:
    own = any(is_document_file(file) for file in folder.iterdir())
    # Beside its documents a corpus has those that were dropped.
    if not own and (folder / "documents").is_dir() and (folder / "logs").is_dir():
        return corpus_files(folder)
    files = document_files(folder, subfolders=not own)
    read = set(files)
    listed = folder.iterdir() if own else files_below(folder)
    others = sorted(file for file in listed if _LIKE_DATA.fullmatch(file.name) and file not in read)
    if others:
        names = ", ".join(str(file.relative_to(folder)) for file in others[:8])
        log.warning(
            "%s: files that may be data are not read (%d): %s; only .jsonl and .jsonl.gz files are",
            folder,
            len(others),
            names + (", …" if len(others) > 8 else ""),
        )
    return files
