"""Raw files of any kind as documents: the first step of a data pipeline. Needs `pip install 'mindllm-jax[data]'`."""
