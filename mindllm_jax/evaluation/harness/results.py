"""Results in lm-evaluation-harness's own format, so that the tools that read it read ours."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mindllm_jax.evaluation.harness.run import BOOTSTRAP_ITERS, TaskResult
from mindllm_jax.evaluation.harness.tasks import FEWSHOT_SEED
from mindllm_jax.run_records import git_sha, installed


class HarnessResults:
    """The content of results.json, collected from tasks as they are done."""

    def __init__(self, model: str, protocol: Mapping[str, Any], config: Mapping[str, Any]) -> None:
        """model: the run and its step. protocol: as `Protocol.record` returns it. config: the harness's `config`."""
        self._results: dict[str, Any] = {}
        self._hashes: dict[str, str] = {}
        self._seconds = 0.0
        packages = installed(("lm_eval", "transformers", "jax"))
        self._header: dict[str, Any] = {
            "config": {
                "model": "mindllm_jax",
                "model_args": {"run": model, **protocol},
                "bootstrap_iters": BOOTSTRAP_ITERS,
                "fewshot_seed": FEWSHOT_SEED,
                **config,
            },
            "git_hash": git_sha(),
            "date": time.time(),
            "lm_eval_version": packages.get("lm_eval", "N/A"),
            "transformers_version": packages.get("transformers", "N/A"),
            "max_length": protocol["max_seq_len"],
            "model_source": "mindllm_jax",
            "model_name": model,
            "model_name_sanitized": "".join(c if c.isalnum() or c in "-_." else "__" for c in model),
            "system_instruction": protocol["system_prompt"],
            "fewshot_as_multiturn": protocol["chat_template"],
        }

    def add(self, result: TaskResult) -> None:
        """Adds what a task or group gave."""
        from lm_eval.utils import hash_string

        for key, value in result.harness.items():
            self._results.setdefault(key, {}).update(value)
        for name, records in result.samples.items():
            hashes = (record["doc_hash"] + record["prompt_hash"] + record["target_hash"] for record in records)
            self._hashes[name] = hash_string("".join(hashes))
        self._seconds += result.seconds

    def json(self) -> str:
        """Returns the text of results.json."""
        from lm_eval.utils import handle_non_serializable

        content = self._results | self._header
        content |= {"task_hashes": self._hashes, "total_evaluation_time_seconds": str(self._seconds)}
        return json.dumps(content, indent=2, ensure_ascii=False, default=handle_non_serializable) + "\n"


def sample_lines(records: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yields the lines of samples_TASK.jsonl: arguments by number, and answers and target as text, as it writes them.

    Besides the harness's fields a multiple-choice item has `choices` and `right` (see `TaskResult.samples`).
    """
    from lm_eval.utils import handle_non_serializable, sanitize_list

    for record in records:
        arguments = {
            f"gen_args_{i}": {f"arg_{j}": part for j, part in enumerate(of)} for i, of in enumerate(record["arguments"])
        }
        texts = {name: sanitize_list(record[name]) for name in ("resps", "filtered_resps")}
        line = {**record, **texts, "arguments": arguments, "target": str(record["target"])}
        yield json.dumps(line, ensure_ascii=False, default=handle_non_serializable) + "\n"
