"""Train small Chinese and English language models from scratch, in JAX.

    run = mindllm_jax.load("runs/demo/tune")
    run.generate("The mountain", max_tokens=40)
    run.answer("What is a glacier?")

The public API is what `__all__` lists; importing the package imports none of it until it is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mindllm_jax.api import Run, load
    from mindllm_jax.kernels.flash_attention import flash_attention
    from mindllm_jax.kernels.linear_cross_entropy import linear_cross_entropy
    from mindllm_jax.mixture.rows import MixtureRows
    from mindllm_jax.mixture.settings import Mixture
    from mindllm_jax.model.config import Model
    from mindllm_jax.model.decoder import Decoder
    from mindllm_jax.store.store import TokenStore
    from mindllm_jax.tokenization.tokenizer import Tokenizer

__version__ = "0.1.0"

__all__ = [
    "Decoder", "Mixture", "MixtureRows", "Model", "Run", "TokenStore", "Tokenizer",
    "flash_attention", "linear_cross_entropy", "load",
]  # fmt: skip

_MODULES = {
    "Decoder": "model.decoder",
    "Mixture": "mixture.settings",
    "MixtureRows": "mixture.rows",
    "Model": "model.config",
    "Run": "api",
    "TokenStore": "store.store",
    "Tokenizer": "tokenization.tokenizer",
    "flash_attention": "kernels.flash_attention",
    "linear_cross_entropy": "kernels.linear_cross_entropy",
    "load": "api",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"mindllm_jax.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
