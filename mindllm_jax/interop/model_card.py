"""The model card of an exported run, in the form of Hugging Face's README.md."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mindllm_jax.evaluation.report import read_result, results_table
from mindllm_jax.reporting.run import read_metrics
from mindllm_jax.reporting.tables import Table
from mindllm_jax.training.load_run import RunRecord

_SHAPE = ("layers", "width", "heads", "kv_heads", "head_dim", "mlp_dim", "vocab_size", "max_seq_len")
_PARTS = ("positions", "norm", "residual", "mlp", "windows", "biases", "tied")


def model_card(run: Path, record: RunRecord, architecture: str, dtype: str, license: str, conformance: Table) -> str:
    """Returns the card: licence, how to load, shape, where it came from, data, figures, and the proof of the export.

    license: "": what the published weights that the run began with state; else none is claimed.

    Raises ValueError where the run's metrics.jsonl or evaluation/eval.json is damaged.
    """
    source = record.identity.get("source") or {}
    license = license or source.get("license") or ""
    head = {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["mindllm-jax", architecture],
        **({"license": license} if license else {}),
    }
    trust = ", trust_remote_code=True" if architecture.startswith("MindLLM") else ""
    parts = [
        "\n".join(["---", *(f"{name}: {json.dumps(value)}" for name, value in head.items()), "---"]),
        f"# {run.resolve().name}",
        f"```python\nfrom transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
        f'tokenizer = AutoTokenizer.from_pretrained("."{trust})\n'
        f'model = AutoModelForCausalLM.from_pretrained("."{trust})  # ".": this folder\n```',
        _attention_note(architecture),
        f"Licence: {license or 'not stated; those of the data and of the published weights it began with apply'}.",
        "## Model\n\n" + _model(record, architecture, dtype).markdown(),
        "## Data\n\n" + _data(record.identity),
        *_source(source),
        *_figures(run, record.identity["step"]),
        "## Conformance\n\n" + conformance.markdown(),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _attention_note(architecture: str) -> str:
    if architecture != "GPTNeoForCausalLM":
        return ""
    return (
        "transformers computes this class correctly with eager attention alone: its flash attention drops the local "
        'windows, which changes the result beyond them. Pass `attn_implementation="eager"`.'
    )


def _model(record: RunRecord, architecture: str, dtype: str) -> Table:
    settings = record.identity["model"]
    rows = [[name, str(settings[name])] for name in (*_SHAPE, *_PARTS) if settings.get(name) is not None]
    return Table(("", ""), [["class", architecture], ["dtype", dtype], *rows])


def _data(identity: Mapping[str, Any]) -> str:
    tokens = identity["position"].get("tokens", 0)
    trained = f"{identity['step']:,} steps, {tokens:,} tokens read." if identity["step"] else "Not trained further."
    listing = json.dumps(identity.get("data") or {}, indent=1, ensure_ascii=False)
    return trained + (f"\n\n```json\n{listing}\n```" if identity.get("data") else "")


def _source(source: Mapping[str, Any]) -> list[str]:
    if not source:
        return []
    files = [[name, digest] for name, digest in source["files"].items()]
    text = f"Began with published weights: {source['name']} ({source['architecture']}, {source['format']})."
    return ["## Published weights\n\n" + text + "\n\n" + Table(("file", "sha256"), files).markdown()]


def _figures(run: Path, step: int) -> list[str]:
    """Returns the last figures that were logged up to a step, and an evaluation of that step."""
    parts = []
    logged = read_metrics(run) if (run / "metrics.jsonl").is_file() else []
    if until := [row for row in logged if row["step"] <= step]:
        shown = {
            name: value for name, value in until[-1].items() if name in ("step", "loss") or "bits_per_byte" in name
        }
        parts.append(Table(("last logged", ""), [list(row) for row in shown.items()]).markdown())
    path = run / "evaluation" / "eval.json"
    if path.is_file() and (result := read_result(path)).get("step") == step:
        parts.append(results_table({f"step {step}": result}).markdown())
    return ["## Figures\n\n" + "\n".join(parts)] if parts else []
