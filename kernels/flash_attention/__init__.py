"""Attention without a [T S] matrix of scores: one function, several implementations."""

from mindllm_jax.kernels.block_ranges import BlockRanges, block_ranges
from mindllm_jax.kernels.flash_attention.api import IMPLEMENTATIONS, RESIDUAL_NAME, flash_attention
from mindllm_jax.kernels.flash_attention.context import balanced, natural

__all__ = [
    "IMPLEMENTATIONS",
    "RESIDUAL_NAME",
    "BlockRanges",
    "balanced",
    "block_ranges",
    "flash_attention",
    "natural",
]
