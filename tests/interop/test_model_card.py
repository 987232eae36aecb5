"""The model card of an export shows the figures of the exported step."""

import json
from pathlib import Path

import pytest
from interop_models import a_run

from mindllm_jax.interop.model_card import model_card
from mindllm_jax.model.config import Model
from mindllm_jax.reporting.tables import Table
from mindllm_jax.training.load_run import read_run

SMALL = Model(layers=1, width=32, heads=4, head_dim=8, mlp_dim=48, max_seq_len=64)


@pytest.mark.parametrize(("evaluated", "shown"), [(7, True), (9, False)])
def test_figures_are_of_the_step(evaluated: int, shown: bool, tmp_path: Path) -> None:
    """The run is at step 7 and went on to 9."""
    run = a_run(tmp_path / "run", SMALL)
    rows = [{"step": step, "loss": loss} for step, loss in ((3, 3.25), (6, 2.25), (9, 1.25))]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (run / "evaluation").mkdir()
    (run / "evaluation/eval.json").write_text(json.dumps({"step": evaluated, "bits_per_byte": {"zh": 4.125}}))
    card = model_card(run, read_run(run), "LlamaForCausalLM", "float32", "", Table(("a",), [["b"]]))
    assert "2.25" in card and "1.25" not in card and "3.25" not in card
    assert ("bits per byte, zh" in card) == (f"step {evaluated}" in card) == shown


def test_a_step_before_all_figures_shows_none(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run", SMALL)
    (run / "metrics.jsonl").write_text('{"step": 9, "loss": 1.25}\n')
    card = model_card(run, read_run(run), "LlamaForCausalLM", "float32", "", Table(("a",), [["b"]]))
    assert "Figures" not in card
