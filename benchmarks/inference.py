"""Measures tokens/s of generation and evaluation of a run.

python benchmarks/inference.py --run RUN --store STORE [--batches 1,16,64] [--tokens 128]

Generation is greedy, with a key-value cache: --tokens new tokens after prompts of that length from held-out text; no
row ends early. Evaluation is the bits per byte of held-out text, every source once. Both exclude compilation: the first
call does not count. Prints a table and JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


def time_second_call(call: Callable[[], Any]) -> float:
    """Returns the seconds of the second call."""
    call()
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main() -> None:
    """Measures, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--store", required=True)
    parser.add_argument("--batches", default="1,16,64")
    parser.add_argument("--tokens", type=int, default=128)
    arguments = parser.parse_args()

    import jax

    from mindllm_jax.evaluation.bits_per_byte import held_out_sources, split_bits
    from mindllm_jax.generation.engine import generate
    from mindllm_jax.generation.sampling import Sampling
    from mindllm_jax.reporting.tables import Table
    from mindllm_jax.store.rows import SplitRows
    from mindllm_jax.store.store import TokenStore
    from mindllm_jax.training.load_run import load_decoder

    loaded, store = load_decoder(arguments.run), TokenStore.open(arguments.store)
    sources = [source for of_language in held_out_sources(store).values() for source in of_language]
    length, count = loaded.model.max_seq_len, min(arguments.tokens, loaded.model.max_seq_len // 2)
    sampling, (first, *_) = Sampling(temperature=0, max_tokens=count), sources
    rows: list[tuple[Any, ...]] = []
    for batch in map(int, arguments.batches.split(",")):
        read = SplitRows(store, first, "held_out", count)
        prompts = list(np.asarray(read.read(np.arange(batch) % len(read)).tokens))

        def answer(prompts: list[np.ndarray] = prompts, batch: int = batch) -> None:
            generate(loaded.decoder, loaded.tokenizer, prompts, sampling, stop_ids=(), batch_size=batch)

        seconds = time_second_call(answer)
        rows.append((f"generate, batch {batch}", batch * count / seconds, 1e3 * seconds / count))

    def evaluate() -> None:
        for source in sources:
            split_bits(loaded.decoder, store, source, length)

    tokens = sum(store.split(source, "held_out").tokens for source in sources)
    rows.append(("evaluate, bits per byte", tokens / time_second_call(evaluate), None))
    caption = f"{jax.local_devices()[0].device_kind}; {arguments.run.name}, {loaded.model.layers} layers of"
    caption += f" {loaded.model.width}; {count} new tokens after {count}, {tokens:,} held-out tokens"
    columns = ("what", "tokens/s", "ms/step")
    print(Table(columns, rows, caption).markdown())
    print(json.dumps({"lines": [dict(zip(columns, row, strict=True)) for row in rows]}))


if __name__ == "__main__":
    main()
