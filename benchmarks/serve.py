"""Measures generation for many streams at once: tokens/s and time to the first token, beside transformers.

python benchmarks/serve.py --run RUN [--streams 1,4,16] [--prompt 128] [--tokens 64] [--rounds 3] [--markdown FILE]

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
import tempfile
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
    parser.add_argument("--streams", default="1,4,16")
    parser.add_argument("--prompt", type=int, default=128, help="tokens")
    parser.add_argument("--tokens", type=int, default=64, help="new tokens of each stream")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--markdown", type=Path)
    arguments = parser.parse_args()
    streams = [int(count) for count in arguments.streams.split(",")]

    import jax
    import torch
    import transformers

    from mindllm_jax.files import write_text
    from mindllm_jax.generation.scheduler import Batching, Scheduler
    from mindllm_jax.interop.write_weights import export_run
    from mindllm_jax.reporting.tables import Table
    from mindllm_jax.run_records import git_sha
    from mindllm_jax.training.load_run import load_decoder

    run = load_decoder(arguments.run)
    scheduler = Scheduler(run.decoder, run.tokenizer, Batching(slots=max(streams)))
    scheduler.warm_up()
    rng, vocab_size = np.random.default_rng(0), run.tokenizer.vocab_size

    def draw(count: int) -> list[list[int]]:
        return rng.integers(0, vocab_size, (count, arguments.prompt)).tolist()

    rows: list[list[Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        export_run(arguments.run, Path(folder) / "hf", dtype="float32")
        peer = transformers.AutoModelForCausalLM.from_pretrained(
            Path(folder) / "hf", dtype=torch.float32, trust_remote_code=True
        ).eval()
        for count in streams:
            results = _take_turns(_ways(scheduler, peer, arguments.tokens), lambda: draw(count), arguments.rounds)  # noqa: B023
            for name, rounds in results.items():
                best = min(rounds, key=lambda result: result.seconds)
                rows.append([count, name, count * arguments.tokens / best.seconds, best.first])
    caption = (
        f"{arguments.run.name}: {run.model.layers} layers of {run.model.width}, vocabulary {run.model.vocab_size:,}; "
        f"{arguments.tokens} tokens after {arguments.prompt}; {jax.local_devices()[0].device_kind}, {run.model.dtype}; "
        f"jax {jax.__version__}, torch {torch.__version__}, transformers {transformers.__version__}; commit {git_sha()}"
    )
    table = Table(("streams", "way", "tokens/s", "seconds to the first token"), rows, caption)
    print(table.markdown())
    if arguments.markdown:
        write_text(arguments.markdown, table.markdown() + "\n")


def _take_turns(ways: dict[str, Way], draw: Callable[[], list[list[int]]], rounds: int) -> dict[str, list[Round]]:
    """Returns the rounds of each way but the first; a peer's way that fails is reported and left out."""
    results: dict[str, list[Round]] = {name: [] for name in ways}
    for _ in range(rounds + 1):
        for name in list(results):
            try:
                results[name].append(ways[name](draw()))
            except Exception as error:
                if not name.startswith("transformers"):
                    raise
                print(f"{name} does not take this model: {type(error).__name__}: {str(error)[:200]}")
                del results[name]
    return {name: measured[1:] for name, measured in results.items()}


def _ways(scheduler: Scheduler, peer: Any, tokens: int) -> dict[str, Way]:
    import torch
    from transformers import GenerationConfig

    greedy = {"do_sample": False, "max_new_tokens": tokens, "eos_token_id": -1, "pad_token_id": 0}

    def in_turn(prompts: list[list[int]]) -> Round:
        parts = [_ours(scheduler, [prompt], tokens) for prompt in prompts]
        waits = np.cumsum([0.0, *(part.seconds for part in parts[:-1])])
        first = np.mean([wait + (part.first or 0) for wait, part in zip(waits, parts, strict=True)])
        return Round(sum(part.seconds for part in parts), float(first))

    def generate(prompts: list[list[int]]) -> Round:
        batch = torch.tensor(prompts)
        start = time.perf_counter()
        out = peer.generate(batch, attention_mask=torch.ones_like(batch), **greedy)
        seconds = time.perf_counter() - start
        assert out.shape[1] == batch.shape[1] + tokens
        return Round(seconds, None)

    def generate_batch(prompts: list[list[int]]) -> Round:
        start = time.perf_counter()
        out = peer.generate_batch(prompts, generation_config=GenerationConfig(**greedy), progress_bar=False)
        seconds = time.perf_counter() - start
        assert len(out) == len(prompts) and all(len(answer.generated_tokens) == tokens for answer in out.values())
        return Round(seconds, None)

    return {
        "continuous batching": lambda prompts: _ours(scheduler, prompts, tokens),
        "one after another": in_turn,
        "transformers, generate": generate,
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
