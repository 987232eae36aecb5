"""Loads a run from its folder alone, for generation, tuning and evaluation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
from flax import nnx

from mindllm_jax import configuration
from mindllm_jax.files import write_bytes
from mindllm_jax.model.config import Model
from mindllm_jax.model.decoder import Decoder
from mindllm_jax.parallel.mesh import MeshAxes
from mindllm_jax.parallel.sharding import Sharding
from mindllm_jax.tokenization.tokenizer import Tokenizer
from mindllm_jax.training.checkpoint import latest_checkpoint, read_identity, restore_params, steps_of
from mindllm_jax.training.checksums import PARAMETERS, compare, verify
from mindllm_jax.training.state import AbstractModel, Params, abstract_model, initial_params

TOKENIZER = "tokenizer.model"


class RunRecord(NamedTuple):
    """The metadata of a checkpoint, without its arrays."""

    folder: Path  # the checkpoint
    model: Model
    tokenizer: Tokenizer
    identity: dict[str, Any]  # see `read_identity`


class LoadedRun(NamedTuple):
    """A decoder with the parameters of a checkpoint, its model, tokenizer and metadata."""

    decoder: Decoder
    model: Model
    tokenizer: Tokenizer
    step: int  # steps that the parameters were trained for
    identity: dict[str, Any]  # see `read_identity`


def keep_tokenizer(tokenizer: Tokenizer, run: Path) -> None:
    """Copies the tokenizer into the run's folder, so that the run can be used without its data."""
    write_bytes(run / TOKENIZER, tokenizer.model)


def read_run(run: Path, step: int | None = None) -> RunRecord:
    """Reads the metadata of a run's checkpoint at `step` (the latest by default), its model and tokenizer.

    Raises FileNotFoundError when there is no such run or checkpoint, ValueError when it was trained with another
    tokenizer than the run's folder holds.
    """
    folder = latest_checkpoint(run) if step is None else _checkpoint_of(run, step)
    compare(folder, ("run",))
    identity = read_identity(folder)
    tokenizer = Tokenizer.load(run / TOKENIZER)
    if tokenizer.sha256 != identity["tokenizer_sha256"]:
        raise ValueError(
            f"{tokenizer.path} is not the tokenizer that {folder} was trained with (its sha256 is {tokenizer.sha256}, "
            f"the recorded one {identity['tokenizer_sha256']}); put that one back"
        )
    return RunRecord(folder, configuration.from_json(Model, identity["model"], str(folder)), tokenizer, identity)


def load_decoder(
    run: Path | RunRecord,
    *,
    step: int | None = None,
    untrained: bool = False,
    sharding: Sharding | None = None,
    resolve_model: Callable[[Model], Model] = lambda model: model,
) -> LoadedRun:
    """Loads the decoder of a run, from the checkpoint of `step` (the latest by default).

    Args:
        run: the run's folder, or what `read_run` read of it, which then decides the step.
        step: the step of the checkpoint.
        untrained: fresh parameters of the run's seed instead of trained ones.
        sharding: placement of the parameters; one device of this process by default.
        resolve_model: derives the model that is loaded from the recorded one, as in `pretrain`.

    Raises as `read_run` does, and ValueError when the checkpoint is damaged.
    """
    folder, recorded, tokenizer, identity = run if isinstance(run, RunRecord) else read_run(run, step)
    model = resolve_model(recorded)
    abstract = abstract_model(model, sharding or Sharding(MeshAxes().build(jax.local_devices()[:1])))
    if untrained:
        return LoadedRun(
            abstract.decoder(initial_params(model, abstract, identity["seed"])), model, tokenizer, 0, identity
        )
    verify(folder, PARAMETERS)
    params = restore_params(folder, _placed(abstract))
    return LoadedRun(abstract.decoder(params), model, tokenizer, int(folder.name), identity)


def _checkpoint_of(run: Path, step: int) -> Path:
    latest, steps = latest_checkpoint(run), steps_of(run)
    if step not in steps:
        raise FileNotFoundError(f"{run} holds no checkpoint of step {step}; there are {', '.join(map(str, steps))}")
    return latest.with_name(str(step))


def _placed(abstract: AbstractModel) -> Params:
    """Returns shapes, dtypes and shardings of the parameters."""
    return jax.tree.map(
        lambda leaf, at: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=at),
        nnx.to_pure_dict(abstract.params),
        abstract.shardings,
    )
