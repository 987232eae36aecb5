"""Instruction tuning: conversations into a pre-trained decoder."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import jax
import rich

from mindllm_jax.batching.global_batches import Loader
from mindllm_jax.checks import require_local
from mindllm_jax.instruct.answers import answer_loss
from mindllm_jax.instruct.instructions import Instructions, instructions_table, keep_instructions, pack_instructions
from mindllm_jax.instruct.packed import EpochRows
from mindllm_jax.model.config import Model
from mindllm_jax.parallel.mesh import MeshAxes
from mindllm_jax.parallel.together import require_same, together
from mindllm_jax.run_records import resolved
from mindllm_jax.training.checkpoint import Checkpointing, restore_params
from mindllm_jax.training.checksums import CHECKSUMS, PARAMETERS, verify
from mindllm_jax.training.load_run import RunRecord, keep_tokenizer, read_run
from mindllm_jax.training.loop import Periodic, train
from mindllm_jax.training.optimizer import Optimizer
from mindllm_jax.training.run_spec import Loop, RunSpec, run_spec
from mindllm_jax.training.state import Params, TrainState


@dataclass(frozen=True)
class Tune:
    """Settings of one tuning run. The model's settings are those of the run it starts from."""

    base: str  # folder of the run whose latest checkpoint is tuned
    instructions: Instructions
    optimizer: Optimizer = field(default_factory=Optimizer)
    mesh: MeshAxes = field(default_factory=MeshAxes)
    loop: Loop = field(default_factory=Loop)
    loader: Loader = field(default_factory=Loader)
    checkpointing: Checkpointing = field(default_factory=Checkpointing)

    def __post_init__(self) -> None:
        require_local(self, "base")

    def spec(self, resolve_model: Callable[[Model], Model] = lambda model: model) -> RunSpec:
        """Returns the run spec, with its cost, for the model that `resolve_model` derives from the base's."""
        return self._spec(read_run(Path(self.base)), resolve_model)

    def _spec(self, base: RunRecord, resolve_model: Callable[[Model], Model]) -> RunSpec:
        length = self.instructions.sequence_length
        if length > base.model.max_seq_len:
            raise ValueError(
                f"Instructions.sequence_length = {length} is more than the {base.model.max_seq_len} positions "
                f"(Model.max_seq_len) of {base.folder}: lower it"
            )
        return run_spec(resolve_model(base.model), self.loop, self.optimizer, self.mesh, length)


def tune(
    config: Tune,
    workdir: Path,
    accept: Callable[[str], None] = lambda compute_dtype: None,
    resolve_model: Callable[[Model], Model] = lambda model: model,
) -> TrainState:
    """Tunes, or resumes tuning, in `workdir`, which then is a run as after pre-training.

    `accept` and `resolve_model` as in `pretrain`.

    Raises:
        OSError: the base run or an input is missing.
        ValueError: the base's checkpoint is damaged or its tokenizer another one, the rows are longer than its
            positions, or an input is malformed.
    """
    base = together(lambda: read_run(Path(config.base)))
    require_same(f"the checkpoint {base.folder}", (base.folder / CHECKSUMS).read_bytes())
    run = config._spec(base, resolve_model)
    stored = workdir / "instructions.npz"
    packed = together(lambda: pack_instructions(config.instructions, base.tokenizer, stored))
    require_same("the files of instructions", json.dumps(packed.key).encode())
    # The base's records stay: the tuned run is measured on the store of its pre-training.
    identity = {
        **base.identity,
        **resolved(config),
        "seed": config.loop.seed,
        "data": packed.key,
        # Without the base's steps: training it further is no reason to refuse a resume.
        "base": {key: base.identity.get(key) for key in ("model", "data", "seed")},
    }

    def start() -> Params:
        verify(base.folder, PARAMETERS)
        return restore_params(base.folder, run.abstract_state.params)

    def begin() -> None:
        if jax.process_index() == 0:
            keep_tokenizer(base.tokenizer, workdir)
            keep_instructions(packed, stored)
            rich.print(instructions_table(packed, config.loop.global_batch_size).terminal())
        accept(run.model.dtype.name)

    measured = [Periodic(config.loop.evaluate_every, answer_loss(packed.held_out))] if len(packed.held_out) else []
    rows = EpochRows(packed.train, config.instructions.seed)
    return train(
        run,
        rows,
        workdir,
        config.checkpointing,
        identity,
        loader=config.loader,
        periodic=measured,
        start=start,
        accept=begin,
    )
