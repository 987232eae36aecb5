"""Reads safetensors files one tensor at a time, and writes them.

The library maps a whole file, and pages once read count as memory of the process until it closes the file; a
conversion reads every page. A file is eight bytes of length, a JSON header, and the data.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from mindllm_jax.files import parse_json
from mindllm_jax.interop.sources import StoredTensor

DTYPES = {"F32": np.dtype(np.float32), "F16": np.dtype(np.float16), "BF16": np.dtype(jnp.bfloat16)}
"""Dtypes that are read, by their names in a header."""

_MAX_HEADER = 100_000_000  # bytes, as the library's


def tensors_of(path: Path) -> dict[str, StoredTensor]:
    """Returns the tensors of a safetensors file by name; reads its header alone.

    Tensors of other dtypes (the attention masks of old transformers) are listed with theirs and cannot be read. Raises
    OSError when the file cannot be read, ValueError when it is truncated or damaged.
    """
    header, start = _header(path)
    size, end, tensors = path.stat().st_size, start, {}
    for name, entry in header.items():
        if name != "__metadata__":
            tensors[name] = _tensor(path, name, entry, start, size)
            end = max(end, start + entry["data_offsets"][1])
    if size != end:
        raise ValueError(f"{path}: damaged: {size - end:,} bytes follow the last tensor; download it again")
    return tensors


def write_tensors(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Writes a file for transformers with the usual permissions; the library's are for the owner alone.

    Raises OSError where it cannot be written, ImportError without the library safetensors.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    path.touch()
    usual = path.stat().st_mode
    try:
        save_file(dict(tensors), path, metadata={"format": "pt"})
    except SafetensorError as error:
        raise OSError(f"{path} cannot be written: {error}") from None
    path.chmod(usual)


def _header(path: Path) -> tuple[dict[str, Any], int]:
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 0 < length <= min(_MAX_HEADER, size - 8):
            raise ValueError(f"{path}: not a safetensors file, or truncated: its header has no {length:,} bytes")
        return parse_json(file.read(length), f"{path}: header"), 8 + length


def _tensor(path: Path, name: str, entry: Any, start: int, size: int) -> StoredTensor:
    match entry:
        case {"dtype": str(kind), "shape": list(shape), "data_offsets": [int(begin), int(end)]}:
            pass
        case _:
            raise ValueError(f"{path}: damaged: the header's entry of {name} is {entry!r}")
    if not all(type(size) is int and size >= 0 for size in shape):
        raise ValueError(f"{path}: damaged: {name} has the shape {shape}")
    known = DTYPES.get(kind)
    if not 0 <= begin <= end or (known and end - begin != math.prod(shape) * known.itemsize):
        raise ValueError(f"{path}: damaged: {name} of shape {shape} has {end - begin:,} bytes")
    if start + end > size:
        raise ValueError(
            f"{path}: truncated: {name} ends at byte {start + end:,}, the file at {size:,}; download it again"
        )
    if known is None:
        return StoredTensor(tuple(shape), kind, path, partial(_refuse, path, name, kind))
    return StoredTensor(tuple(shape), known.name, path, partial(_read, path, known, tuple(shape), start + begin))


def _refuse(path: Path, name: str, kind: str) -> np.ndarray:
    raise ValueError(
        f"{path}: {name} is of the dtype {kind}; {', '.join(DTYPES)} can be read: convert the folder with its own"
        " library first"
    )


def _read(path: Path, dtype: np.dtype, shape: tuple[int, ...], offset: int) -> np.ndarray:
    return np.fromfile(path, dtype, math.prod(shape), offset=offset).reshape(shape)
