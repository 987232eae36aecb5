"""The scores of SmolLM2: prompts, resuming, and weights rounded once more."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from flax import nnx

from mindllm_jax.evaluation.encoding import Encoder
from mindllm_jax.evaluation.protocol import Protocol
from mindllm_jax.model.config import Model
from mindllm_jax.model.decoder import Decoder
from mindllm_jax.tokenization.tokenizer import Tokenizer

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

import smollm2_items as items  # noqa: E402
import smollm2_scores as scores  # noqa: E402


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.load(ROOT / "tests/fixtures/tokenizer.model")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    (folder / "piqa").mkdir()
    (folder / "piqa/valid.jsonl").write_text('{"goal": "Boil water.", "sol1": "Heat it.", "sol2": "Cool it."}\n')
    (folder / "piqa/valid-labels.lst").write_text("0\n")
    (folder / "hellaswag").mkdir()
    endings = ["runs [substeps] home.", "flies.", "sings.", "swims."]
    context = "[header] How to move [title] A dog waits. the dog"
    row = {"ind": 0, "source_hash": "", "ctx": context, "endings": endings, "label": 2, "split": "val"}
    (folder / "hellaswag/val_subset.jsonl").write_text(json.dumps(row) + "\n")
    return folder


def test_items_are_asked_as_the_harness_does(data: Path, tokenizer: Tokenizer) -> None:
    pytest.importorskip("lm_eval")
    benchmarks = items.load_benchmarks(data)
    encoder = Encoder(tokenizer, Protocol(first_token=None))
    asked = {
        name: [
            (tokenizer.decode(context), tokenizer.decode(continuation))
            for context, continuation in items.item_queries(encoder, benchmark, 0)
        ]
        for name, benchmark in benchmarks.items()
    }
    assert asked["piqa"] == [("Question: Boil water.\nAnswer:", f" {way} it.") for way in ("Heat", "Cool")]
    prompt = "How to move. A dog waits. The dog"
    assert asked["hellaswag"] == [(prompt, f" {end}") for end in ("runs home.", "flies.", "sings.", "swims.")]
    assert scores.scores(benchmarks["hellaswag"], 0, [-3.0, -3.5, -2.0, -5.0]) == (1.0, 0.0)
    assert scores.scores(benchmarks["piqa"], 0, [-1.0, -2.0]) == (1.0, 1.0)


def test_a_begun_sentence_is_split_off() -> None:
    assert items.split_context("One. two three") == ("One.", "two three")
    assert items.split_context("One. Two three.") == ("One. Two three.", "")
    assert items.split_context("one") == ("one", "")


def test_a_stopped_measurement_resumes_behind_the_last_whole_line(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    assert scores.read_answers(path) == {}
    path.write_text('["piqa", "as hf", 0, [-1.5, -2.0]]\n["piqa", "as')
    assert scores.read_answers(path) == {("piqa", "as hf", 0): [-1.5, -2.0]}
    assert path.read_text() == '["piqa", "as hf", 0, [-1.5, -2.0]]\n'


def small_decoder() -> Decoder:
    model = Model(vocab_size=32, layers=2, width=64, heads=2, head_dim=32, mlp_dim=96, max_seq_len=16)
    return Decoder(model, rngs=nnx.Rngs(0))


def test_weights_are_rounded_again_by_a_step_of_their_grid() -> None:
    decoder = small_decoder()
    with pytest.raises(ValueError, match="is not rounded to 16 values per 32 weights"):
        items.rounded_again(decoder)
    state = nnx.state(decoder.blocks)
    for path, variable in nnx.to_flat_state(state):
        if len(variable.shape) > 2:
            layers, inputs = variable.shape[0], variable.shape[1] * (variable.shape[2] if path[-1] == "out" else 1)
            grid = np.broadcast_to(
                0.01 * (np.arange(inputs) % 16)[:, None], (layers, inputs, variable[...].size // inputs // layers)
            )
            variable[...] = grid.reshape(variable.shape).astype(np.float32)
    nnx.update(decoder.blocks, state)
    rounded = items.rounded_again(decoder)
    for (path, old), (_, new) in zip(
        *(nnx.to_flat_state(nnx.state(each.blocks)) for each in (decoder, rounded)), strict=True
    ):
        error = np.asarray(new[...] - old[...])
        if old[...].ndim > 2:
            assert np.abs(error).max() <= 0.5 * 0.0101
            assert error.std() == pytest.approx(0.01 / np.sqrt(12), rel=0.15), path
        else:
            assert not error.any()


def test_the_interval_is_wilsons() -> None:
    assert scores.wilson(50, 100) == "50.00 (40.4 to 59.6)"
    assert scores.wilson(0, 10) == "0.00 (0.0 to 27.8)"
