"""The base of a run that holds adapters alone: how the run refers to it, and the sum of both."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

from mindllm_jax.files import sha256
from mindllm_jax.model.lora import Lora, merged
from mindllm_jax.training.checksums import CHECKSUMS
from mindllm_jax.training.state import Params

_SUFFIX = "_adapter"


class AdaptedBase(NamedTuple):
    """The checkpoint that adapters were trained on, as the entry `adapters` of a run's identity has it.

    Attributes:
        lora: settings of the adapters.
        run: path of the base's workdir from the run's, so that both may be moved together.
        step: step of its checkpoint.
        checksums: sha256 of the checkpoint's checksums.json, which stands for all its files.
    """

    lora: Lora
    run: str
    step: int
    checksums: str

    @classmethod
    def of(cls, lora: Lora, checkpoint: Path, workdir: Path) -> AdaptedBase:
        """Describes a base by its checkpoint, for the run in `workdir`."""
        run = os.path.relpath(checkpoint.parents[1].resolve(), workdir.resolve())
        return cls(lora, run, int(checkpoint.name), sha256(checkpoint / CHECKSUMS))

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> AdaptedBase:
        """Reads what `to_json` wrote."""
        lora = Lora(record["rank"], record["alpha"], tuple(record["targets"]), record.get("base", "compute"))
        return cls(lora, record["run"], record["step"], record["checksums"])

    def to_json(self) -> dict[str, Any]:
        """Returns the entry `adapters` of the run's identity."""
        lora = {"rank": self.lora.rank, "alpha": self.lora.alpha, "targets": list(self.lora.targets)}
        # Older runs have no entry for how the base was held.
        lora |= {"base": self.lora.base} if self.lora.base != "compute" else {}
        return {**lora, "run": self.run, "step": self.step, "checksums": self.checksums}

    def require_unchanged(self, checkpoint: Path, adapters: Path) -> None:
        """Raises ValueError where the base's checkpoint is not the one that the adapters were trained on."""
        if sha256(checkpoint / CHECKSUMS) != self.checksums:
            raise ValueError(
                f"{checkpoint} is not the checkpoint that the adapters in {adapters} were trained on: put that one back"
            )


def merge_adapters(params: Params, adapters: Params, lora: Lora) -> Params:
    """Returns the parameters of the base with the product of every adapter added, in the base's dtype."""
    total = dict(params)
    for name, value in adapters.items():
        if name.endswith(_SUFFIX):
            weight = name.removesuffix(_SUFFIX)
            total[weight] = merged(params[weight], value["a"], value["b"], lora.scale)
        else:
            total[name] = merge_adapters(params[name], value, lora)
    return total
