"""Cross-entropy of a linear layer without a [B T V] buffer: one function, several implementations."""

from mindllm_jax.kernels.linear_cross_entropy.api import IMPLEMENTATIONS, linear_cross_entropy
from mindllm_jax.kernels.linear_cross_entropy.problem import LossSums

__all__ = ["IMPLEMENTATIONS", "LossSums", "linear_cross_entropy"]
