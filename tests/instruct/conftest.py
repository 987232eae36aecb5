"""A tokenizer, writing of instruction files, and a small pre-trained run."""

import dataclasses
import gzip
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from mindllm_jax.instruct.instructions import Instructions
from mindllm_jax.instruct.tune import Tune
from mindllm_jax.model.config import Model
from mindllm_jax.parallel.mesh import MeshAxes
from mindllm_jax.tokenization.tokenizer import Tokenizer
from mindllm_jax.training.checkpoint import Checkpointing, Checkpoints
from mindllm_jax.training.load_run import keep_tokenizer
from mindllm_jax.training.optimizer import Optimizer
from mindllm_jax.training.position import Position
from mindllm_jax.training.run_spec import Loop, run_spec
from mindllm_jax.training.state import initial_state

Write = Callable[..., Path]


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return Tokenizer.load(Path(__file__).parents[1] / "fixtures/tokenizer.model")


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes rows (objects, or lines as they are) to a .jsonl or .jsonl.gz file."""

    def write(*rows: Any, name: str = "some.jsonl") -> Path:
        text = "".join((row if isinstance(row, str) else json.dumps(row, ensure_ascii=False)) + "\n" for row in rows)
        path = tmp_path / name
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
        return path

    return write


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory, random_run: Callable[..., None]) -> Path:
    """A run of a tiny model with random parameters: what pre-training leaves behind."""
    workdir = tmp_path_factory.mktemp("base")
    random_run(workdir, 0)
    return workdir


@pytest.fixture(scope="session")
def random_run(tokenizer: Tokenizer) -> Callable[..., None]:
    """Writes a run of a tiny model with the random parameters of a seed into a folder."""
    return partial(_random_run, tokenizer)


def _random_run(tokenizer: Tokenizer, workdir: Path, seed: int, **changes: Any) -> None:
    model = Model(
        vocab_size=tokenizer.vocab_size,
        layers=2,
        width=64,
        heads=4,
        head_dim=16,
        mlp_dim=128,
        max_seq_len=96,
        compute_dtype="float32",
    )
    model = dataclasses.replace(model, **changes)
    run = run_spec(model, Loop(), Optimizer(), MeshAxes(), model.max_seq_len)
    rng = np.random.default_rng(seed)

    def fill(path: tuple[Any, ...], leaf: jax.ShapeDtypeStruct) -> jax.Array:
        """Random values: of numpy, because compiling jax.random takes seconds a shape."""
        is_scale = path[-1].key == "scale"
        return jax.device_put(rng.normal(is_scale, 0.1, leaf.shape).astype(leaf.dtype), leaf.sharding)

    params = jax.tree_util.tree_map_with_path(fill, run.abstract_state.params)
    state = initial_state(params, run.abstract_model, run.optimizer.build(1, run.abstract_model.roles))
    identity = {
        "Pretrain": {"data": {"store": "somewhere"}},
        "model": dataclasses.asdict(model),
        "seed": 0,
        "tokenizer_sha256": tokenizer.sha256,
        "data": {"source": "something"},
    }
    with Checkpoints(workdir, Checkpointing(), identity) as checkpoints:
        checkpoints.start()
        checkpoints.save(state._replace(step=state.step + 7), Position(), "")
        checkpoints.wait()
    keep_tokenizer(tokenizer, workdir)


@pytest.fixture(scope="session")
def rows() -> list[dict[str, str]]:
    """Sixty short conversations."""
    return [{"id": f"n{i}", "input": f"{i}?", "output": "yes 好" if i % 2 else "no"} for i in range(60)]


@pytest.fixture(scope="session")
def config(rows: list[dict[str, str]], base: Path, tmp_path_factory: pytest.TempPathFactory) -> Tune:
    """Eight steps of tuning `base` on `rows`, a fifth of which is held out."""
    path = tmp_path_factory.mktemp("data") / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Tune(
        base=str(base),
        instructions=Instructions((str(path),), sequence_length=64, held_out=0.2),
        optimizer=Optimizer(peak_learning_rate=1e-2, warmup_steps=2),
        loop=Loop(steps=8, global_batch_size=8, log_every=1, evaluate_every=8),
        checkpointing=Checkpointing(every_steps=4),
    )
