"""transformers on the weights of a run, and rounds in which it and ours take turns."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from timed import Spent, timed

Result = TypeVar("Result")


def load(folder: Path) -> Any:
    """Returns transformers' model of a run that `launch/convert.py` exported, in float32, with a thread per core."""
    import torch
    import transformers

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, trust_remote_code=True).eval()


def greedy(tokens: int) -> dict[str, Any]:
    """Returns the settings by which transformers takes `tokens` greedy tokens, none of which ends a row."""
    return {"do_sample": False, "max_new_tokens": tokens, "eos_token_id": -1, "pad_token_id": 0}


def generate(model: Any, prompts: Sequence[Sequence[int]], tokens: int) -> Spent:
    """Returns what `model.generate`, with its key-value cache, takes to continue prompts of equal lengths."""
    import torch

    batch = torch.tensor(prompts)
    spent, out = timed(lambda: model.generate(batch, attention_mask=torch.ones_like(batch), **greedy(tokens)))
    assert out.shape[1] == batch.shape[1] + tokens
    return spent


def take_turns(
    ways: dict[str, Callable[[Any], Result]], draw: Callable[[], Any], rounds: int
) -> dict[str, list[Result]]:
    """Returns the results of each way, one a round, after a round that does not count.

    In a round each way gets its own `draw()`. A way of transformers that fails is reported and left out.
    """
    results: dict[str, list[Result]] = {name: [] for name in ways}
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


def described(run: Any, name: str) -> str:
    """Returns the model, versions, commit and load of the machine for a table's caption."""
    import jax
    import torch
    import transformers

    from mindllm_jax.run_records import git_sha

    model, cores = run.model, len(os.sched_getaffinity(0))
    return (
        f"{name}: {model.layers} layers of {model.width}, vocabulary {model.vocab_size:,}; "
        f"{jax.local_devices()[0].device_kind}, {model.dtype}, cores: {cores}, load {os.getloadavg()[1]:.1f}; "
        f"jax {jax.__version__}, torch {torch.__version__}, transformers {transformers.__version__}; commit {git_sha()}"
    )
