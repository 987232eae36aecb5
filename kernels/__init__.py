"""Attention and loss-head kernels: JAX and nothing else of this project. Import as `mindllm_jax.kernels`."""
