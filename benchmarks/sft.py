"""Tokens/s of tuning on a CPU: our packed rows, our rows of one conversation each, and TRL's SFTTrainer.

python benchmarks/sft.py --instructions FILE.jsonl.gz [--tokenizer FILE] [--rounds 3] [--steps 6] [--markdown FILE]

All train the same Llama-shaped model on the same conversations in float32 without rematerialisation, with AdamW, and
take turns: --rounds times each takes --steps steps. Padding is not counted as tokens. TRL, with its own packing (best
fit, one padding-free row) and padded, is left out where it is not installed; a private copy is enough:
pip install --target DIR --no-deps trl accelerate, and DIR in PYTHONPATH. Prints a table and JSON, with the load.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mindllm_jax.batching.chat_format import EncodedConversation, encode_conversations
from mindllm_jax.files import write_text
from mindllm_jax.instruct.conversations import read_conversations
from mindllm_jax.instruct.packed import PackedRows
from mindllm_jax.model.config import Model
from mindllm_jax.parallel.mesh import MeshAxes
from mindllm_jax.reporting.tables import Table
from mindllm_jax.rows import Batch
from mindllm_jax.run_records import git_sha, installed
from mindllm_jax.tokenization.tokenizer import Tokenizer
from mindllm_jax.training.optimizer import Optimizer
from mindllm_jax.training.run_spec import Loop, run_spec
from mindllm_jax.training.state import initial_params, initial_state

ROOT = Path(__file__).parents[1]
SHAPE: dict[str, Any] = {
    "layers": 6, "width": 256, "heads": 4, "head_dim": 64, "mlp_dim": 768, "residual": "pre_norm", "mlp": "swiglu",
    "compute_dtype": "float32",
}  # fmt: skip


class OurSteps:
    """Takes training steps on rows of conversations."""

    def __init__(self, model: Model, rows: PackedRows, batch: int):
        length = rows.sequence_length
        spec = run_spec(model, Loop(global_batch_size=batch), Optimizer(), MeshAxes(), length, jax.devices()[:1])
        params = initial_params(model, spec.abstract_model, 0)
        self._state = initial_state(params, spec.abstract_model, spec.transformation())
        self._step, self._sharding = spec.compiled_step(), spec.abstract_model.sharding.named("batch", "length")
        self._rows, self._batch, self._next = rows, batch, 0

    def rate(self, steps: int) -> float:
        """Takes steps + 1 steps and returns tokens/s of all but the first; padding is not counted."""
        tokens, started = 0, 0.0
        for number in range(steps + 1):
            indices = np.arange(self._next, self._next + self._batch) % len(self._rows)
            self._next += self._batch
            read = self._rows.read(indices)
            batch = Batch(*(jax.device_put(field, self._sharding) for field in read))
            self._state, _ = self._step(self._state, batch)
            if number == 0:
                jax.block_until_ready(self._state)
                started = time.perf_counter()
            else:
                tokens += int((read.segment_ids > 0).sum())
        jax.block_until_ready(self._state)
        return tokens / (time.perf_counter() - started)


def padded_rows(rows: list[EncodedConversation], length: int) -> PackedRows:
    """Returns rows of one conversation each."""
    packed = PackedRows.pack(rows, sequence_length=length, pad_id=0, seed=0)
    count = len(packed.conversations)
    return PackedRows(
        packed.ids, packed.loss_mask, packed.conversations, np.arange(count), sequence_length=length, pad_id=0
    )


def main() -> None:
    """Measures, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--instructions", required=True)
    parser.add_argument("--tokenizer", default=str(ROOT / "tests/fixtures/tokenizer.model"))
    parser.add_argument("--conversations", type=int, default=600)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--markdown", type=Path)
    given = parser.parse_args()

    tokenizer = Tokenizer.load(given.tokenizer)
    read = list(read_conversations(Path(given.instructions), on_bad="skip"))[: given.conversations]
    encoded = encode_conversations(tokenizer, [one.messages for one in read])
    rows = [EncodedConversation(*(part[: given.length + 1] for part in one)) for one in encoded]
    model = Model(**SHAPE, vocab_size=tokenizer.vocab_size, max_seq_len=given.length)
    packed = PackedRows.pack(rows, sequence_length=given.length, pad_id=0, seed=0)
    ways: dict[str, Callable[[int], float]] = {
        "ours, packed": OurSteps(model, packed, given.batch).rate,
        "ours, padded": OurSteps(model, padded_rows(rows, given.length), given.batch).rate,
    }
    if importlib.util.find_spec("trl"):
        from sft_peer import TrlSteps

        for name, packing in (("TRL, packed", True), ("TRL, padded", False)):
            ways[name] = TrlSteps(model, rows, given.batch, given.length, packing=packing).rate
    rates: dict[str, list[float]] = {name: [] for name in ways}
    loads = [os.getloadavg()[0]]
    for _ in range(given.rounds):
        for name, rate in ways.items():
            rates[name].append(rate(given.steps))
        loads.append(os.getloadavg()[0])

    ours = rates["ours, packed"]
    lines = [
        (
            name,
            statistics.median(measured),
            f"{min(measured):,.0f} to {max(measured):,.0f}",
            statistics.median(mine / other for mine, other in zip(ours, measured, strict=True)),
        )
        for name, measured in rates.items()
    ]
    filled = sum(len(row.ids) - 1 for row in rows) / (len(packed) * given.length)
    caption = (
        f"{len(rows)} conversations of {statistics.mean(len(row.ids) for row in rows):.0f} tokens on average in rows "
        f"of {given.length}, packed rows {filled:.1%} filled; batch {given.batch}; {os.cpu_count()} cores, load "
        f"{min(loads):.1f} to {max(loads):.1f}; median of {given.rounds} rounds, ratios within a round"
    )
    if "TRL, packed" not in rates:
        caption += "; TRL is not installed"
    table = Table(("steps", "tokens/s", "range", "ours packed over it"), lines, caption).markdown()
    versions = installed(("jax", "torch", "transformers", "trl", "accelerate"))
    print(table)
    print(json.dumps({"rates": rates, "loads": loads, "model": SHAPE, "versions": versions, "commit": git_sha()}))
    if given.markdown:
        write_text(given.markdown, table + "\n")


if __name__ == "__main__":
    main()
