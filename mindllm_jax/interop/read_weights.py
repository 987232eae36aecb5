"""Reads published weights into our parameters: one float32 copy, filled tensor by tensor."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Collection

import numpy as np

from mindllm_jax.interop.architecture import Architecture, Counterpart, Parameters, parameter_shapes, to_ours
from mindllm_jax.interop.architectures import architecture_of
from mindllm_jax.interop.sources import Source, StoredTensor
from mindllm_jax.model.config import Model

_SHOWN = 8  # names that a message lists
FLOATS = ("float32", "bfloat16", "float16")
"""Dtypes of weights."""


def read_model(source: Source) -> Model:
    """Returns the settings of a source's model, its head tied where it is missing or equal to the embedding.

    A head that is missing although config.json says that it is not tied is a missing tensor.

    Reads no tensor but these two. Raises ValueError for another architecture, a setting that `Model` has not, and a
    missing, extra or misshapen tensor.
    """
    architecture = architecture_of(source.config, source.path)
    try:
        settings = architecture.model(source.config)
    except ValueError as error:
        raise ValueError(f"{source.path}: {error}") from None
    tied = architecture.head not in source.tensors and source.config.get("tie_word_embeddings") is not False
    model = dataclasses.replace(settings, tied=tied)
    _require_tensors(source, architecture, model)
    if not model.tied and _head_is_embedding(source, architecture):
        return dataclasses.replace(model, tied=True)
    return model


def read_parameters(source: Source, model: Model) -> Parameters:
    """Returns the parameters in float32, by path. Raises ValueError that names a tensor that is not finite."""
    architecture = architecture_of(source.config, source.path)
    shapes = parameter_shapes(model)
    parameters = {path: np.empty(shape, np.float32) for path, shape in shapes.items()}
    for row in architecture.counterparts(model):
        stored = source.tensors[row.name]
        whole = parameters[row.path]
        part = whole if row.layer is None else whole[row.layer]
        part[...] = to_ours(stored.read(), row.inputs, part.shape)
        if not np.isfinite(part).all():
            count = part.size - int(np.isfinite(part).sum())
            raise ValueError(
                f"{stored.file}: {row.name} holds {count:,} values that are infinite or no numbers: the weights are "
                "damaged, or overflowed in float16; download them again"
            )
    return parameters


def dtype_of(source: Source) -> str:
    """Returns the dtype that holds all parameters exactly: theirs, or float32 for several dtypes or quantized ones."""
    architecture = architecture_of(source.config, source.path)
    dtypes = [stored.dtype for name, stored in source.tensors.items() if not _ignored(name, architecture)]
    names = {dtype if dtype in FLOATS else "float32" for dtype in dtypes}
    return names.pop() if len(names) == 1 else "float32"


def _require_tensors(source: Source, architecture: Architecture, model: Model) -> None:
    wanted = {row.name: row for row in architecture.counterparts(model)}
    present = {name: stored for name, stored in source.tensors.items() if not _ignored(name, architecture)}
    if missing := [name for name in wanted if name not in present]:
        raise ValueError(
            f"{source.path}: {_names(missing)} missing{_hint(missing[0], present)}; the download is incomplete, or "
            "config.json is of another model"
        )
    if extra := [name for name in present if name not in wanted]:
        raise ValueError(
            f"{present[extra[0]].file}: {_names(extra)} not known to {architecture.name}, so that the converted model "
            "would be another one; config.json is of another model, or this variant is not supported"
        )
    for name, row in wanted.items():
        if present[name].shape != row.shape:
            raise ValueError(_misshapen(present[name], row))


def _misshapen(stored: StoredTensor, row: Counterpart) -> str:
    return (
        f"{stored.file}: {row.name} has the shape {list(stored.shape)}, and by config.json it is {list(row.shape)}: "
        "the two are of different models"
    )


def _ignored(name: str, architecture: Architecture) -> bool:
    return re.fullmatch(architecture.ignored, name) is not None


def _names(names: Collection[str]) -> str:
    shown = ", ".join([*names][:_SHOWN])
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{shown}{more} {'is' if len(names) == 1 else 'are'}"


def _hint(name: str, present: Collection[str]) -> str:
    near = difflib.get_close_matches(name, list(present), 1, cutoff=0.8)
    return f" (there is {near[0]})" if near else ""


def _head_is_embedding(source: Source, architecture: Architecture) -> bool:
    embedding = next(entry.theirs for entry in architecture.table if entry.ours == "embedding")
    return np.array_equal(source.tensors[architecture.head].read(), source.tensors[embedding].read())
