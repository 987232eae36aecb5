"""MindLLM's own design and every relative of it that `Model` spells, for the class in modeling_mindllm.py."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mindllm_jax.interop.architecture import HEAD, Architecture, Entry, Fields, shortest_pattern
from mindllm_jax.interop.llama import ATTENTION, MLP
from mindllm_jax.model.config import Model

NAME = "MindLLMForCausalLM"
MODULE = "modeling_mindllm"
FILE = Path(__file__).with_name(f"{MODULE}.py")
"""The file that is copied into an exported folder."""

_LAYER = "model.layers.{}."
_CHOICES = {  # fields of the same name and values on both sides
    "positions": ("rope", "learned"),
    "norm": ("rmsnorm", "layernorm"),
    "residual": ("deepnorm", "pre_norm", "post_norm"),
    "mlp": ("geglu", "swiglu", "gelu"),
}
_SIZES = {
    "vocab_size": "vocab_size",
    "layers": "num_hidden_layers",
    "width": "hidden_size",
    "heads": "num_attention_heads",
    "kv_heads": "num_key_value_heads",
    "head_dim": "head_dim",
    "mlp_dim": "intermediate_size",
    "max_seq_len": "max_position_embeddings",
}


def _model(config: Mapping[str, Any]) -> Model:
    fields = Fields(config)
    for name, values in _CHOICES.items():
        fields.require(name, *values)
    scale = config.get("attention_scale")
    sizes: dict[str, Any] = {ours: fields.integer(theirs) for ours, theirs in _SIZES.items()}
    choices: dict[str, Any] = {name: config[name] for name in _CHOICES if config.get(name) is not None}
    return Model(
        **sizes,
        **choices,
        norm_epsilon=fields.number("norm_epsilon", 1e-5),
        rope_theta=fields.rope_theta(),
        windows=_windows(config.get("layer_types"), config.get("sliding_window")),
        attention_scale=None if scale is None else fields.number("attention_scale", 1.0),
        biases=tuple(config.get("biases") or ()),
    )


def _windows(kinds: Any, size: Any) -> tuple[int | None, ...]:
    return shortest_pattern(
        tuple(size if kind == "sliding_attention" else None for kind in kinds or ["full_attention"])
    )


def _config(model: Model) -> dict[str, Any]:
    sizes = {window for window in model.windows if window is not None}
    if len(sizes) > 1:
        raise ValueError(
            f"Model.windows = {model.windows} cannot be exported: {MODULE}.py has windows of one size, as the masks of "
            "transformers"
        )
    settings = dataclasses.asdict(model) | {"kv_heads": model.key_heads}
    pattern = ["full_attention" if window is None else "sliding_attention" for window in model.windows]
    return {
        "architectures": [NAME],
        "model_type": "mindllm",
        "auto_map": {
            "AutoConfig": f"{MODULE}.MindLLMConfig",
            "AutoModel": f"{MODULE}.MindLLMModel",
            "AutoModelForCausalLM": f"{MODULE}.{NAME}",
        },
        **{theirs: settings[ours] for ours, theirs in _SIZES.items()},
        **{name: settings[name] for name in _CHOICES},
        "norm_epsilon": model.norm_epsilon,
        "rope_parameters": {"rope_type": "default", "rope_theta": model.rope_theta},
        "layer_types": pattern * (model.layers // len(pattern)),
        "sliding_window": next(iter(sizes), None),
        "attention_scale": model.attention_scale,
        "biases": list(model.biases),
    }


OWN_DESIGN = Architecture(
    name=NAME,
    table=(
        Entry("model.embed_tokens.weight", "embedding"),
        Entry("model.embed_positions.weight", "positions"),
        *ATTENTION,
        Entry(_LAYER + "attention_norm.weight", "blocks.attention_norm.scale"),
        Entry(_LAYER + "attention_norm.bias", "blocks.attention_norm.bias"),
        *MLP,
        Entry(_LAYER + "mlp_norm.weight", "blocks.mlp_norm.scale"),
        Entry(_LAYER + "mlp_norm.bias", "blocks.mlp_norm.bias"),
        Entry("model.norm.weight", "final_norm.scale"),
        Entry("model.norm.bias", "final_norm.bias"),
        Entry("lm_head.weight", HEAD, 1),
    ),
    head="lm_head.weight",
    ignored=r"(?!)",
    model=_model,
    config=_config,
)
