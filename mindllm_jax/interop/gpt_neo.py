"""GPT-Neo, which the published MindLLM-1.3B is: learned positions, local windows, unscaled attention, LayerNorm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mindllm_jax.interop.architecture import HEAD, Architecture, Entry, Fields, require_settings, shortest_pattern
from mindllm_jax.model.config import Bias, Model

NAME = "GPTNeoForCausalLM"
_LAYER = "transformer.h.{}."
_ATTENTION = _LAYER + "attn.attention."
_BIASES: tuple[Bias, ...] = ("attention_out", "mlp")
_DESIGN: dict[str, Any] = {
    "positions": "learned", "norm": "layernorm", "residual": "pre_norm", "mlp": "gelu", "attention_scale": 1.0,
}  # fmt: skip


def _model(config: Mapping[str, Any]) -> Model:
    fields = Fields(config)
    fields.require("activation_function", "gelu_new")
    fields.require("quantization_config")
    width, heads = fields.integer("hidden_size", 2048), fields.integer("num_heads", 16)
    layers = fields.integer("num_layers", 24)
    return Model(
        vocab_size=fields.integer("vocab_size"),
        layers=layers,
        width=width,
        heads=heads,
        head_dim=width // max(heads, 1),
        mlp_dim=fields.integer("intermediate_size", 4 * width),
        max_seq_len=fields.integer("max_position_embeddings", 2048),
        norm_epsilon=fields.number("layer_norm_epsilon", 1e-5),
        windows=_windows(config.get("attention_types"), fields.integer("window_size", 256), layers),
        biases=_BIASES,
        **_DESIGN,
    )


def _windows(types: Any, size: int, layers: int) -> tuple[int | None, ...]:
    """Returns the shortest pattern of windows that attention_types ([[["global", "local"], 12]]) spells."""
    try:
        kinds = [kind for pattern, times in types or [[["global", "local"], layers // 2]] for kind in pattern * times]
        windows = tuple({"global": None, "local": size}[kind] for kind in kinds)
    except (TypeError, ValueError, KeyError):
        raise ValueError(
            f'config.json: attention_types = {types!r}: a list like [[["global", "local"], 12]] is expected'
        ) from None
    if len(windows) != layers:
        raise ValueError(f"config.json: attention_types names {len(windows)} layers, num_layers {layers}")
    return shortest_pattern(windows)


def _config(model: Model) -> dict[str, Any]:
    require_settings(model, NAME, {**_DESIGN, "head_dim": model.width // model.heads, "key_heads": model.heads})
    sizes = {window for window in model.windows if window is not None}
    if len(sizes) > 1:
        raise ValueError(f"not {NAME}: Model.windows = {model.windows}: it has windows of one size")
    if set(model.biases) != set(_BIASES):
        raise ValueError(f"not {NAME}: Model.biases = {model.biases}, not {_BIASES}")
    kinds = ["global" if window is None else "local" for window in model.windows]
    return {
        "architectures": [NAME],
        "model_type": "gpt_neo",
        "vocab_size": model.vocab_size,
        "num_layers": model.layers,
        "hidden_size": model.width,
        "num_heads": model.heads,
        "intermediate_size": model.mlp_dim,
        "max_position_embeddings": model.max_seq_len,
        "layer_norm_epsilon": model.norm_epsilon,
        "attention_types": [[kinds, model.layers // len(kinds)]],
        "window_size": next(iter(sizes), 256),
        "activation_function": "gelu_new",
        "attention_dropout": 0.0,
        "embed_dropout": 0.0,
        "resid_dropout": 0.0,
    }


GPT_NEO = Architecture(
    name=NAME,
    table=(
        Entry("transformer.wte.weight", "embedding"),
        Entry("transformer.wpe.weight", "positions"),
        Entry(_LAYER + "ln_1.weight", "blocks.attention_norm.scale"),
        Entry(_LAYER + "ln_1.bias", "blocks.attention_norm.bias"),
        Entry(_ATTENTION + "q_proj.weight", "blocks.attention.query", 1),
        Entry(_ATTENTION + "k_proj.weight", "blocks.attention.key", 1),
        Entry(_ATTENTION + "v_proj.weight", "blocks.attention.value", 1),
        Entry(_ATTENTION + "out_proj.weight", "blocks.attention.out", 2),
        Entry(_ATTENTION + "out_proj.bias", "blocks.attention.out_bias"),
        Entry(_LAYER + "ln_2.weight", "blocks.mlp_norm.scale"),
        Entry(_LAYER + "ln_2.bias", "blocks.mlp_norm.bias"),
        Entry(_LAYER + "mlp.c_fc.weight", "blocks.mlp.up", 1),
        Entry(_LAYER + "mlp.c_fc.bias", "blocks.mlp.up_bias"),
        Entry(_LAYER + "mlp.c_proj.weight", "blocks.mlp.down", 1),
        Entry(_LAYER + "mlp.c_proj.bias", "blocks.mlp.down_bias"),
        Entry("transformer.ln_f.weight", "final_norm.scale"),
        Entry("transformer.ln_f.bias", "final_norm.bias"),
        Entry("lm_head.weight", HEAD, 1),
    ),
    head="lm_head.weight",
    ignored=r"transformer\.h\.\d+\.attn\.attention\.(bias|masked_bias)",
    model=_model,
    config=_config,
)
