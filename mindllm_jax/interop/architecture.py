"""Settings and tensors of a published architecture beside ours: one table for both directions."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from flax import nnx

from mindllm_jax.model.config import Model
from mindllm_jax.model.decoder import Decoder

Parameters = dict[str, np.ndarray]
"""Parameters by their path, as "blocks.mlp.up"; those of the blocks have a leading axis L."""

HEAD = "head_kernel"


class Entry(NamedTuple):
    """One row of a table: a tensor of theirs, or one per layer, and the parameter of ours.

    theirs: the name, with {} for the layer. ours: the parameter's path. inputs: the number of the parameter's input
    axes, which come first; theirs is then a matrix with outputs first, [outputs inputs]. 0: a table, or a vector.
    """

    theirs: str
    ours: str
    inputs: int = 0


class Counterpart(NamedTuple):
    """A tensor of theirs and the part of our parameter that it is."""

    name: str
    path: str
    layer: int | None  # the index on the leading axis; None: the whole parameter
    shape: tuple[int, ...]  # of theirs
    inputs: int


@dataclass(frozen=True)
class Architecture:
    """A published architecture, in both directions.

    Attributes:
        name: the class in transformers, as config.json names it.
        table: all its tensors. A model has those whose parameter it has.
        head: the name of the loss head, which tied weights leave out.
        ignored: a regular expression of tensors that are no parameters (buffers of old versions).
        model: maps config.json's fields to our settings, `tied` aside; raises ValueError for what we do not have.
        config: maps our settings to config.json's fields; raises ValueError for what it does not have.
    """

    name: str
    table: tuple[Entry, ...]
    head: str
    ignored: str
    model: Callable[[Mapping[str, Any]], Model]
    config: Callable[[Model], dict[str, Any]]

    def counterparts(self, model: Model) -> list[Counterpart]:
        """Returns every tensor of theirs for a model of ours. Raises ValueError for a parameter that has none."""
        shapes = parameter_shapes(model)
        if lacking := sorted(shapes.keys() - {entry.ours for entry in self.table}):
            raise ValueError(f"{self.name} has no tensor for the parameters {', '.join(lacking)}")
        rows = (entry for entry in self.table if entry.ours in shapes)
        return [row for entry in rows for row in _counterparts(entry, shapes[entry.ours])]


def parameter_shapes(model: Model) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of a decoder's parameters by path; allocates nothing."""
    decoder = nnx.eval_shape(lambda: Decoder(model, rngs=nnx.Rngs(0)))
    return {path: leaf.shape for path, leaf in flat(nnx.to_pure_dict(nnx.state(decoder, nnx.Param)))}


def flat(params: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields the leaves of nested parameters with their paths."""
    for name, value in params.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def nested(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Returns parameters by path as the nested dict that a decoder and a checkpoint have."""
    tree: dict[str, Any] = {}
    for path, value in parameters.items():
        *folders, name = path.split(".")
        place = tree
        for folder in folders:
            place = place.setdefault(folder, {})
        place[name] = value
    return tree


def shortest_pattern(windows: tuple[int | None, ...]) -> tuple[int | None, ...]:
    """Returns the shortest `Model.windows` that repeats to the windows of all layers."""
    count = len(windows)
    return next(windows[:n] for n in range(1, count + 1) if windows[:n] * (count // n) == windows)


def to_ours(tensor: np.ndarray, inputs: int, shape: tuple[int, ...]) -> np.ndarray:
    """Returns a tensor of theirs in the shape of our parameter, or of its part for one layer; the dtype stays."""
    return (tensor.T if inputs else tensor).reshape(shape)


def to_theirs(part: np.ndarray, row: Counterpart) -> np.ndarray:
    """Returns our parameter, or its part for one layer, in the shape of theirs; the dtype stays."""
    return part.reshape(row.shape[::-1]).T if row.inputs else part.reshape(row.shape)


def _counterparts(entry: Entry, shape: tuple[int, ...]) -> Iterator[Counterpart]:
    stacked = entry.ours.startswith("blocks.")
    part = shape[1:] if stacked else shape
    if entry.inputs:
        part = (math.prod(part[entry.inputs :]), math.prod(part[: entry.inputs]))
    elif stacked:  # scales and biases
        part = (math.prod(part),)
    if stacked:
        for layer in range(shape[0]):
            yield Counterpart(entry.theirs.format(layer), entry.ours, layer, part, entry.inputs)
    else:
        yield Counterpart(entry.theirs, entry.ours, None, part, entry.inputs)


class Fields:
    """Reads the fields of a config.json; a message names the file and the field."""

    def __init__(self, config: Mapping[str, Any]):
        self._config = config

    def integer(self, name: str, default: int | None = None) -> int:
        """Returns a whole number; `default` where the field is missing or null. Raises ValueError."""
        value = self._config.get(name)
        value = default if value is None else value
        if not isinstance(value, int) or isinstance(value, bool):
            raise ValueError(f"config.json: {name} = {value!r}: a whole number is expected")
        return value

    def number(self, name: str, default: float) -> float:
        """Returns a number; `default` where the field is missing or null. Raises ValueError."""
        value = self._config.get(name)
        value = default if value is None else value
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise ValueError(f"config.json: {name} = {value!r}: a number is expected")
        if not math.isfinite(value):
            raise ValueError(f"config.json: {name} = {value!r}: a finite number is expected")
        return float(value)

    def require(self, name: str, *supported: Any) -> None:
        """Raises ValueError where a field is present, not null and not one of the supported values."""
        value = self._config.get(name)
        if value is not None and value not in supported:
            choice = " or ".join(map(repr, supported)) or "none"
            raise ValueError(f"config.json: {name} = {value!r} is not supported; only {choice} is")

    def rope_theta(self) -> float:
        """Returns the base of RoPE, from the field that transformers takes. Raises ValueError for scaled RoPE."""
        parameters = self._config.get("rope_parameters") or {}
        scaling = self._config.get("rope_scaling") or {}
        for name, content in (("rope_parameters", parameters), ("rope_scaling", scaling)):
            if not isinstance(content, Mapping):
                raise ValueError(f"config.json: {name} = {content!r}: an object is expected")
            kind = content.get("rope_type", content.get("type", "default"))
            if kind != "default":
                raise ValueError(f"config.json: {name} of the type {kind!r} is not supported; only 'default' is")
            if nested := [key for key, value in content.items() if isinstance(value, Mapping)]:
                raise ValueError(f"config.json: {name} for some layers ({', '.join(nested)}) is not supported")
            Fields(content).require("partial_rotary_factor", 1.0)
        self.require("partial_rotary_factor", 1.0)
        stated = {"rope_theta": self._config.get("rope_theta"), **(scaling or parameters)}
        return Fields(stated).number("rope_theta", 10_000.0)


def require_settings(model: Model, name: str, wanted: Mapping[str, Any]) -> None:
    """Raises ValueError that lists the settings in which a model is not of an architecture."""
    differing = [f"Model.{field} = {getattr(model, field)!r}, not {value!r}" for field, value in wanted.items()
                 if getattr(model, field) != value]  # fmt: skip
    if differing:
        raise ValueError(f"not {name}: {'; '.join(differing)}")
