"""What a server compiles is compiled before its first request."""

import jax
import numpy as np

from mindllm_jax.generation.requests import Piece, Request
from mindllm_jax.generation.sampling import Sampling
from mindllm_jax.generation.scheduler import Batching, Scheduler
from mindllm_jax.training.load_run import LoadedRun


def test_the_first_request_compiles_nothing(run: LoadedRun) -> None:
    """The parameters are those of a loaded run, which lie on a mesh; the shapes are those of no other test."""
    scheduler = Scheduler(run.decoder, run.tokenizer, Batching(slots=2, capacity=56, prefill_chunk=40, decode_chunk=3))
    scheduler.warm_up()
    compiled: list[str] = []

    def monitor(event: str, duration_secs: float, **kwargs: str | int) -> None:
        compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(monitor)
    prompts = [np.arange(5, 5 + length).tolist() for length in (10, 10, 45)]
    pieces: list[Piece] = []
    try:
        for prompt in prompts:
            scheduler.submit(Request(prompt, Sampling(max_tokens=7), ()), pieces.append)
        while scheduler.step():
            pass
    finally:
        jax.monitoring.unregister_event_duration_listener(monitor)
    assert [piece.finish for piece in pieces if piece.finish] == ["length"] * 3
    assert not [event for event in compiled if "compile" in event]
