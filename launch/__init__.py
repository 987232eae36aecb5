"""Entry points: `python launch/NAME.py` in a clone, `mindllm NAME` wherever the package is installed."""
