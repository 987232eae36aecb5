"""Items of PIQA and HellaSwag as the harness asks them, and the decoder variants of `smollm2_scores.py`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from mindllm_jax.evaluation.encoding import Encoder
    from mindllm_jax.evaluation.likelihood import Query
    from mindllm_jax.model.decoder import Decoder

NAMES = ("piqa", "hellaswag")
BLOCK = 32  # weights of a row that Q4_1 rounds to 16 equidistant values, from their minimum to their maximum


class Benchmark(NamedTuple):
    """A task of the harness and its items."""

    task: Any
    items: Sequence[dict[str, Any]]


def load_benchmarks(data: Path) -> dict[str, Benchmark]:
    """Returns the harness's tasks, reading the raw files in its schema.

    The HellaSwag items at hand lack the activity label, which the harness puts before the context; here there is none.
    """
    from datasets import Dataset, disable_progress_bars
    from lm_eval import tasks
    from lm_eval.tasks.hellaswag import utils

    def prompts(rows: Dataset) -> Dataset:
        return utils.process_docs(rows).map(lambda doc: {"query": doc["query"].removeprefix(": ")})

    disable_progress_bars()
    goals, labels = (read_lines(data / "piqa" / name) for name in ("valid.jsonl", "valid-labels.lst"))
    piqa = [{**item, "label": int(label)} for item, label in zip(goals, labels, strict=True)]
    hellaswag = [
        {**item, "activity_label": "", **dict(zip(("ctx_a", "ctx_b"), split_context(item["ctx"]), strict=True))}
        for item in read_lines(data / "hellaswag/val_subset.jsonl")
    ]
    folder = Path(tasks.__file__).parent
    manager = tasks.TaskManager(include_path=[str(folder / name) for name in NAMES], include_defaults=False)
    specs: list[dict[str, Any]] = [
        {"task": "piqa", "custom_dataset": lambda **_: {"validation": Dataset.from_list(piqa)}},
        {
            "task": "hellaswag",
            "custom_dataset": lambda **_: {"validation": Dataset.from_list(hellaswag)},
            "process_docs": prompts,
        },
    ]
    group: Any = {"group": "scored", "task": [spec | {"training_split": None} for spec in specs]}
    loaded: dict[str, Any] = manager.load([group])["tasks"]
    return {name: Benchmark(task, list(task.eval_docs)) for name, task in loaded.items()}


def read_lines(path: Path) -> list[Any]:
    """Reads a JSON value per line."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def split_context(context: str) -> tuple[str, str]:
    """Splits a HellaSwag context into whole sentences and the begun one, in lower case, that the endings complete."""
    sentences, end, begun = context.rpartition(". ")
    return (sentences + ".", begun) if end and begun[:1].islower() else (context, "")


def item_queries(encoder: Encoder, benchmark: Benchmark, item: int) -> list[Query]:
    """Returns a query per choice of an item, from the harness's requests."""
    task, doc = benchmark.task, benchmark.items[item]
    requests = task.construct_requests(doc=doc, ctx=task.doc_to_text(doc), metadata=(None, None, None))
    return [pair.query for pair in encoder.pairs([request.args for request in requests])]


def rounded_again(decoder: Decoder, seed: int = 0) -> Decoder:
    """Returns the decoder with the rounding error of Q4_1 drawn once more in every matrix of its blocks.

    The error is uniform over a step of the grid. Raises ValueError for weights that are not on such a grid.
    """
    import jax.numpy as jnp
    import numpy as np
    from flax import nnx

    generator = np.random.default_rng(seed)
    rounded = nnx.clone(decoder)
    for path, variable in nnx.to_flat_state(nnx.state(rounded.blocks)):
        weights = np.asarray(variable[...])
        if weights.ndim < 3:  # a norm
            continue
        # Logical axes name the inputs first; attention's output matrix has two of them.
        inputs = weights.shape[1] * (weights.shape[2] if path[-1] == "out" else 1)
        blocks = weights.reshape(weights.shape[0], inputs // BLOCK, BLOCK, -1)
        least = blocks.min(2, keepdims=True)
        step = (blocks.max(2, keepdims=True) - least) / 15
        places = (blocks - least) / np.where(step > 0, step, 1)
        if np.abs(places - places.round()).max() > 0.01:
            raise ValueError(f"{'/'.join(map(str, path))} is not rounded to 16 values per {BLOCK} weights")
        blocks = blocks + step * generator.uniform(-0.5, 0.5, blocks.shape).astype(np.float32)
        variable[...] = jnp.asarray(blocks.reshape(weights.shape))
    nnx.update(rounded.blocks, nnx.state(rounded.blocks))
    return rounded
