"""MindLLM's decoder for transformers 5, with its choices of norm, residual scheme, feed-forward and positions.

This file is copied into an exported folder and needs torch and transformers alone:

    model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)

A block adds attention and feed-forward f to the stream x, by `config.residual`:

    deepnorm    x <- norm(alpha * x + f(x)),  alpha = (2 * layers)^(1/4)
    post_norm   x <- norm(x + f(x))
    pre_norm    x <- x + f(norm(x)), and one norm after the last block
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import DynamicCache, GenerationMixin, PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.masking_utils import create_causal_mask, create_sliding_window_causal_mask
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.utils.generic import can_return_tuple

MASKS = {"full_attention": create_causal_mask, "sliding_attention": create_sliding_window_causal_mask}


class MindLLMConfig(PreTrainedConfig):
    """Shape and parts of the decoder; defaults are those of the smallest model of the project."""

    model_type = "mindllm"
    keys_to_ignore_at_inference = ("past_key_values",)
    base_model_tp_plan = {  # noqa: RUF012
        "layers.*.self_attn.q_proj": "colwise",
        "layers.*.self_attn.k_proj": "colwise",
        "layers.*.self_attn.v_proj": "colwise",
        "layers.*.self_attn.o_proj": "rowwise",
        "layers.*.mlp.gate_proj": "colwise",
        "layers.*.mlp.up_proj": "colwise",
        "layers.*.mlp.down_proj": "rowwise",
    }

    vocab_size: int = 8192
    hidden_size: int = 256
    num_hidden_layers: int = 6
    num_attention_heads: int = 4
    num_key_value_heads: Any = None  # int; None: num_attention_heads
    head_dim: int = 64
    intermediate_size: int = 768
    max_position_embeddings: int = 512
    positions: str = "rope"  # or "learned"
    rope_parameters: Any = None  # {"rope_type": "default", "rope_theta": 10000.0}
    norm: str = "rmsnorm"  # or "layernorm"
    norm_epsilon: float = 1e-5
    residual: str = "deepnorm"  # or "post_norm", "pre_norm"
    mlp: str = "geglu"  # or "swiglu", "gelu" (not gated)
    biases: Any = None  # list of "query_key_value", "attention_out", "mlp"
    layer_types: Any = None  # list: per layer "full_attention" or "sliding_attention"
    sliding_window: int | None = None  # tokens that a query of a sliding layer sees, itself included
    attention_scale: float | None = None  # None: head_dim^(-1/2)
    initializer_range: float = 0.02
    use_cache: bool = True
    tie_word_embeddings: bool = False

    def __post_init__(self, **kwargs: Any) -> None:
        self.num_key_value_heads = self.num_key_value_heads or self.num_attention_heads
        self.rope_parameters = self.rope_parameters or {"rope_type": "default", "rope_theta": 10_000.0}
        self.layer_types = self.layer_types or ["full_attention"] * self.num_hidden_layers
        self.biases = self.biases or []
        super().__post_init__(**kwargs)


class MindLLMNorm(nn.Module):
    """RMSNorm, or LayerNorm where the configuration says so; statistics and scale in float32."""

    def __init__(self, config: MindLLMConfig):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(config.hidden_size))
        self.bias = nn.Parameter(torch.zeros(config.hidden_size)) if config.norm == "layernorm" else None
        self.epsilon = config.norm_epsilon

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        wide = x.float()
        if self.bias is not None:
            wide = wide - wide.mean(-1, keepdim=True)
        wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.epsilon) * self.weight.float()
        return (wide if self.bias is None else wide + self.bias.float()).to(x.dtype)


class MindLLMRotaryEmbedding(nn.Module):
    """Cosine and sine [B T 1 H/2] of the angles of positions [B T]; no buffer, so that nothing has to be loaded."""

    def __init__(self, config: MindLLMConfig):
        super().__init__()
        size, theta = config.head_dim, config.rope_parameters["rope_theta"]
        self.frequencies = [theta ** (-index / size) for index in range(0, size, 2)]

    def forward(self, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        frequencies = torch.tensor(self.frequencies, dtype=torch.float32, device=positions.device)
        angles = positions[:, :, None, None].float() * frequencies
        return angles.cos(), angles.sin()


def rotate(x: torch.Tensor, angles: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """Rotates the pairs (x_i, x_{i+H/2}) of x [B T N H]."""
    cos, sin = angles
    first, second = x.float().chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1).to(x.dtype)


def eager_attention(
    module: MindLLMAttention,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    **kwargs: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention from [B N T H] over [B K S H] to [B T N H] by plain products; also returns the weights [B N T S]."""
    key, value = (x.repeat_interleave(module.num_key_value_groups, dim=1) for x in (key, value))
    scores = query @ key.transpose(2, 3) * scaling
    if attention_mask is not None:
        scores = scores + attention_mask
    weights = functional.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
    return (weights @ value).transpose(1, 2).contiguous(), weights


class MindLLMAttention(nn.Module):
    """Causal attention with grouped key-value heads, over all earlier tokens or a window of them."""

    def __init__(self, config: MindLLMConfig, layer_idx: int):
        super().__init__()
        self.config, self.layer_idx, self.head_dim = config, layer_idx, config.head_dim
        self.num_key_value_groups = config.num_attention_heads // config.num_key_value_heads
        self.scaling = config.head_dim**-0.5 if config.attention_scale is None else config.attention_scale
        sliding = config.layer_types[layer_idx] == "sliding_attention"
        self.sliding_window = config.sliding_window if sliding else None
        self.is_causal = True
        width, heads, kv_heads = config.hidden_size, config.num_attention_heads, config.num_key_value_heads
        bias = "query_key_value" in config.biases
        self.q_proj = nn.Linear(width, heads * self.head_dim, bias=bias)
        self.k_proj = nn.Linear(width, kv_heads * self.head_dim, bias=bias)
        self.v_proj = nn.Linear(width, kv_heads * self.head_dim, bias=bias)
        self.o_proj = nn.Linear(heads * self.head_dim, width, bias="attention_out" in config.biases)

    def forward(
        self,
        x: torch.Tensor,
        angles: tuple[torch.Tensor, torch.Tensor] | None,
        attention_mask: torch.Tensor | None,
        past_key_values: Any | None,
        **kwargs: Any,
    ) -> torch.Tensor:
        shape = (*x.shape[:-1], -1, self.head_dim)
        query, key, value = self.q_proj(x).view(shape), self.k_proj(x).view(shape), self.v_proj(x).view(shape)
        if angles is not None:
            query, key = rotate(query, angles), rotate(key, angles)
        query, key, value = query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)
        if past_key_values is not None:
            key, value = past_key_values.update(key, value, self.layer_idx)
        attend: Callable[..., Any] = ALL_ATTENTION_FUNCTIONS.get_interface(
            self.config._attn_implementation or "eager", eager_attention
        )
        out, _ = attend(
            self,
            query,
            key,
            value,
            attention_mask,
            dropout=0.0,
            scaling=self.scaling,
            sliding_window=self.sliding_window,
            **kwargs,
        )
        return self.o_proj(out.reshape(*x.shape[:-1], -1).contiguous())


class MindLLMMLP(nn.Module):
    """GeGLU, SwiGLU, or two layers with GELU (the tanh approximation)."""

    def __init__(self, config: MindLLMConfig):
        super().__init__()
        width, hidden, bias = config.hidden_size, config.intermediate_size, "mlp" in config.biases
        self.gate_proj = nn.Linear(width, hidden, bias=bias) if config.mlp != "gelu" else None
        self.up_proj = nn.Linear(width, hidden, bias=bias)
        self.down_proj = nn.Linear(hidden, width, bias=bias)
        self.silu = config.mlp == "swiglu"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        up = self.up_proj(x)
        first = up if self.gate_proj is None else self.gate_proj(x)
        active = functional.silu(first) if self.silu else functional.gelu(first, approximate="tanh")
        return self.down_proj(active if self.gate_proj is None else active * up)


class MindLLMDecoderLayer(GradientCheckpointingLayer):
    """Attention and feed-forward, each added to the residual stream."""

    def __init__(self, config: MindLLMConfig, layer_idx: int):
        super().__init__()
        self.self_attn = MindLLMAttention(config, layer_idx)
        self.mlp = MindLLMMLP(config)
        self.attention_norm = MindLLMNorm(config)
        self.mlp_norm = MindLLMNorm(config)
        self.norm_first = config.residual == "pre_norm"
        self.alpha = (2 * config.num_hidden_layers) ** 0.25 if config.residual == "deepnorm" else 1.0

    def forward(self, hidden_states: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        x = self._add(self.attention_norm, lambda h: self.self_attn(h, **kwargs), hidden_states)
        return self._add(self.mlp_norm, self.mlp, x)

    def _add(self, norm: nn.Module, branch: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        return x + branch(norm(x)) if self.norm_first else norm(self.alpha * x + branch(x))


class MindLLMPreTrainedModel(PreTrainedModel):
    """Base class of both models: what they support, and initial values."""

    config_class = MindLLMConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _no_split_modules = ["MindLLMDecoderLayer"]  # noqa: RUF012
    _skip_keys_device_placement = ["past_key_values"]  # noqa: RUF012
    _supports_flash_attn = True
    _supports_sdpa = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, MindLLMNorm):
            init.ones_(module.weight)
            if module.bias is not None:
                init.zeros_(module.bias)
        else:
            super()._init_weights(module)


class MindLLMModel(MindLLMPreTrainedModel):
    """The decoder without its loss head."""

    def __init__(self, config: MindLLMConfig):
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        learned, size = config.positions == "learned", config.max_position_embeddings
        self.embed_positions = nn.Embedding(size, config.hidden_size) if learned else None
        self.rotary_emb = None if learned else MindLLMRotaryEmbedding(config)
        layers = (MindLLMDecoderLayer(config, index) for index in range(config.num_hidden_layers))
        self.layers = nn.ModuleList(layers)
        self.norm = MindLLMNorm(config) if config.residual == "pre_norm" else None
        self.gradient_checkpointing = False
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | dict[str, torch.Tensor] | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Any | None = None,
        inputs_embeds: torch.Tensor | None = None,
        use_cache: bool | None = None,
        output_hidden_states: bool | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPast:
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give input_ids or inputs_embeds, and not both")
        x = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        use_cache = self.config.use_cache if use_cache is None else use_cache
        if use_cache and past_key_values is None:
            past_key_values = DynamicCache(config=self.config)
        if position_ids is None:
            position_ids = self._positions(x, attention_mask, past_key_values)
        masks = self._masks(x, attention_mask, position_ids, past_key_values)
        if self.embed_positions is not None:
            x = x + self.embed_positions(position_ids)
        angles = None if self.rotary_emb is None else self.rotary_emb(position_ids)
        states = (x,)
        for layer, kind in zip(self.layers, self.config.layer_types, strict=True):
            x = layer(
                x,
                angles=angles,
                attention_mask=masks[kind],
                past_key_values=past_key_values,
                position_ids=position_ids,
                **kwargs,
            )
            states += (x,) if output_hidden_states else ()
        x = x if self.norm is None else self.norm(x)
        return BaseModelOutputWithPast(
            last_hidden_state=x,
            past_key_values=past_key_values,
            hidden_states=(*states[:-1], x) if output_hidden_states else None,
        )

    def _positions(self, x: torch.Tensor, attention_mask: Any, past_key_values: Any) -> torch.Tensor:
        """Counts the tokens of each row that are not padding, so that padding on the left changes nothing."""
        if isinstance(attention_mask, torch.Tensor) and attention_mask.dim() == 2:
            return (attention_mask.long().cumsum(-1) - 1).clamp(min=0)[:, -x.shape[1] :]
        seen = past_key_values.get_seq_length() if past_key_values is not None else 0
        return (torch.arange(x.shape[1], device=x.device) + seen).unsqueeze(0)

    def _masks(self, x: torch.Tensor, attention_mask: Any, position_ids: torch.Tensor, past_key_values: Any) -> Any:
        if isinstance(attention_mask, dict):  # made by `generate` for a compiled forward pass
            return attention_mask
        given = {
            "config": self.config,
            "inputs_embeds": x,
            "attention_mask": attention_mask,
            "past_key_values": past_key_values,
            "position_ids": position_ids,
        }
        return {kind: MASKS[kind](**given) for kind in set(self.config.layer_types)}


class MindLLMForCausalLM(MindLLMPreTrainedModel, GenerationMixin):
    """The decoder with its loss head, tied to the embedding where the configuration says so."""

    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}  # noqa: RUF012
    _tp_plan = {"lm_head": "colwise_gather_output"}  # noqa: RUF012

    def __init__(self, config: MindLLMConfig):
        super().__init__(config)
        self.model = MindLLMModel(config)
        self.vocab_size = config.vocab_size
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | dict[str, torch.Tensor] | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Any | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        outputs = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            **kwargs,
        )
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(outputs.last_hidden_state[:, kept, :])
        loss = None
        if labels is not None:
            loss = self.loss_function(logits=logits, labels=labels, vocab_size=self.vocab_size, **kwargs)
        return CausalLMOutputWithPast(
            loss=loss, logits=logits, past_key_values=outputs.past_key_values, hidden_states=outputs.hidden_states
        )
