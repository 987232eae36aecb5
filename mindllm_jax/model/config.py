"""Shape and named choices of the decoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import jax.numpy as jnp

from mindllm_jax.checks import require_at_least
from mindllm_jax.kernels.target import target
from mindllm_jax.model.linear import GradientSums


@dataclass(frozen=True)
class Model:
    """Shape of one decoder and the choice made for each of its parts.

    Defaults are the design of MindLLM-3B as far as the paper tells it (RoPE, RMSNorm, DeepNorm, GeGLU; arXiv
    2310.15777) at a laptop's size. Raises ValueError when the numbers do not fit together.
    """

    vocab_size: int = 8192
    layers: int = 6
    width: int = 256  # D
    heads: int = 4  # N
    kv_heads: int | None = None  # K; None: as many as heads
    head_dim: int = 64  # H
    mlp_dim: int = 768  # F
    max_seq_len: int = 512  # longest row in tokens; also the size of the table of learned positions
    positions: Literal["rope", "learned"] = "rope"
    rope_theta: float = 10_000.0
    norm: Literal["rmsnorm", "layernorm"] = "rmsnorm"
    norm_epsilon: float = 1e-5
    residual: Literal["deepnorm", "pre_norm", "post_norm"] = "deepnorm"
    mlp: Literal["geglu", "swiglu", "gelu"] = "geglu"
    window: int | None = None  # tokens that a query sees, itself included; None: all before it
    tied: bool = False  # the loss head is the transposed embedding
    attention: str | None = None  # implementation of flash_attention; None: the best that runs here
    remat: Literal["none", "full", "dots", "attention"] = "none"  # what the backward pass may keep: see `decoder.REMAT`
    compute_dtype: Literal["fastest", "float32", "bfloat16", "float64"] = "fastest"  # see `dtype`
    gradient_sums: GradientSums = "compute"  # dtype of the blocks' gradients between devices: see `gradient_dtype`

    def __post_init__(self) -> None:
        sizes = ("vocab_size", "layers", "width", "heads", "head_dim", "mlp_dim", "max_seq_len")
        require_at_least(self, 1, *sizes, "kv_heads", "window")
        if self.heads % self.key_heads:
            raise ValueError(f"Model.heads = {self.heads} is not a multiple of Model.kv_heads = {self.kv_heads}")
        if self.positions == "rope" and self.head_dim % 2:
            raise ValueError(f"Model.head_dim = {self.head_dim}: RoPE turns pairs, so it must be even")
        for name in ("rope_theta", "norm_epsilon"):
            if not getattr(self, name) > 0:
                raise ValueError(f"Model.{name} = {getattr(self, name)}: must be greater than 0")

    @property
    def key_heads(self) -> int:
        """Number of key-value heads, K."""
        return self.heads if self.kv_heads is None else self.kv_heads

    @property
    def dtype(self) -> jnp.dtype:
        """Type of the activations. `fastest` is bfloat16 on TPU and GPU, and float32 on a CPU, where it depends on the
        processor: entry points that train or evaluate replace it there by what was measured (training/fastest.py)."""
        if self.compute_dtype == "fastest":
            return jnp.dtype("float32" if target().platform == "cpu" else "bfloat16")
        return jnp.dtype(self.compute_dtype)

    @property
    def gradient_dtype(self) -> jnp.dtype:
        """Type in which gradients of the blocks' matrices are summed over devices: with `compute` that of the
        activations, the default, because they are most of what devices exchange; with `float32` twice the bytes of
        bfloat16, and none of its rounding. All other gradients are summed in float32."""
        return jnp.promote_types(self.dtype, jnp.float32) if self.gradient_sums == "float32" else self.dtype

    @property
    def param_dtype(self) -> jnp.dtype:
        """Type of the parameters: float32, and float64 only where everything is computed in float64."""
        return jnp.dtype("float64" if self.compute_dtype == "float64" else "float32")
