"""Writes a run as a Hugging Face folder, with the proof that transformers computes the same."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from mindllm_jax.files import write_bytes, write_text
from mindllm_jax.interop import own_design
from mindllm_jax.interop.architecture import Architecture, Counterpart, Parameters, flat, to_theirs
from mindllm_jax.interop.architectures import native_architecture
from mindllm_jax.interop.conformance import RECORD, check_folder, conformance_table
from mindllm_jax.interop.hugging_face_folder import OUR_TOKENIZER, WEIGHTS
from mindllm_jax.interop.model_card import model_card
from mindllm_jax.interop.new_folder import new_folder
from mindllm_jax.interop.read_weights import FLOATS
from mindllm_jax.interop.safetensors_files import tensors_of, write_tensors
from mindllm_jax.interop.tokenizer import hugging_face_files
from mindllm_jax.model.config import Model
from mindllm_jax.reporting.tables import Table
from mindllm_jax.tokenization.tokenizer import Tokenizer
from mindllm_jax.training.load_run import RunRecord, load_decoder, read_run

MAX_SHARD_BYTES = 2_000_000_000
TABLE = "conformance.md"
_NUMPY = {name: np.dtype(jnp.bfloat16 if name == "bfloat16" else name) for name in FLOATS}


class _Size(NamedTuple):
    """What the library that splits tensors into files has to know of one."""

    bytes: int


def export_run(
    run: Path,
    output: Path,
    *,
    dtype: str | None = None,
    step: int | None = None,
    license: str = "",
    check_on: Sequence[str] = (),
    check_lines: int = 10_000,
    max_shard_bytes: int = MAX_SHARD_BYTES,
) -> Table:
    """Writes the folder, compares it with the run, and gives it its name only if they agree.

    A Llama-shaped or GPT-Neo-shaped model goes out as transformers' own class; every other one with
    modeling_mindllm.py. The float32 parameters are held once, and one shard beside them.

    Args:
        run: the run's folder.
        output: the folder to write; must be missing or empty.
        dtype: of the weights; None: that of the published weights for a run that is an import of them, else float32.
        step: of the checkpoint; the latest by default.
        license: for the model card; "": what published weights that the run began with state.
        check_on, check_lines: documents whose tokens are compared, as in `write_tokenizer`.
        max_shard_bytes: size of a file of weights.

    Returns the table of the comparison.

    Raises:
        OSError: the run is missing, or the folder cannot be written.
        ValueError: the model cannot be exported; the setting is named. Or the exported folder does not compute the
            same; nothing is left in `output`.
        ImportError: the libraries are not installed.
    """
    with new_folder(output) as folder:
        record = read_run(run, step)
        architecture = native_architecture(record.model)
        dtype = dtype or _dtype_of(record)
        _write_weights(folder, architecture, record, dtype, max_shard_bytes)
        _write_settings(folder, architecture, record, dtype)
        result = check_folder(folder, check_on, check_lines)
        table = conformance_table(result)
        write_text(folder / RECORD, json.dumps(result, indent=1, ensure_ascii=False) + "\n")
        write_text(folder / TABLE, table.markdown())
        write_text(folder / "README.md", model_card(run, record, architecture.name, dtype, license, table))
    return table


def _dtype_of(record: RunRecord) -> str:
    is_import = "source" in record.identity and record.identity["step"] == 0 and "base" not in record.identity
    return record.identity["source"]["dtype"] if is_import else "float32"


def _write_weights(
    folder: Path, architecture: Architecture, record: RunRecord, dtype: str, max_shard_bytes: int
) -> None:
    from huggingface_hub import split_state_dict_into_shards_factory

    decoder = load_decoder(record).decoder
    parameters: Parameters = {
        path: np.asarray(jax.device_get(leaf)) for path, leaf in flat(nnx.to_pure_dict(nnx.state(decoder, nnx.Param)))
    }
    del decoder
    rows = {row.name: row for row in architecture.counterparts(record.model)}
    sizes = {name: _Size(int(np.prod(row.shape)) * _NUMPY[dtype].itemsize) for name, row in rows.items()}
    split = split_state_dict_into_shards_factory(
        sizes,
        get_storage_size=lambda size: size.bytes,
        filename_pattern="model{suffix}.safetensors",
        max_shard_size=max_shard_bytes,
    )
    for file, names in split.filename_to_tensors.items():
        shard = {name: _exported(parameters, rows[name], dtype) for name in names}
        write_tensors(folder / file, shard)
        _require_equal(folder / file, shard)
    if split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        write_text(folder / f"{WEIGHTS[0]}.index.json", json.dumps(index, indent=1) + "\n")


def _exported(parameters: Parameters, row: Counterpart, dtype: str) -> np.ndarray:
    value = parameters[row.path]
    part = to_theirs(value if row.layer is None else value[row.layer], row)
    with np.errstate(over="ignore"):
        tensor = np.ascontiguousarray(part, _NUMPY[dtype])
    if not np.isfinite(tensor).all():
        raise ValueError(
            f"{row.name} holds values that are infinite or no numbers in {dtype}: "
            + ("the run's parameters are" if not np.isfinite(part).all() else "set Convert.dtype = 'bfloat16'")
        )
    return tensor


def _require_equal(file: Path, shard: Mapping[str, np.ndarray]) -> None:
    """Raises OSError where a file that was just written does not hold the tensors, bit by bit."""
    stored = tensors_of(file)
    for name, tensor in shard.items():
        if name not in stored or stored[name].read().tobytes() != tensor.tobytes():
            raise OSError(f"{file}: {name} reads back as another tensor; the disk or its driver is at fault")


def _write_settings(folder: Path, architecture: Architecture, record: RunRecord, dtype: str) -> None:
    model, tokenizer = record.model, record.tokenizer
    tokens = _special_ids(tokenizer)
    config = architecture.config(model) | {"tie_word_embeddings": model.tied, "dtype": dtype} | tokens
    write_text(folder / "config.json", json.dumps(config, indent=1) + "\n")
    write_text(folder / "generation_config.json", json.dumps(_generation(tokens, model, tokenizer), indent=1) + "\n")
    for name, content in hugging_face_files(tokenizer, model_max_length=model.max_seq_len).items():
        write_text(folder / name, content)
    write_bytes(folder / OUR_TOKENIZER, tokenizer.model)
    if architecture is own_design.OWN_DESIGN:
        write_bytes(folder / own_design.FILE.name, own_design.FILE.read_bytes())


def _special_ids(tokenizer: Tokenizer) -> dict[str, Any]:
    ends = list(tokenizer.ends)
    return {
        "bos_token_id": tokenizer.symbols.get(tokenizer.special_tokens.get("bos_token", ""), tokenizer.doc_id),
        "eos_token_id": ends[0] if len(ends) == 1 else ends,
        "pad_token_id": tokenizer.pad_id,
    }


def _generation(tokens: Mapping[str, Any], model: Model, tokenizer: Tokenizer) -> dict[str, Any]:
    # Rows of a vocabulary that is larger than the tokenizer's have no piece.
    padding = list(range(tokenizer.vocab_size, model.vocab_size))
    settings = {**tokens, "max_length": model.max_seq_len, "do_sample": False}
    return settings | ({"suppress_tokens": padding} if padding else {})
