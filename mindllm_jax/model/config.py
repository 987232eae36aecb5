"""The settings of the decoder: its shape, and a named choice for each part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import jax.numpy as jnp

from mindllm_jax.checks import require_at_least
from mindllm_jax.kernels.target import target
from mindllm_jax.model.linear import GradientSums

Bias = Literal["query_key_value", "attention_out", "mlp"]


@dataclass(frozen=True)
class Model:
    """The shape of a decoder, and a named choice for each of its parts.

    Defaults are the design of MindLLM-3B as far as the paper describes it (RoPE, RMSNorm, DeepNorm, GeGLU; arXiv
    2310.15777) at a laptop's size. `windows` is a pattern repeated over the layers; None is a layer that sees all
    tokens before it: GPT-Neo's (None, 256) alternates global and local attention. Raises ValueError for a number out of
    range or numbers that do not fit together.
    """

    vocab_size: int = 8192  # V, rows of the embedding; at least the pieces of the tokenizer
    layers: int = 6  # L, blocks
    width: int = 256  # D
    heads: int = 4  # N
    kv_heads: int | None = None  # K; None: as many as heads
    head_dim: int = 64  # H
    mlp_dim: int = 768  # F
    max_seq_len: int = 512  # longest row in tokens; also the size of the table of learned positions
    positions: Literal["rope", "learned"] = "rope"  # rotated queries and keys, or a learned table
    rope_theta: float = 10_000.0  # base of the wavelengths of RoPE
    norm: Literal["rmsnorm", "layernorm"] = "rmsnorm"  # see `norms.NORMS`
    norm_epsilon: float = 1e-5  # added to the mean square or variance
    residual: Literal["deepnorm", "pre_norm", "post_norm"] = "deepnorm"  # where norms stand; scales of DeepNorm
    mlp: Literal["geglu", "swiglu", "gelu"] = "geglu"  # activation of the feed-forward, gated or not
    biases: tuple[Bias, ...] = ()  # products with weights that have a learned bias
    windows: tuple[int | None, ...] = (None,)  # tokens that a query sees, itself included; repeated over the layers
    attention_scale: float | None = None  # factor of attention's scores; None: 1/sqrt(H)
    tied: bool = False  # whether the loss head is the transposed embedding
    attention: str | None = None  # implementation of flash_attention; None: the best on this machine
    remat: Literal["none", "full", "dots", "attention"] = "none"  # see `decoder.REMAT`
    compute_dtype: Literal["fastest", "float32", "bfloat16", "float64"] = "fastest"  # see `dtype`
    gradient_sums: GradientSums = "compute"  # see `gradient_dtype`

    def __post_init__(self) -> None:
        sizes = ("vocab_size", "layers", "width", "heads", "head_dim", "mlp_dim", "max_seq_len")
        require_at_least(self, 1, *sizes, "kv_heads")
        if self.heads % self.key_heads:
            raise ValueError(f"Model.heads = {self.heads} is not a multiple of Model.kv_heads = {self.kv_heads}")
        if self.positions == "rope" and self.head_dim % 2:
            raise ValueError(f"Model.head_dim = {self.head_dim}: RoPE rotates pairs, so it must be even")
        if not self.windows or self.layers % len(self.windows):
            raise ValueError(
                f"Model.windows = {self.windows} is repeated over the layers, so Model.layers = {self.layers} must be "
                "a multiple of its length"
            )
        if any(window is not None and window < 1 for window in self.windows):
            raise ValueError(f"Model.windows = {self.windows}: a window must be at least 1, or None for all tokens")
        for name in ("rope_theta", "norm_epsilon", "attention_scale"):
            if getattr(self, name) is not None and not getattr(self, name) > 0:
                raise ValueError(f"Model.{name} = {getattr(self, name)}: must be greater than 0")

    @property
    def key_heads(self) -> int:
        """The number of key-value heads, K."""
        return self.heads if self.kv_heads is None else self.kv_heads

    @property
    def dtype(self) -> jnp.dtype:
        """The dtype of the activations.

        `fastest` is bfloat16 on TPU and GPU. On a CPU it depends on the processor: entry points that train or evaluate
        replace it by the faster one, measured (training/compute_dtype.py); without them it is float32.
        """
        if self.compute_dtype == "fastest":
            return jnp.dtype("float32" if target().platform == "cpu" else "bfloat16")
        return jnp.dtype(self.compute_dtype)

    @property
    def gradient_dtype(self) -> jnp.dtype:
        """The dtype in which gradients of the blocks' matrices are summed over devices.

        `compute`, the default, is the activations': these gradients are most of what devices exchange. `float32` has
        twice the bytes of bfloat16 and none of its rounding. All other gradients are summed in float32.
        """
        return jnp.promote_types(self.dtype, jnp.float32) if self.gradient_sums == "float32" else self.dtype

    @property
    def param_dtype(self) -> jnp.dtype:
        """The dtype of the parameters: float32, or float64 where everything is computed in float64."""
        return jnp.dtype("float64" if self.compute_dtype == "float64" else "float32")
