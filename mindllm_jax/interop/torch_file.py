"""Reads the tensors of a file that PyTorch pickled, without executing what is in it.

`torch.load(weights_only=True)` of torch 2.6 or later builds tensors and containers and refuses everything else; before
2.6 it could be made to execute code (CVE-2025-32434).
"""

from __future__ import annotations

import pickle
import re
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from mindllm_jax.interop.sources import StoredTensor

OLDEST_TORCH = (2, 6)
_DTYPES = {"torch.float32": "float32", "torch.float16": "float16", "torch.bfloat16": "bfloat16"}


def tensors_of(path: Path) -> dict[str, StoredTensor]:
    """Returns the tensors of a file by name, mapped from the disk.

    Buffers of booleans or integers (the attention masks of old transformers) are listed with their dtype and cannot be
    read.

    Raises:
        OSError: the file cannot be read.
        ValueError: it holds code or objects other than tensors, or is damaged.
        ImportError: torch is missing, or older than 2.6.
    """
    try:
        import torch
    except ImportError:
        raise ImportError(f"{path} was pickled by PyTorch; install mindllm-jax[interop] to read it") from None
    if tuple(map(int, torch.__version__.split(".")[:2])) < OLDEST_TORCH:
        raise ImportError(
            f"{path}: torch {torch.__version__} may execute code in a pickled file even with weights_only; install "
            "torch 2.6 or later, or take the folder's safetensors"
        )
    try:
        # Files of torch before 1.6 are no zip files and cannot be mapped.
        content: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        # torch advises to load the file in a way that executes code, or to allow what it names; we do not.
        code = re.search(r"GLOBAL (\S+)", str(error))
        if code is None:
            raise ValueError(_damaged(path, "it pickles something else than tensors")) from None
        raise ValueError(
            f"{path}: refused: the pickle holds more than tensors, and to load it would execute code"
            f" ({code[1]}). Nothing of it was executed; ask for safetensors"
        ) from None
    except OSError:
        raise
    except Exception as error:  # a damaged pickle raises anything
        raise ValueError(_damaged(path, str(error).strip() or type(error).__name__)) from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: holds a {type(content).__name__} where tensors by name are expected")
    tensors = {}
    for name, tensor in content.items():
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
            raise ValueError(f"{path}: holds {name!r}, a {type(tensor).__name__}, where tensors by name are expected")
        dtype = _DTYPES.get(str(tensor.dtype), str(tensor.dtype))
        tensors[name] = StoredTensor(tuple(tensor.shape), dtype, path, partial(_read, tensor, name, path))
    return tensors


def _damaged(path: Path, reason: str) -> str:
    return f"{path}: damaged, or not a file of torch.save: {reason.splitlines()[0][:200]}; download it again"


def _read(tensor: Any, name: str, path: Path) -> np.ndarray:
    import torch

    if tensor.layout != torch.strided or tensor.is_meta:
        raise ValueError(
            f"{path}: {name} is {'without values' if tensor.is_meta else 'sparse'}; dense tensors can be read"
        )
    if str(tensor.dtype) not in _DTYPES:
        raise ValueError(f"{path}: {name} is of the dtype {tensor.dtype}; float32, float16 and bfloat16 can be read")
    if tensor.dtype == torch.bfloat16:  # numpy has none: the bits are taken over
        return tensor.detach().contiguous().view(torch.uint16).numpy().view(jnp.bfloat16)
    return tensor.detach().contiguous().numpy()  # saved parameters ask for gradients
