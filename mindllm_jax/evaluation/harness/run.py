"""The run of a task through lm-evaluation-harness."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mindllm_jax.evaluation.harness.model import harness_model, require_harness
from mindllm_jax.model.decoder import Decoder
from mindllm_jax.tokenization.tokenizer import Tokenizer

if TYPE_CHECKING:
    from lm_eval.api.task import Task


def run_task(
    name: str,
    task: Task,
    decoder: Decoder,
    tokenizer: Tokenizer,
    *,
    limit: int | None = None,
    batch_size: int = 16,
) -> dict[str, float]:
    """Runs a task and returns its metrics by name, as `acc` and `acc_stderr`.

    Also `items`, their number; `cut_requests`, the number of requests (one per choice) that were too long and lost the
    beginning of their context; and `chance`, for multiple choices.

    limit: maximum number of items, from the beginning. A standard error is that of the mean over items, and absent
    where the harness gives none. Raises whatever the code of the task and of the harness raises.
    """
    require_harness()
    from lm_eval.evaluator import evaluate

    model = harness_model(decoder, tokenizer, batch_size=batch_size)
    evaluation = evaluate(model, {"tasks": {name: task}}, limit=limit, log_samples=False)  # pyright: ignore[reportArgumentType]
    assert evaluation is not None  # our models are always process 0 to the harness
    metrics: dict[str, Any] = dict(evaluation["results"][name])  # pyright: ignore[reportTypedDictNotRequiredAccess]
    result: dict[str, float] = {key.split(",")[0]: value for key, value in metrics.items() if isinstance(value, float)}
    result |= {"items": metrics["sample_len"], "cut_requests": model.cut}
    if task.OUTPUT_TYPE == "multiple_choice":
        choices = [len(task.doc_to_choice(doc)) for doc in task.eval_docs]  # pyright: ignore[reportAttributeAccessIssue]
        result["chance"] = sum(1 / count for count in choices[:limit]) / len(choices[:limit])
    return result
