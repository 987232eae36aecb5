"""Train small Chinese and English language models from scratch, in JAX."""

__version__ = "0.1.0"
