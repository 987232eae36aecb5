"""Instruction tuning: conversations into a pre-trained decoder."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import jax
import rich

from mindllm_jax.batching.global_batches import Loader
from mindllm_jax.checks import require_at_least, require_local
from mindllm_jax.instruct.answers import answer_loss, answer_repetition, first_prompts
from mindllm_jax.instruct.domains.labels import Labels, label_scores, read_labelled
from mindllm_jax.instruct.instructions import (
    Instructions,
    PackedInstructions,
    instructions_table,
    keep_instructions,
    pack_instructions,
)
from mindllm_jax.instruct.replay import Replay, pretraining_text
from mindllm_jax.instruct.tuning_rows import TuningRows
from mindllm_jax.mixture.rows import MixtureRows
from mindllm_jax.model.config import Model
from mindllm_jax.model.lora import Lora
from mindllm_jax.parallel.mesh import MeshAxes
from mindllm_jax.parallel.together import require_same, together
from mindllm_jax.run_records import resolved
from mindllm_jax.training.adapters import AdaptedBase
from mindllm_jax.training.checkpoint import Checkpointing, latest_checkpoint, read_identity, steps_of
from mindllm_jax.training.checksums import CHECKSUMS
from mindllm_jax.training.load_run import RunRecord, keep_tokenizer, read_run, restore_run_params, training_tokens
from mindllm_jax.training.loop import Periodic, train
from mindllm_jax.training.optimizer import Optimizer
from mindllm_jax.training.run_spec import Loop, RunSpec, run_spec
from mindllm_jax.training.state import Params, TrainState
from mindllm_jax.training.task_suite import TaskSuite


@dataclass(frozen=True)
class Tune:
    """Settings of one tuning run. The model's settings are those of the run it starts from."""

    base: str  # folder of the run whose latest checkpoint is tuned
    instructions: Instructions
    optimizer: Optimizer = field(default_factory=Optimizer)
    mesh: MeshAxes = field(default_factory=MeshAxes)
    loop: Loop = field(default_factory=Loop)
    lora: Lora = field(default_factory=Lora)
    replay: Replay = field(default_factory=Replay)
    neftune_alpha: float = 0.0  # NEFTune's noise on the embeddings: see `make_step`; 5 is usual, 0 is none
    greedy_prompts: int = 4  # held-out prompts whose greedy answers are measured for repetition at the end
    labels: Labels = field(default_factory=Labels)  # labelled conversations whose answers are scored at the end
    loader: Loader = field(default_factory=Loader)
    checkpointing: Checkpointing = field(default_factory=Checkpointing)
    suite: TaskSuite = field(default_factory=TaskSuite)

    def __post_init__(self) -> None:
        require_local(self, "base")
        require_at_least(self, 0, "neftune_alpha", "greedy_prompts")

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
        return run_spec(
            resolve_model(base.model),
            self.loop,
            self.optimizer,
            self.mesh,
            length,
            lora=self.lora if self.lora.rank else None,
            embedding_noise=self.neftune_alpha,
        )


def tune(
    config: Tune,
    workdir: Path,
    periodic: Iterable[Periodic] = (),
    accept: Callable[[str], None] = lambda compute_dtype: None,
    resolve_model: Callable[[Model], Model] = lambda model: model,
) -> TrainState:
    """Tunes, or resumes tuning, in `workdir`, which then is a run as after pre-training.

    With `Lora.rank` above 0 it holds adapters and refers to the base, which is added when the run is loaded.
    `periodic`, `accept` and `resolve_model` as in `pretrain`.

    Raises:
        OSError: the base run or an input is missing.
        ValueError: the base's checkpoint is damaged or its tokenizer another one, the rows are longer than its
            positions, or an input is malformed.
    """
    base = together(lambda: _base_of(config, workdir))
    require_same(f"the checkpoint {base.folder}", (base.folder / CHECKSUMS).read_bytes())
    run = config._spec(base, resolve_model)
    stored = workdir / "instructions.npz"
    packed = together(lambda: pack_instructions(config.instructions, base.tokenizer, stored))
    require_same("the files of instructions", json.dumps(packed.key).encode())
    data, replayed = packed.key, None
    if config.replay.share:
        length, loop = config.instructions.sequence_length, config.loop
        text = together(lambda: pretraining_text(base, config.replay, length, config.instructions.seed))
        require_same(f"the token store {text.store.url}", text.store.manifest.to_json())
        data = data | {"replay": {"share": config.replay.share, "sources": text.facts}}
        replayed = MixtureRows(text.mixture, text.store, steps=loop.steps, global_batch_size=loop.global_batch_size)
    # The base's records stay: the tuned run is measured on the store of its pre-training.
    identity = {
        **{key: value for key, value in base.identity.items() if key != "adapters"},  # they are merged
        **resolved(config),
        "seed": config.loop.seed,
        "data": data,
        # Without the base's steps: training it further is no reason to refuse a resume.
        "base": {key: base.identity.get(key) for key in ("model", "data", "seed")},
        "base_tokens": together(lambda: _base_tokens(base, workdir)),
    }

    model = run.abstract_model
    if model.lora:
        identity["adapters"] = AdaptedBase.of(model.lora, base.folder, workdir).to_json()
        frozen = partial(model.held, partial(restore_run_params, base))
        start: dict[str, Callable[[], Params]] = {"frozen": frozen}
    else:
        start = {"start": partial(restore_run_params, base, run.abstract_state.params)}

    def begin() -> None:
        if jax.process_index() == 0:
            keep_tokenizer(base.tokenizer, workdir)
            keep_instructions(packed, stored)
            weights = config.instructions.weights
            rich.print(instructions_table(packed, config.loop.global_batch_size, weights).terminal())
        accept(run.model.dtype.name)

    rows = TuningRows(
        packed.train,
        config.instructions.weights,
        seed=config.instructions.seed,
        replay=replayed,
        share=config.replay.share,
    )
    return train(
        run,
        rows,
        workdir,
        config.checkpointing,
        identity,
        loader=config.loader,
        periodic=[*_measurements(config, packed, base), *periodic],
        accept=begin,
        **start,
    )


def _measurements(config: Tune, packed: PackedInstructions, base: RunRecord) -> Iterator[Periodic]:
    is_whole = config.mesh.context == 1 and jax.process_count() == 1  # as generation needs it
    if config.labels.inputs:
        if not is_whole:
            raise ValueError(
                "Labels.inputs: answers are generated by one process with MeshAxes.context = 1: leave the setting"
                " empty, and score the finished run by launch/classify.py"
            )
        if config.labels.max_tokens >= base.model.max_seq_len:
            raise ValueError(
                f"Labels.max_tokens = {config.labels.max_tokens} leaves no room for a prompt in Model.max_seq_len ="
                f" {base.model.max_seq_len} of {base.folder}: lower it"
            )
        labelled = read_labelled(config.labels)
        yield Periodic(config.loop.steps, label_scores(config.labels, base.tokenizer, labelled))
    if not packed.held_out:
        return
    yield Periodic(config.loop.evaluate_every, answer_loss(packed.held_out), before=True)
    if is_whole and config.greedy_prompts:
        prompts = first_prompts(packed.held_out, config.greedy_prompts)
        yield Periodic(config.loop.steps, answer_repetition(prompts, base.tokenizer))


def _base_tokens(base: RunRecord, workdir: Path) -> int | None:
    """Returns the tokens that the base had seen when the run began, as `training_tokens`."""
    seen = training_tokens(base.identity)
    return read_identity(latest_checkpoint(workdir)).get("base_tokens", seen) if steps_of(workdir) else seen


def _base_of(config: Tune, workdir: Path) -> RunRecord:
    """Reads the base: its latest checkpoint, or the one that the adapters of a resumed run belong to."""
    step = None
    if config.lora.rank and steps_of(workdir):
        step = read_identity(latest_checkpoint(workdir)).get("adapters", {}).get("step")
    return read_run(Path(config.base), step)
