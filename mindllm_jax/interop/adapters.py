"""Writes the adapters of a run in PEFT's format, with the proof that PEFT computes the same with them.

PEFT only warns about a tensor with a wrong name, and then leaves the adapter at zero: a folder that it loads without an
error may hold nothing. So PEFT itself loads what was written, with its warnings as errors, and logits are compared.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from mindllm_jax.files import write_text
from mindllm_jax.interop.architecture import Architecture, flat
from mindllm_jax.interop.architectures import architecture_of, native_architecture
from mindllm_jax.interop.conformance import TOLERANCE
from mindllm_jax.interop.hugging_face_folder import read_config
from mindllm_jax.interop.new_folder import new_folder
from mindllm_jax.interop.own_design import OWN_DESIGN
from mindllm_jax.interop.safetensors_files import write_tensors
from mindllm_jax.model.decoder import Decoder
from mindllm_jax.model.lora import Lora
from mindllm_jax.parallel.mesh import MeshAxes
from mindllm_jax.parallel.sharding import Sharding
from mindllm_jax.reporting.tables import Table
from mindllm_jax.run_records import installed
from mindllm_jax.training.adapters import AdaptedBase
from mindllm_jax.training.checkpoint import restore_params
from mindllm_jax.training.checksums import PARAMETERS, verify
from mindllm_jax.training.load_run import RunRecord, base_of_adapters, load_decoder, read_run
from mindllm_jax.training.state import abstract_model, placed

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
"""The names of PEFT's files."""

_PREFIX = "base_model.model."  # of a module's path, for the model inside PEFT's
_VERSIONS = ("mindllm-jax", "jax", "torch", "transformers", "peft", "safetensors")
_PROOF_ROWS, _PROOF_TOKENS = 2, 48


def export_adapters(run: Path, output: Path, base: Path, *, step: int | None = None) -> Table:
    """Writes the adapters of a run to a folder, which gets its name only if PEFT computes the same with it.

    Args:
        run: the folder of a run of LoRA.
        output: the folder to write; must be missing or empty.
        base: the folder to which `export_run` wrote the base of the run.
        step: of the run's checkpoint; the latest by default.

    Returns the comparison of the logits.

    Raises:
        OSError: a run or a folder is missing, or cannot be written.
        ValueError: the run has no adapters, or those of a base in four bits, `base` is another model, or PEFT does not
            compute the same.
        ImportError: torch, transformers or PEFT is not installed.
    """
    record = read_run(run, step)
    if "adapters" not in record.identity:
        raise ValueError(f"{run} has no adapters: Convert.run exports its parameters")
    architecture, lora = native_architecture(record.model), AdaptedBase.from_json(record.identity["adapters"]).lora
    if lora.base != "compute":
        raise ValueError(
            f"{run} has adapters of a base in {lora.base}, and PEFT would add them to the unquantized base: Convert.run"
            " exports the model that was trained"
        )
    if architecture_of(read_config(base), base) is not architecture:
        raise ValueError(f"{base} is no {architecture.name}, as the base of {run} is: export that base")
    with new_folder(output) as folder:
        write_adapters(folder, record, architecture, lora, base)
        return _proof(record, folder, base, trust=architecture is OWN_DESIGN)


def write_adapters(folder: Path, record: RunRecord, architecture: Architecture, lora: Lora, base: Path) -> None:
    """Writes PEFT's two files to a folder; A is [r inputs] and B [outputs r] for each module, float32."""
    tensors = dict(_tensors(record, architecture, lora))
    modules = {name.removeprefix(_PREFIX).rsplit(".", 2)[0] for name in tensors}
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": str(base),
        "r": lora.rank,
        "lora_alpha": lora.alpha,
        "lora_dropout": 0.0,
        "target_modules": sorted({module.rsplit(".", 1)[1] for module in modules}),
        "bias": "none",
        "fan_in_fan_out": False,
        "modules_to_save": None,
        "use_rslora": False,
        "inference_mode": True,
    }
    write_tensors(folder / WEIGHTS, tensors)
    write_text(folder / CONFIG, json.dumps(config, indent=1) + "\n")


def _tensors(record: RunRecord, architecture: Architecture, lora: Lora) -> Iterator[tuple[str, np.ndarray]]:
    """Yields PEFT's tensors: those of the module whose weight the adapted parameter is."""
    sharding = Sharding(MeshAxes().build(jax.local_devices()[:1]))
    abstract = abstract_model(record.model, sharding, lora)
    verify(record.folder, PARAMETERS)
    params = restore_params(record.folder, placed(abstract.params, abstract.shardings))
    adapters = {path: np.asarray(jax.device_get(value)) for path, value in flat(params)}
    theirs = {entry.ours: entry for entry in architecture.table}
    for path in sorted({path.rsplit(".", 1)[0] for path in adapters}):
        a, b = adapters[f"{path}.a"], adapters[f"{path}.b"]
        module = theirs[path.removesuffix("_adapter")].theirs.removesuffix(".weight")
        for layer in range(len(a)):
            name = _PREFIX + module.format(layer)
            yield f"{name}.lora_A.weight", np.ascontiguousarray(a[layer].reshape(-1, lora.rank).T)
            yield f"{name}.lora_B.weight", np.ascontiguousarray(b[layer].reshape(lora.rank, -1).T)


def _proof(record: RunRecord, folder: Path, base: Path, *, trust: bool) -> Table:
    """Compares PEFT's logits with ours. Raises ValueError where they differ."""
    model = record.model
    shape = (_PROOF_ROWS, min(_PROOF_TOKENS, model.max_seq_len))
    tokens = np.random.default_rng(0).integers(0, model.vocab_size, shape)
    with jax.default_matmul_precision("float32"):
        ours, untuned = (
            np.asarray(_logits(load_decoder(one).decoder, jnp.asarray(tokens, jnp.int32)), np.float32)
            for one in (record, base_of_adapters(record))
        )
    theirs = _peft_logits(folder, base, tokens, trust=trust)
    limit = TOLERANCE * max(1.0, float(np.abs(ours).max()))
    difference, change = (float(np.abs(ours - other).max()) for other in (theirs, untuned))
    if not difference <= limit:
        raise ValueError(
            f"PEFT with {base} computes logits that differ by {difference:.1e} from ours (limit {limit:.1e}; the "
            f"adapters change them by {change:.1e}): give the exported folder of the adapters' base"
        )
    versions = ", ".join(f"{name} {version}" for name, version in installed(_VERSIONS).items())
    caption = f"Logits in float32 of {tokens.size} tokens, limit {limit:.1e}; {versions}"
    rows = [("PEFT with the adapters", f"{difference:.1e}"), ("ours without the adapters", f"{change:.1e}")]
    return Table(("computed by", "largest difference from ours"), rows, caption)


@nnx.jit
def _logits(decoder: Decoder, tokens: Any) -> Any:
    return decoder.logits(decoder(tokens))


def _peft_logits(folder: Path, base: Path, tokens: np.ndarray, *, trust: bool) -> np.ndarray:
    try:
        import torch
        from peft import PeftModel
        from transformers import AutoModelForCausalLM
    except ImportError:
        raise ImportError(
            "the proof of adapters needs torch, transformers and peft; install mindllm-jax[peft]"
        ) from None
    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, trust_remote_code=trust)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        try:
            adapted: Any = PeftModel.from_pretrained(model, folder).eval()
        except UserWarning as warning:
            raise ValueError(f"PEFT does not take the adapters as they are: {warning}") from None
    with torch.inference_mode():
        return adapted(torch.from_numpy(tokens)).logits.float().numpy()
