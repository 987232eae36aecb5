"""Pre-training: a mixture of token stores into a fresh decoder."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import jax

from mindllm_jax.batching.global_batches import Loader
from mindllm_jax.mixture.rows import MixtureRows
from mindllm_jax.mixture.settings import Mixture, source_facts
from mindllm_jax.model.config import Model
from mindllm_jax.parallel.mesh import MeshAxes
from mindllm_jax.parallel.together import together
from mindllm_jax.run_records import resolved
from mindllm_jax.store.store import TokenStore
from mindllm_jax.training.checkpoint import Checkpointing
from mindllm_jax.training.load_run import keep_tokenizer
from mindllm_jax.training.loop import Periodic, train
from mindllm_jax.training.optimizer import Optimizer
from mindllm_jax.training.run_spec import Loop, RunSpec, run_spec
from mindllm_jax.training.state import TrainState
from mindllm_jax.training.task_suite import TaskSuite


@dataclass(frozen=True)
class Pretrain:
    """Settings of one pre-training run."""

    data: Mixture
    model: Model = field(default_factory=Model)
    optimizer: Optimizer = field(default_factory=Optimizer)
    mesh: MeshAxes = field(default_factory=MeshAxes)
    loop: Loop = field(default_factory=Loop)
    loader: Loader = field(default_factory=Loader)
    checkpointing: Checkpointing = field(default_factory=Checkpointing)
    suite: TaskSuite = field(default_factory=TaskSuite)

    def spec(self, resolve_model: Callable[[Model], Model] = lambda model: model) -> RunSpec:
        """Returns the run spec, with its cost, for the model that `resolve_model` derives from the settings'."""
        return run_spec(resolve_model(self.model), self.loop, self.optimizer, self.mesh, self.data.sequence_length)


def pretrain(
    config: Pretrain,
    store: TokenStore,
    workdir: Path,
    periodic: Iterable[Periodic] = (),
    accept: Callable[[str], None] = lambda compute_dtype: None,
    resolve_model: Callable[[Model], Model] = lambda model: model,
) -> TrainState:
    """Trains, or resumes training, in `workdir`; `accept` as in `train`, called with the compute dtype.

    resolve_model: derives the trained model from the configured one, which alone is recorded, so that the run may
        resume on another machine: `compute_dtype.resolve_dtype` chooses the faster compute dtype.

    Raises ValueError when store and model do not fit together, and as `train` does.
    """
    together(lambda: check_vocabulary(config.model, store))
    identity = {
        **resolved(config),
        "model": dataclasses.asdict(config.model),
        "seed": config.loop.seed,
        "tokenizer_sha256": store.tokenizer_sha256,
        "data": source_facts(config.data, store),
    }

    run = config.spec(resolve_model)

    def begin() -> None:
        if jax.process_index() == 0:
            keep_tokenizer(store.tokenizer, workdir)
        accept(run.model.dtype.name)

    rows = MixtureRows(config.data, store, steps=config.loop.steps, global_batch_size=config.loop.global_batch_size)
    return train(
        run, rows, workdir, config.checkpointing, identity, loader=config.loader, periodic=periodic, accept=begin
    )


def check_vocabulary(model: Model, store: TokenStore) -> None:
    """Raises ValueError when the store's tokenizer has more pieces than the model's vocabulary."""
    pieces = store.tokenizer.vocab_size
    if pieces > model.vocab_size:
        raise ValueError(
            f"the tokenizer of the store has {pieces} pieces and Model.vocab_size is {model.vocab_size}: "
            f"set Model.vocab_size = {pieces} or more"
        )
