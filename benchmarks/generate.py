"""Measures generation of a batch beside transformers' `generate` on the same weights.

python benchmarks/generate.py --run RUN [--batches 1,16] [--prompt 128] [--tokens 128] [--rounds 5] [--markdown FILE]

Every round continues other random prompts of --prompt tokens by --tokens greedy ones; none ends early. The peer is
the run's model in transformers, exported and checked by `launch/convert.py`, in float32, with its key-value cache and
as many threads as there are cores. Both take turns, after a round that compiles and does not count. A row gives the
median tokens/s of either, prompts included, and the median, least and greatest of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np


def main() -> None:
    """Measures each batch size, prints and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="the run's folder")
    parser.add_argument("--batches", default="1,16")
    parser.add_argument("--prompt", type=int, default=128, help="tokens")
    parser.add_argument("--tokens", type=int, default=128, help="new tokens of each row")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--markdown", type=Path)
    arguments = parser.parse_args()

    import generation_peer

    from mindllm_jax.files import write_text
    from mindllm_jax.generation.engine import generate
    from mindllm_jax.generation.sampling import Sampling
    from mindllm_jax.reporting.tables import Table
    from mindllm_jax.training.load_run import load_decoder

    run, tokens = load_decoder(arguments.run), arguments.tokens
    sampling, rng = Sampling(temperature=0.0, max_tokens=tokens), np.random.default_rng(0)

    def ours(prompts: list[list[int]]) -> float:
        start = time.perf_counter()
        done = generate(run.decoder, run.tokenizer, prompts, sampling, stop_ids=(), batch_size=len(prompts))
        seconds = time.perf_counter() - start
        assert all(len(completion.tokens) == tokens for completion in done)
        return seconds

    rows: list[list[Any]] = []
    with generation_peer.exported(arguments.run) as model:
        for batch in map(int, arguments.batches.split(",")):
            shape = (batch, arguments.prompt)
            results = generation_peer.take_turns(
                {"ours": ours, "peer": lambda prompts: generation_peer.generate(model, prompts, tokens)},
                lambda: rng.integers(0, run.tokenizer.vocab_size, shape).tolist(),  # noqa: B023
                arguments.rounds,
            )
            rates = [batch * tokens / median(results[way]) for way in ("ours", "peer")]
            ratios = sorted(peer / mine for mine, peer in zip(results["ours"], results["peer"], strict=True))
            rows.append([batch, *rates, median(ratios), f"{ratios[0]:.2f} to {ratios[-1]:.2f}"])
    caption = f"{tokens} tokens after {arguments.prompt}, {arguments.rounds} rounds; "
    caption += generation_peer.described(run, arguments.run.name)
    columns = ("batch", "ours, tokens/s", "transformers, tokens/s", "ratio", "of the rounds")
    table = Table(columns, rows, caption).markdown()
    print(table)
    if arguments.markdown:
        write_text(arguments.markdown, table + "\n")


if __name__ == "__main__":
    main()
