"""Measures generation of a batch beside transformers' `generate` on the same weights.

python launch/convert.py --gin.Convert.run=RUN --gin.Convert.output=FOLDER
python benchmarks/generate.py --run RUN --exported FOLDER [--batches 1,16] [--tokens 128] [--rounds 5] [--markdown FILE]

Every round continues other random prompts of --prompt tokens by --tokens greedy ones; none ends early. The peer is
the run's model in transformers in float32, with its key-value cache and as many threads as there are cores. Both take
turns, after a round that compiles and does not count. A row gives the median tokens/s of either, prompts included, and
the median, least and greatest of the rounds' ratios: on the clock, and in time of the processors (all threads), which
other work on the machine disturbs less; run the script on one core (`taskset -c 0`) where that matters, because
threads that wait for each other take processor time.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np


def main() -> None:
    """Measures each batch size, prints and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="the run's folder")
    parser.add_argument("--exported", type=Path, required=True, help="the same run in transformers' format")
    parser.add_argument("--batches", default="1,16")
    parser.add_argument("--prompt", type=int, default=128, help="tokens")
    parser.add_argument("--tokens", type=int, default=128, help="new tokens of each row")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--markdown", type=Path)
    arguments = parser.parse_args()

    import generation_peer
    from timed import Spent, timed

    from mindllm_jax.files import write_text
    from mindllm_jax.generation.engine import generate
    from mindllm_jax.generation.sampling import Sampling
    from mindllm_jax.reporting.tables import Table
    from mindllm_jax.training.load_run import load_decoder

    run, model, tokens = load_decoder(arguments.run), generation_peer.load(arguments.exported), arguments.tokens
    sampling, rng = Sampling(temperature=0.0, max_tokens=tokens), np.random.default_rng(0)

    def ours(prompts: list[list[int]]) -> Spent:
        spent, done = timed(
            lambda: generate(run.decoder, run.tokenizer, prompts, sampling, stop_ids=(), batch_size=len(prompts))
        )
        assert all(len(completion.tokens) == tokens for completion in done)
        return spent

    rows: list[list[Any]] = []
    for batch in map(int, arguments.batches.split(",")):
        shape = (batch, arguments.prompt)
        results = generation_peer.take_turns(
            {"ours": ours, "peer": lambda prompts: generation_peer.generate(model, prompts, tokens)},
            lambda: rng.integers(0, run.tokenizer.vocab_size, shape).tolist(),  # noqa: B023
            arguments.rounds,
        )
        mine, peer = results["ours"], results["peer"]
        rates = [batch * tokens / median(spent.wall for spent in rounds) for rounds in (mine, peer)]
        pairs = list(zip(mine, peer, strict=True))
        on_the_clock = _ratio([theirs.wall / ours.wall for ours, theirs in pairs])
        of_processors = _ratio([theirs.processor / ours.processor for ours, theirs in pairs])
        rows.append([batch, *rates, on_the_clock, of_processors])
    caption = f"{tokens} tokens after {arguments.prompt}, {arguments.rounds} rounds; "
    caption += generation_peer.described(run, arguments.run.name)
    columns = ("batch", "ours, tokens/s", "transformers, tokens/s", "ratio on the clock", "ratio in processor time")
    table = Table(columns, rows, caption).markdown()
    print(table)
    if arguments.markdown:
        write_text(arguments.markdown, table + "\n")


def _ratio(ratios: Sequence[float]) -> str:
    return f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


if __name__ == "__main__":
    main()
