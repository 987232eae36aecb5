"""Loads a run from its folder alone, for generation, tuning and evaluation."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mindllm_jax import configuration
from mindllm_jax.files import write_bytes
from mindllm_jax.model.config import Model
from mindllm_jax.model.decoder import Decoder
from mindllm_jax.parallel.mesh import MeshAxes
from mindllm_jax.parallel.sharding import Sharding
from mindllm_jax.tokenization.tokenizer import Tokenizer
from mindllm_jax.training.adapters import AdaptedBase, merge_adapters
from mindllm_jax.training.checkpoint import latest_checkpoint, read_identity, restore_params, steps_of
from mindllm_jax.training.checksums import PARAMETERS, compare, fingerprint, verify
from mindllm_jax.training.state import Params, abstract_model, initial_params, placed

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
    record = run if isinstance(run, RunRecord) else read_run(run, step)
    folder, recorded, tokenizer, identity = record
    model = resolve_model(recorded)
    abstract = abstract_model(model, sharding or Sharding(MeshAxes().build(jax.local_devices()[:1])))
    if untrained:
        return LoadedRun(
            abstract.decoder(initial_params(model, abstract, identity["seed"])), model, tokenizer, 0, identity
        )
    params = restore_run_params(record, placed(abstract.params, abstract.shardings))
    return LoadedRun(abstract.decoder(params), model, tokenizer, int(folder.name), identity)


def restore_run_params(record: RunRecord, requested: Params) -> Params:
    """Returns the parameters of a run's checkpoint in the requested shapes, dtypes and shardings.

    Adapters are added to the base's parameters, in float32; where those were frozen in NF4, to their values in it, so
    that the sum is the model that was trained.

    Raises FileNotFoundError where the base of adapters is missing, ValueError where a checkpoint is damaged, of another
    model, or not the one that the adapters were trained on.
    """
    verify(record.folder, PARAMETERS)
    if "adapters" not in record.identity:
        return restore_params(record.folder, requested)
    base = base_of_adapters(record)
    lora = AdaptedBase.from_json(record.identity["adapters"]).lora
    wide = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(
            leaf.shape, jnp.promote_types(leaf.dtype, jnp.float32), sharding=leaf.sharding
        ),
        requested,
    )
    sharding = Sharding(jax.tree.leaves(requested)[0].sharding.mesh)
    adapters = abstract_model(record.model, sharding, replace(lora, base="compute"))
    trained = restore_params(record.folder, placed(adapters.params, adapters.shardings))

    def merge(params: Params, trained: Params) -> Params:
        total = merge_adapters(adapters.rounded(params) if lora.base == "nf4" else params, trained, lora)
        return jax.tree.map(lambda value, leaf: value.astype(leaf.dtype), total, requested)

    shardings = jax.tree.map(lambda leaf: leaf.sharding, requested)
    return jax.jit(merge, out_shardings=shardings, donate_argnums=0)(restore_run_params(base, wide), trained)


def training_tokens(identity: Mapping[str, Any]) -> int | None:
    """Returns the tokens of pre-training and of all tuning that a checkpoint's parameters have seen.

    None where the number is unknown: of published weights, and of a tuned run whose base did not record it.
    """
    before = identity.get("base_tokens", None if identity.keys() & {"source", "base"} else 0)
    return None if before is None else before + identity["position"]["tokens"]


def weights_identity(record: RunRecord, *, untrained: bool = False) -> str:
    """Returns a text that differs for models that differ: the checksums of the parameters, or the seed of fresh ones.

    Settings of the model are part of it. Raises ValueError where the checkpoint's checksums are damaged.
    """
    parameters = f"fresh ones of seed {record.identity['seed']}" if untrained else fingerprint(record.folder)
    content = json.dumps([parameters, record.identity["model"]], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(content.encode()).hexdigest()


def base_of_adapters(record: RunRecord) -> RunRecord:
    """Reads the metadata of the checkpoint that a run's adapters were trained on.

    Raises FileNotFoundError where it is missing, ValueError where it is another one.
    """
    reference = AdaptedBase.from_json(record.identity["adapters"])
    run = record.folder.parents[1].resolve()
    try:
        base = read_run(Path(os.path.normpath(run / reference.run)), reference.step)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{run} holds adapters of a base run, step {reference.step} of {run / reference.run}: {error}; put the base"
            " back, with this checkpoint"
        ) from None
    reference.require_unchanged(base.folder, record.folder)
    return base


def _checkpoint_of(run: Path, step: int) -> Path:
    latest, steps = latest_checkpoint(run), steps_of(run)
    if step not in steps:
        raise FileNotFoundError(f"{run} holds no checkpoint of step {step}; there are {', '.join(map(str, steps))}")
    return latest.with_name(str(step))
