"""Llama: pre-norm RMSNorm, SwiGLU, RoPE, grouped key-value heads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mindllm_jax.interop.architecture import HEAD, Architecture, Entry, Fields, require_settings
from mindllm_jax.model.config import Bias, Model

NAME = "LlamaForCausalLM"
_LAYER = "model.layers.{}."
_DESIGN: dict[str, Any] = {
    "positions": "rope", "norm": "rmsnorm", "residual": "pre_norm", "mlp": "swiglu", "windows": (None,),
    "attention_scale": None,
}  # fmt: skip
_ATTENTION_BIASES: tuple[Bias, ...] = ("query_key_value", "attention_out")


def _model(config: Mapping[str, Any]) -> Model:
    fields = Fields(config)
    fields.require("hidden_act", "silu")
    for name in ("quantization_config", "sliding_window"):
        fields.require(name)
    for name in ("attention_bias", "mlp_bias"):
        fields.require(name, True, False)
    attention = _ATTENTION_BIASES if config.get("attention_bias") else ()
    mlp: tuple[Bias, ...] = ("mlp",) if config.get("mlp_bias") else ()
    heads = fields.integer("num_attention_heads")
    width = fields.integer("hidden_size")
    return Model(
        vocab_size=fields.integer("vocab_size"),
        layers=fields.integer("num_hidden_layers"),
        width=width,
        heads=heads,
        kv_heads=fields.integer("num_key_value_heads", heads),
        head_dim=fields.integer("head_dim", width // max(heads, 1)),
        mlp_dim=fields.integer("intermediate_size"),
        max_seq_len=fields.integer("max_position_embeddings", 2048),
        norm_epsilon=fields.number("rms_norm_eps", 1e-6),
        rope_theta=fields.rope_theta(),
        biases=(*attention, *mlp),
        **_DESIGN,
    )


def _config(model: Model) -> dict[str, Any]:
    require_settings(model, NAME, _DESIGN)
    attention = set(model.biases) & set(_ATTENTION_BIASES)
    if attention and len(attention) < len(_ATTENTION_BIASES):
        raise ValueError(f"not {NAME}: Model.biases = {model.biases}: it has both biases of attention, or neither")
    return {
        "architectures": [NAME],
        "model_type": "llama",
        "vocab_size": model.vocab_size,
        "num_hidden_layers": model.layers,
        "hidden_size": model.width,
        "num_attention_heads": model.heads,
        "num_key_value_heads": model.key_heads,
        "head_dim": model.head_dim,
        "intermediate_size": model.mlp_dim,
        "max_position_embeddings": model.max_seq_len,
        "rms_norm_eps": model.norm_epsilon,
        "rope_parameters": {"rope_type": "default", "rope_theta": model.rope_theta},
        "rope_theta": model.rope_theta,  # for readers older than rope_parameters
        "hidden_act": "silu",
        "attention_bias": bool(attention),
        "mlp_bias": "mlp" in model.biases,
    }


ATTENTION = (
    Entry(_LAYER + "self_attn.q_proj.weight", "blocks.attention.query", 1),
    Entry(_LAYER + "self_attn.k_proj.weight", "blocks.attention.key", 1),
    Entry(_LAYER + "self_attn.v_proj.weight", "blocks.attention.value", 1),
    Entry(_LAYER + "self_attn.o_proj.weight", "blocks.attention.out", 2),
    Entry(_LAYER + "self_attn.q_proj.bias", "blocks.attention.query_bias"),
    Entry(_LAYER + "self_attn.k_proj.bias", "blocks.attention.key_bias"),
    Entry(_LAYER + "self_attn.v_proj.bias", "blocks.attention.value_bias"),
    Entry(_LAYER + "self_attn.o_proj.bias", "blocks.attention.out_bias"),
)
MLP = (
    Entry(_LAYER + "mlp.gate_proj.weight", "blocks.mlp.gate", 1),
    Entry(_LAYER + "mlp.up_proj.weight", "blocks.mlp.up", 1),
    Entry(_LAYER + "mlp.down_proj.weight", "blocks.mlp.down", 1),
    Entry(_LAYER + "mlp.gate_proj.bias", "blocks.mlp.gate_bias"),
    Entry(_LAYER + "mlp.up_proj.bias", "blocks.mlp.up_bias"),
    Entry(_LAYER + "mlp.down_proj.bias", "blocks.mlp.down_bias"),
)
"""The tensors of the two branches of a block; our own design has them by the same names."""

LLAMA = Architecture(
    name=NAME,
    table=(
        Entry("model.embed_tokens.weight", "embedding"),
        Entry(_LAYER + "input_layernorm.weight", "blocks.attention_norm.scale"),
        *ATTENTION,
        Entry(_LAYER + "post_attention_layernorm.weight", "blocks.mlp_norm.scale"),
        *MLP,
        Entry("model.norm.weight", "final_norm.scale"),
        Entry("lm_head.weight", HEAD, 1),
    ),
    head="lm_head.weight",
    ignored=r"model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq",
    model=_model,
    config=_config,
)
