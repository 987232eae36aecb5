"""Reads raw files of any format as documents: the first step of a pipeline. Needs `pip install 'mindllm-jax[data]'`."""
