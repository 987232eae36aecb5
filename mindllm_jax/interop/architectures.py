"""The architectures that are read and written, and which of them a folder or a model is of."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mindllm_jax.interop.architecture import Architecture
from mindllm_jax.interop.gpt_neo import GPT_NEO
from mindllm_jax.interop.llama import LLAMA
from mindllm_jax.interop.own_design import OWN_DESIGN
from mindllm_jax.model.config import Model

ARCHITECTURES = {architecture.name: architecture for architecture in (LLAMA, GPT_NEO, OWN_DESIGN)}
"""By the name of their class in config.json."""


def architecture_of(config: Mapping[str, Any], where: Path) -> Architecture:
    """Returns the architecture that a config.json names. Raises ValueError for another one."""
    names = config.get("architectures")
    for name in names if isinstance(names, list) else ():
        if name in ARCHITECTURES:
            return ARCHITECTURES[name]
    raise ValueError(
        f"{where}: architectures = {names!r} cannot be read; {', '.join(ARCHITECTURES)} can. Weights of another "
        "architecture cannot be renamed into one of these"
    )


def native_architecture(model: Model) -> Architecture:
    """Returns transformers' own class for a model where it is of one, and our design otherwise.

    Raises ValueError for a model that no class has.
    """
    for architecture in (LLAMA, GPT_NEO):
        try:
            architecture.config(model)
        except ValueError:
            continue
        return architecture
    OWN_DESIGN.config(model)
    return OWN_DESIGN
