"""The proof that an exported folder is what it was exported from: transformers and our decoder compute the same logits.

Both read the same folder, each with its own code, in float32. Our decoder goes first and leaves its logits, so that the
model is in memory once at a time.
"""

from __future__ import annotations

import dataclasses
import gc
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from mindllm_jax.interop import own_design
from mindllm_jax.interop.architecture import nested
from mindllm_jax.interop.architectures import architecture_of
from mindllm_jax.interop.conformance_texts import TEXTS
from mindllm_jax.interop.hugging_face_folder import read_config
from mindllm_jax.interop.read_weights import read_model, read_parameters
from mindllm_jax.interop.sources import opened
from mindllm_jax.interop.tokenizer_check import compare_all
from mindllm_jax.model.config import Model
from mindllm_jax.model.decoder import Decoder
from mindllm_jax.parallel.mesh import MeshAxes
from mindllm_jax.parallel.sharding import Sharding
from mindllm_jax.reporting.tables import Table
from mindllm_jax.run_records import installed
from mindllm_jax.tokenization.tokenizer import Tokenizer
from mindllm_jax.training.state import abstract_model

RECORD = "conformance.json"
TOLERANCE = 1e-4
"""The largest difference of logits in float32, times the largest logit where that is above 1."""

_LONG_ROW = 256  # tokens, where no window and no short model asks for another length
_DECODED = 8  # tokens that are decoded one by one behind a cache
_VERSIONS = ("mindllm-jax", "jax", "flax", "torch", "transformers", "tokenizers", "safetensors", "huggingface-hub")

Logits = list[np.ndarray]
"""Float32 [T V] of each row."""


def check_folder(folder: Path, check_on: Sequence[str] = (), check_lines: int = 10_000) -> dict[str, Any]:
    """Compares transformers with our decoder on a folder of weights, and returns the result as JSON values.

    Rows: short texts alone, in one batch padded on the left, and one row longer than the windows; eager attention, and
    sdpa where the class has it; with a cache and without. The tokenizers are compared on difficult texts, all pieces
    and `check_on`.

    Args:
        folder: an exported folder, or any other of an architecture that can be read.
        check_on, check_lines: documents whose tokens are compared, as in `write_tokenizer`.

    Raises:
        OSError: a file is missing.
        ValueError: logits or ids differ by more than the tolerance, or a file is damaged. Code in the folder is
            executed only if it is this version's modeling_mindllm.py, and refused otherwise.
        ImportError: torch or transformers is not installed.
    """
    config = read_config(folder)
    architecture = architecture_of(config, folder)
    is_own = architecture is own_design.OWN_DESIGN
    if is_own:
        _require_own_code(folder)
    tokenizer, model, rows, ours, cached = _our_logits(folder)
    limit = TOLERANCE * max(1.0, float(np.max([np.abs(row).max() for row in ours])))
    results = [_compared("ours, cache", ours[-1:], [cached], limit)]
    for name, theirs in _their_logits(folder, tokenizer, rows, trust=is_own):
        results.append(_compared(name, ours[-1:] if name.endswith("cache") else ours, theirs, limit))
    result = {
        "architecture": architecture.name,
        "model": dataclasses.asdict(model),
        "dtype": "float32",
        "limit": limit,
        "rows": [len(row) for row in rows],
        "logits": results,
        "versions": installed(_VERSIONS),
    }
    if any(not row["max_difference"] <= limit for row in results):
        raise ValueError(
            f"{architecture.name} of transformers does not compute the same as our decoder (limit {limit:.1e}):\n"
            f"{conformance_table(result).markdown()}"
        )
    compared = compare_all(tokenizer, folder, check_on, check_lines)
    return result | {"tokens": {name: figures._asdict() for name, figures in compared.items()}}


def conformance_table(result: Mapping[str, Any]) -> Table:
    """Returns the comparison of `check_folder` as a table."""
    rows = [
        [row["name"], row["tokens"], f"{row['max_difference']:.1e}", f"{row['kl']:.1e}", row["equal_argmax"]]
        for row in result["logits"]
    ]
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    lines = sum(figures["lines"] for figures in result.get("tokens", {}).values())
    caption = (
        f"{result['architecture']}: logits in float32 against ours without a cache, limit {result['limit']:.1e}; "
        f"ids of {lines:,} texts are equal; {versions}"
    )
    return Table(("computed by", "tokens", "largest difference", "KL", "equal argmax"), rows, caption)


def _require_own_code(folder: Path) -> None:
    path = folder / own_design.FILE.name
    if not path.is_file() or path.read_bytes() != own_design.FILE.read_bytes():
        raise ValueError(
            f"{path} is not the file of this version of mindllm-jax, and code of a folder is not executed unseen: "
            f"compare it with {own_design.FILE}, and copy that one over it"
        )


def _our_logits(folder: Path) -> tuple[Tokenizer, Model, list[np.ndarray], Logits, np.ndarray]:
    """Returns tokenizer, model, rows of ids, their logits by our decoder, and the last row's with a cache."""
    with opened(folder) as source:
        model = dataclasses.replace(read_model(source), compute_dtype="float32")
        tokenizer = Tokenizer(folder, source.read_tokenizer())
        parameters = read_parameters(source, model)
    params = {path: jnp.asarray(parameters.pop(path)) for path in list(parameters)}
    rows = _rows(tokenizer, model)
    sharding = Sharding(MeshAxes().build(jax.local_devices()[:1]))
    decoder = abstract_model(model, sharding).decoder(nested(params))
    with jax.default_matmul_precision("float32"):  # an accelerator's default is less
        logits = [_forward(decoder, row) for row in rows]
        return tokenizer, model, rows, logits, _forward_cached(decoder, rows[-1])


def _rows(tokenizer: Tokenizer, model: Model) -> list[np.ndarray]:
    """Returns the ids of each text, and of all of them in one row that is longer than the windows."""
    texts = [ids[: model.max_seq_len] for ids in tokenizer.encode_batch(TEXTS)]
    window = max((window for window in model.windows if window is not None), default=0)
    length = min(model.max_seq_len, max(_LONG_ROW, 2 * window + 64))
    return [*texts, np.resize(np.concatenate(texts), length)]


@nnx.jit
def _apply(decoder: Decoder, tokens: Any) -> Any:
    return decoder.logits(decoder(tokens))


@nnx.jit
def _extend(decoder: Decoder, tokens: Any, cache: Any) -> Any:
    hidden, cache = decoder.decode(tokens, cache)
    return decoder.logits(hidden), cache


def _forward(decoder: Decoder, row: np.ndarray) -> np.ndarray:
    # Tokens behind a row change nothing before them, and rows of few lengths compile few programs.
    length = min(-(-len(row) // 64) * 64, decoder.config.max_seq_len)
    return np.asarray(_apply(decoder, jnp.asarray(np.pad(row, (0, length - len(row)))[None])))[0, : len(row)]


def _forward_cached(decoder: Decoder, row: np.ndarray) -> np.ndarray:
    start = max(len(row) - _DECODED, 1)
    logits, cache = _extend(decoder, jnp.asarray(row[None, :start]), decoder.new_cache(1, len(row)))
    parts = [np.asarray(logits)[0]]
    for place in range(start, len(row)):
        logits, cache = _extend(decoder, jnp.asarray(row[None, place : place + 1]), cache)
        parts.append(np.asarray(logits)[0])
    return np.concatenate(parts)


def _their_logits(
    folder: Path, tokenizer: Tokenizer, rows: Sequence[np.ndarray], *, trust: bool
) -> Iterator[tuple[str, Logits]]:
    """Yields the logits of the rows by transformers under the name of each way to compute them."""
    try:
        import torch
        from transformers import AutoModelForCausalLM
    except ImportError:
        raise ImportError("the proof of an export needs torch and transformers; install mindllm-jax[interop]") from None
    gc.collect()
    model: Any = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", trust_remote_code=trust
    ).eval()
    with torch.inference_mode():
        for kind in ("eager", "sdpa") if model._supports_sdpa else ("eager",):
            model.set_attn_implementation(kind)
            yield f"transformers, {kind}", [_numpy(model(_ids(row)).logits[0]) for row in rows]
            yield f"transformers, {kind}, padded batch", _padded(model, rows[:-1], tokenizer.pad_id)
            yield f"transformers, {kind}, cache", [_their_cached(model, rows[-1])]


def _padded(model: Any, rows: Sequence[np.ndarray], pad: int) -> Logits:
    import torch

    longest = max(map(len, rows))
    ids = np.stack([np.pad(row, (longest - len(row), 0), constant_values=pad) for row in rows])
    mask = np.stack([np.arange(longest) >= longest - len(row) for row in rows]).astype(np.int64)
    positions = torch.from_numpy(np.maximum(mask.cumsum(-1) - 1, 0))
    batch = torch.from_numpy(ids.astype(np.int64))
    logits = model(batch, attention_mask=torch.from_numpy(mask), position_ids=positions).logits
    return [_numpy(one[longest - len(row) :]) for one, row in zip(logits, rows, strict=True)]


def _their_cached(model: Any, row: np.ndarray) -> np.ndarray:
    start = max(len(row) - _DECODED, 1)
    out = model(_ids(row[:start]), use_cache=True)
    parts = [_numpy(out.logits[0])]
    for place in range(start, len(row)):
        out = model(_ids(row[place : place + 1]), past_key_values=out.past_key_values, use_cache=True)
        parts.append(_numpy(out.logits[0]))
    return np.concatenate(parts)


def _ids(row: np.ndarray) -> Any:
    import torch

    return torch.from_numpy(row.astype(np.int64))[None]


def _numpy(logits: Any) -> np.ndarray:
    return logits.float().numpy()


def _compared(name: str, ours: Logits, theirs: Logits, limit: float) -> dict[str, Any]:
    """Returns the largest difference, the mean KL divergence from ours, and the share of equal argmax."""
    pairs = list(zip(ours, theirs, strict=False))  # a batch leaves out the long row, which is last
    tokens = sum(len(mine) for mine, _ in pairs)
    largest = float(np.max([np.abs(mine - other).max() for mine, other in pairs]))  # NaN if one is
    divergence = sum(float(_kl(mine, other)) for mine, other in pairs) / tokens
    equal = sum(int((mine.argmax(-1) == other.argmax(-1)).sum()) for mine, other in pairs) / tokens
    return {
        "name": name,
        "tokens": tokens,
        "max_difference": largest,
        "kl": divergence,
        "equal_argmax": equal,
        "passed": largest <= limit,
    }


def _kl(mine: np.ndarray, other: np.ndarray) -> float:
    left, right = (_log_softmax(x) for x in (mine, other))
    return (np.exp(left) * (left - right)).sum()


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    wide = logits.astype(np.float64)
    wide -= wide.max(-1, keepdims=True)
    return wide - np.log(np.exp(wide).sum(-1, keepdims=True))
