"""A run of a small random model, and a server of it on a free port of the loopback."""

import dataclasses
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import pytest
from running_server import BATCHING, KEY, Running

from mindllm_jax.generation.sampling import Sampling
from mindllm_jax.generation.scheduler import Scheduler
from mindllm_jax.model.config import Model
from mindllm_jax.parallel.mesh import MeshAxes
from mindllm_jax.parallel.sharding import Sharding
from mindllm_jax.serving.served_model import ServedModel
from mindllm_jax.serving.server import Serve, Server, bind
from mindllm_jax.tokenization.tokenizer import Tokenizer
from mindllm_jax.training.checkpoint import Checkpointing, Checkpoints
from mindllm_jax.training.load_run import LoadedRun, keep_tokenizer, load_decoder, read_run
from mindllm_jax.training.position import Position
from mindllm_jax.training.state import TrainState, abstract_model, initial_params


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> Path:
    """A run named `small`, with a checkpoint of random parameters at step 3."""
    folder = tmp_path_factory.mktemp("runs") / "small"
    model = Model(
        vocab_size=tokenizer.vocab_size + 3,
        layers=2,
        width=64,
        heads=4,
        head_dim=16,
        mlp_dim=128,
        max_seq_len=96,
        compute_dtype="float32",
        attention="reference",
    )
    abstract = abstract_model(model, Sharding(MeshAxes().build(jax.devices()[:1])))
    keep_tokenizer(tokenizer, folder)
    identity = {"model": dataclasses.asdict(model), "seed": 0, "tokenizer_sha256": tokenizer.sha256}
    with Checkpoints(folder, Checkpointing(), identity) as checkpoints:
        checkpoints.start()
        counter = jax.numpy.int32(3)
        params = jax.tree.map(lambda x: 8 * x, initial_params(model, abstract, seed=0))
        checkpoints.save(TrainState(counter, counter, counter, params, (counter,), {}), Position(), "")
        checkpoints.wait()
    return folder


@pytest.fixture(scope="session")
def run(run_folder: Path) -> LoadedRun:
    return load_decoder(run_folder)


@pytest.fixture(scope="session")
def served_model(run_folder: Path, run: LoadedRun) -> ServedModel:
    checkpoint = read_run(run_folder).folder
    return ServedModel.of(run_folder, checkpoint, run.tokenizer, run.model.max_seq_len, Sampling())


@pytest.fixture(scope="session")
def start_server(run_folder: Path, run: LoadedRun, served_model: ServedModel) -> Callable[[Scheduler], Any]:
    """Starts a server over a scheduler, and returns it with its thread."""
    pytest.importorskip("uvicorn", reason="uvicorn is not installed (the extra serve)")

    def start(scheduler: Scheduler) -> tuple[Server, Running, threading.Thread]:
        config = Serve(run=str(run_folder), port=0, max_body_bytes=200_000, batching=BATCHING)
        bound = bind(config)
        bound.listen()
        server = Server(config, served_model, scheduler, KEY)
        thread = threading.Thread(target=server.run, args=(bound,))
        thread.start()
        return server, Running(bound.getsockname()[1], scheduler), thread

    return start


@pytest.fixture(scope="session")
def scheduler(run: LoadedRun) -> Scheduler:
    scheduler = Scheduler(run.decoder, run.tokenizer, BATCHING)
    scheduler.warm_up()
    return scheduler


@pytest.fixture(scope="session")
def server(scheduler: Scheduler, start_server: Callable[[Scheduler], Any]) -> Iterator[Running]:
    server, running, thread = start_server(scheduler)
    yield running
    server.stop()
    thread.join(20)
    assert not thread.is_alive()
