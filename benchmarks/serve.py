"""Measures generation for many streams at once: tokens/s and time to the first token, beside transformers.

python launch/convert.py --gin.Convert.run=RUN --gin.Convert.output=FOLDER
python benchmarks/serve.py --run RUN --exported FOLDER [--streams 1,4,16] [--tokens 64] [--rounds 3] [--markdown FILE]

All streams of a round begin together, with random prompts of --prompt tokens that no round has again, and take
--tokens greedy tokens; none ends early. "continuous batching" is our scheduler, as `launch/serve.py` runs it, without
HTTP; "one after another" is the same scheduler with one request at a time. The peer computes the same model, exported
and checked by `launch/convert.py`, in float32 with as many threads as there are cores: `generate`, one batch of prompts
that are equally long, and `generate_batch`, its continuous batching, where that takes the model. Nothing is compiled
while the time runs: a first round does not count. The ways take turns, and the fastest of --rounds is given. The time
to the first token is the mean over the streams; transformers' ways return whole answers.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from mindllm_jax.generation.scheduler import Scheduler


class Round(NamedTuple):
    """Seconds of one round, and the mean seconds to the first token where it is seen."""

    seconds: float
    first: float | None


Way = Callable[[list[list[int]]], Round]


def main() -> None:
    """Measures every way in turn, prints and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="the run's folder")
    parser.add_argument("--exported", type=Path, required=True, help="the same run in transformers' format")
    parser.add_argument("--streams", default="1,4,16")
    parser.add_argument("--prompt", type=int, default=128, help="tokens")
    parser.add_argument("--tokens", type=int, default=64, help="new tokens of each stream")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--markdown", type=Path)
    arguments = parser.parse_args()
    streams = [int(count) for count in arguments.streams.split(",")]

    import generation_peer

    from mindllm_jax.files import write_text
    from mindllm_jax.generation.scheduler import Batching, Scheduler
    from mindllm_jax.reporting.tables import Table
    from mindllm_jax.training.load_run import load_decoder

    run = load_decoder(arguments.run)
    scheduler = Scheduler(run.decoder, run.tokenizer, Batching(slots=max(streams)))
    scheduler.warm_up()
    rng, vocab_size = np.random.default_rng(0), run.tokenizer.vocab_size

    def draw(count: int) -> list[list[int]]:
        return rng.integers(0, vocab_size, (count, arguments.prompt)).tolist()

    rows: list[list[Any]] = []
    peer = generation_peer.load(arguments.exported)
    for count in streams:
        ways = _ways(scheduler, peer, arguments.tokens)
        results = generation_peer.take_turns(ways, lambda: draw(count), arguments.rounds)  # noqa: B023
        for name, rounds in results.items():
            best = min(rounds, key=lambda result: result.seconds)
            rows.append([count, name, count * arguments.tokens / best.seconds, best.first])
    caption = f"{arguments.tokens} tokens after {arguments.prompt}, {arguments.rounds} rounds; "
    caption += generation_peer.described(run, arguments.run.name)
    table = Table(("streams", "way", "tokens/s", "seconds to the first token"), rows, caption)
    print(table.markdown())
    if arguments.markdown:
        write_text(arguments.markdown, table.markdown() + "\n")


def _ways(scheduler: Scheduler, peer: Any, tokens: int) -> dict[str, Way]:
    import generation_peer
    from transformers import GenerationConfig

    def in_turn(prompts: list[list[int]]) -> Round:
        parts = [_ours(scheduler, [prompt], tokens) for prompt in prompts]
        waits = np.cumsum([0.0, *(part.seconds for part in parts[:-1])])
        first = np.mean([wait + (part.first or 0) for wait, part in zip(waits, parts, strict=True)])
        return Round(sum(part.seconds for part in parts), float(first))

    def generate_batch(prompts: list[list[int]]) -> Round:
        start = time.perf_counter()
        settings = GenerationConfig(**generation_peer.greedy(tokens))
        out = peer.generate_batch(prompts, generation_config=settings, progress_bar=False)
        seconds = time.perf_counter() - start
        assert len(out) == len(prompts) and all(len(answer.generated_tokens) == tokens for answer in out.values())
        return Round(seconds, None)

    return {
        "continuous batching": lambda prompts: _ours(scheduler, prompts, tokens),
        "one after another": in_turn,
        "transformers, generate": lambda prompts: Round(generation_peer.generate(peer, prompts, tokens).wall, None),
        "transformers, generate_batch": generate_batch,
    }


def _ours(scheduler: Scheduler, prompts: Sequence[list[int]], tokens: int) -> Round:
    from mindllm_jax.generation.requests import Request
    from mindllm_jax.generation.sampling import Sampling

    start, firsts, done = time.perf_counter(), {}, []
    for number, prompt in enumerate(prompts):

        def deliver(piece: Any, number: int = number) -> None:
            firsts.setdefault(number, time.perf_counter() - start)
            done.extend(piece.tokens)

        scheduler.submit(Request(prompt, Sampling(temperature=0.0, max_tokens=tokens), ()), deliver)
    while scheduler.step():
        pass
    seconds = time.perf_counter() - start
    assert len(done) == len(prompts) * tokens
    return Round(seconds, float(np.mean(list(firsts.values()))))


if __name__ == "__main__":
    main()
