"""Attention without its matrix: one entry, several implementations."""

from mindllm_jax.kernels.block_ranges import BlockRanges, block_ranges
from mindllm_jax.kernels.flash_attention.api import IMPLEMENTATIONS, RESIDUAL_NAME, flash_attention

__all__ = ["IMPLEMENTATIONS", "RESIDUAL_NAME", "BlockRanges", "block_ranges", "flash_attention"]
