"""The folder of an evaluation: each file is written as soon as its content is known."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from mindllm_jax.evaluation.answers import Answers
from mindllm_jax.evaluation.encoding import Encoder
from mindllm_jax.evaluation.harness.results import HarnessResults, sample_lines
from mindllm_jax.evaluation.harness.run import TaskResult
from mindllm_jax.evaluation.page import PromptPage
from mindllm_jax.evaluation.protocol import Protocol
from mindllm_jax.evaluation.report import report_markdown
from mindllm_jax.files import read_json, replacing, write_text
from mindllm_jax.run_records import differences
from mindllm_jax.training.load_run import LoadedRun

log = logging.getLogger(__name__)


class EvaluationFolder:
    """Writes the results of an evaluation in the first process; without a path it writes nothing.

    eval.json holds the result of `evaluate`, report.md its tables beside published figures. In the format of
    lm-evaluation-harness are results.json and, with every item of a task, samples_TASK.jsonl. prompts.html shows the
    first prompts of each task as the model read them, and answers.jsonl is the cache that a repeated evaluation reads.
    """

    def __init__(self, path: Path | None, loaded: LoadedRun, protocol: Protocol, result: Mapping[str, Any]) -> None:
        """result: the beginning of eval.json, which names the run and the protocol."""
        self._answers = path
        self._path = path if jax.process_index() == 0 else None
        self._header = json.loads(json.dumps(result))
        self._page = PromptPage(_title(result), Encoder(loaded.tokenizer, protocol), loaded.model.max_seq_len)
        limit = result.get("task_settings", {}).get("samples")
        config = {"model_num_parameters": result["parameters"], "model_dtype": result["compute_dtype"], "limit": limit}
        self._harness = HarnessResults(_title(result), result["protocol"], config)
        self._begun = False

    def _begin(self, path: Path) -> None:
        """Removes, before the first part, results of other weights or settings, which would mix with ours.

        The answers stay: their keys tell evaluations apart.
        """
        if self._begun:
            return
        self._begun = True
        if (path / "eval.json").exists():
            if not (different := self._different(path / "eval.json")):
                return
            log.warning("%s: the results of another evaluation are replaced:\n  %s", path, "\n  ".join(different))
        for name in ("eval.json", "report.md", "results.json", "prompts.html", "samples_*.jsonl"):
            for old in path.glob(name):
                old.unlink()

    def answers(self) -> Answers | None:
        """Returns the cache of answers in the folder, in every process; None without a folder."""
        return None if self._answers is None else Answers(self._answers, self._header["weights"])

    def write(self, result: Mapping[str, Any]) -> None:
        """Writes eval.json and report.md."""
        if self._path is not None:
            self._begin(self._path)
            write_text(self._path / "eval.json", json.dumps(result, indent=1, ensure_ascii=False) + "\n")
            write_text(self._path / "report.md", report_markdown(result))

    def add(self, result: TaskResult) -> None:
        """Writes the samples of a task, and results.json and prompts.html with it."""
        if self._path is None:
            return
        self._begin(self._path)
        for name, records in result.samples.items():
            with replacing(self._path / f"samples_{name}.jsonl") as file:
                file.writelines(sample_lines(records))
        self._harness.add(result)
        write_text(self._path / "results.json", self._harness.json())
        self._page.add(result)
        write_text(self._path / "prompts.html", self._page.html())

    def _different(self, path: Path) -> list[str]:
        """Returns what differs between the evaluation in the folder and ours, as lines."""
        try:
            before = read_json(path)
        except (OSError, ValueError) as error:
            return [str(error)]
        return differences({name: before.get(name) for name in self._header}, self._header)


def _title(result: Mapping[str, Any]) -> str:
    return f"{result['run']}, step {result['step']}"
