"""Measures the scoring of instruction data beside a bare forward pass over the same packed rows.

python benchmarks/instruction_scores.py --run RUN --instructions FILE... [--conversations 200] [--repeats 15]
    [--batch_tokens 4096]

`bare forward` is the loss of training (`loss_sums`) under jit, on rows that are packed and on the device beforehand.
`losses and entropies` is `token_scores`, which packs and reads back; `all columns` is `score_conversations`: reading,
the chat format, three contexts, zlib and the parquet files as well. All score the same tokens. The kinds alternate,
each after a first pass that compiles. The share is the median, over the rounds, of the bare forward's seconds by those
of the kind in the same round, with its quartiles; and the same of processor seconds, which other work on the machine
changes less. tokens/s is of the lowest. Prints a table and JSON, with the machine's load.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path


def main() -> None:
    """Measures, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--instructions", type=Path, nargs="+", required=True)
    parser.add_argument("--conversations", type=int, default=200)
    parser.add_argument("--batch_tokens", type=int, default=4096)
    parser.add_argument("--repeats", type=int, default=15)
    arguments = parser.parse_args()

    import jax
    from flax import nnx

    from mindllm_jax.batching.chat_format import encode_conversations
    from mindllm_jax.instruct.conversations import read_conversations
    from mindllm_jax.instruct.scoring.forward import packed_batches, token_scores
    from mindllm_jax.instruct.scoring.quantities import contexts, response_header
    from mindllm_jax.instruct.scoring.score import Inputs, score_conversations, survey
    from mindllm_jax.instruct.scoring.shards import ScoreShards
    from mindllm_jax.reporting.tables import Table
    from mindllm_jax.rows import Batch
    from mindllm_jax.text.documents import write_json_lines
    from mindllm_jax.training.load_run import load_decoder
    from mindllm_jax.training.step import loss_sums

    load = os.getloadavg()[0]
    loaded = load_decoder(arguments.run)
    tokenizer, longest = loaded.tokenizer, loaded.model.max_seq_len + 1
    read = (one for file in arguments.instructions for one in read_conversations(file, on_bad="skip"))
    distinct = {one.messages: one for one in read}
    some = [*islice((one for one in distinct.values()), arguments.conversations)]
    header, texts = response_header(tokenizer), []
    for one in encode_conversations(tokenizer, [one.messages for one in some]):
        found = contexts(tokenizer, one._replace(ids=one.ids[:longest], loss_mask=one.loss_mask[:longest]), header)
        if found:
            texts += [found.given_prompt, *found.after_header, *found.alone]
    tokens = sum(len(text) - 1 for text in texts)

    definition, params = nnx.split(loaded.decoder)
    batches = [
        Batch(*map(jax.device_put, (ids, targets, (segments > 0).astype("float32"), segments, positions)))
        for _, (ids, targets, segments, positions) in packed_batches(loaded.decoder, texts, arguments.batch_tokens)
    ]

    @partial(jax.jit, static_argnames="definition")
    def forward(definition: nnx.GraphDef, params: nnx.State, batch: Batch) -> jax.Array:
        return loss_sums(nnx.merge(definition, params), batch).loss

    def bare() -> None:
        for batch in batches:
            forward(definition, params, batch).block_until_ready()

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "some.jsonl"
        write_json_lines(file, ({"messages": [message._asdict() for message in one.messages]} for one in some))
        inputs = Inputs([file], "error", "cut")
        extent = survey(inputs)

        def all_columns() -> None:
            with tempfile.TemporaryDirectory() as shards:
                score_conversations(inputs, extent, [loaded], ScoreShards(Path(shards)), {}, arguments.batch_tokens)

        calls: dict[str, Callable[[], object]] = {
            "bare forward": bare,
            "losses and entropies": lambda: token_scores(loaded.decoder, texts, batch_tokens=arguments.batch_tokens),
            "all columns": all_columns,
        }
        seconds: dict[str, list[float]] = {name: [] for name in calls}
        processor: dict[str, list[float]] = {name: [] for name in calls}
        for repeat in range(arguments.repeats + 1):
            for name, call in calls.items():
                start, used = time.perf_counter(), time.process_time()
                call()
                if repeat:
                    seconds[name].append(time.perf_counter() - start)
                    processor[name].append(time.process_time() - used)
    columns = (
        "what",
        "seconds",
        "lowest",
        "tokens/s",
        "share of the bare rate",
        "quartiles",
        "share by processor time",
    )
    rows = []
    for name, values in seconds.items():
        low, middle, high = statistics.quantiles(_shares(seconds["bare forward"], values), n=4)
        by_processor = statistics.median(_shares(processor["bare forward"], processor[name]))
        median, lowest = statistics.median(values), min(values)
        rows.append(
            (
                name,
                round(median, 3),
                round(lowest, 3),
                round(tokens / lowest),
                round(middle, 3),
                f"{low:.3f} to {high:.3f}",
                round(by_processor, 3),
            )
        )
    caption = (
        f"{len(some):,} conversations, {tokens:,} tokens in three contexts; {jax.devices()[0].device_kind},"
        f" {loaded.model.dtype.name}, {arguments.repeats} rounds, load {load:.1f}"
    )
    print(Table(columns, rows, caption).markdown())
    print(json.dumps({"lines": [dict(zip(columns, row, strict=True)) for row in rows], "tokens": tokens}))


def _shares(base: list[float], values: list[float]) -> list[float]:
    return [one / value for one, value in zip(base, values, strict=True)]


if __name__ == "__main__":
    main()
