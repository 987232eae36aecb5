"""Attention and loss-head kernels, which need JAX alone. Import them as `mindllm_jax.kernels`."""
