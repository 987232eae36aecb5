"""Tuning a run: where it starts, what it learns, how it goes on, and what it refuses."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx

from mindllm_jax.data.tokenizer import Tokenizer
from mindllm_jax.generation.chat import Chat, Session
from mindllm_jax.generation.sampling import Sampling
from mindllm_jax.instruct.answers import answer_loss
from mindllm_jax.instruct.instructions import Instructions, pack_instructions
from mindllm_jax.instruct.tune import Tune, tune
from mindllm_jax.training.checkpoint import Checkpointing
from mindllm_jax.training.loop import Loop
from mindllm_jax.training.optimizer import Optimizer
from mindllm_jax.training.restore import load_decoder, read_run

ROWS = [{"id": f"n{i}", "input": f"{i}?", "output": "yes 好" if i % 2 else "no"} for i in range(60)]


@pytest.fixture
def config(base: Path, write: Callable[..., Path]) -> Tune:
    return Tune(
        base=str(base),
        instructions=Instructions((str(write(*ROWS, name="rows.jsonl")),), sequence_length=64, held_out=0.2),
        optimizer=Optimizer(peak_learning_rate=1e-2, warmup_steps=2),
        loop=Loop(steps=8, batch_rows=8, log_every=1, evaluate_every=8),
        checkpointing=Checkpointing(every_steps=4),
    )


def params_of(run: Path) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(nnx.state(load_decoder(run).decoder, nnx.Param))]


def metrics_of(run: Path, name: str) -> list[float]:
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [line[name] for line in lines if name in line]


def test_a_tuned_run_learns_goes_on_and_talks(config: Tune, base: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    straight = tmp_path / "straight"
    tune(config, straight)
    losses = metrics_of(straight, "loss")
    assert len(losses) == 8 and losses[-1] < 0.5 * losses[0]
    (held_out,) = metrics_of(straight, "answer_loss")
    packed = pack_instructions(config.instructions, tokenizer, straight / "instructions.npz")
    untuned = answer_loss(packed.held_out)(load_decoder(base).decoder)["answer_loss"]
    assert held_out < 0.5 * untuned

    # Interrupted after step 4: what was saved later is gone.
    resumed = tmp_path / "resumed"
    shutil.copytree(straight, resumed)
    shutil.rmtree(resumed / "checkpoints/8")
    tune(config, resumed)
    assert all(map(np.array_equal, params_of(straight), params_of(resumed)))
    assert metrics_of(resumed, "loss") == losses

    record = read_run(straight)
    assert record.identity["Tune"]["base"] == str(base)
    assert record.identity["Pretrain"] == {"data": {"store": "somewhere"}}, "where the base was trained stays known"
    sampling = Sampling(temperature=0.0, max_tokens=16)
    session = Session(load_decoder(straight), Chat(run=str(straight), sampling=sampling))
    assert "".join(session.reply("3?")) in ("yes 好", "no")


def test_it_starts_from_the_base(config: Tune, base: Path, tmp_path: Path) -> None:
    barely = replace(config, optimizer=Optimizer(peak_learning_rate=1e-12), loop=replace(config.loop, steps=1))
    tune(barely, tmp_path / "run")
    for before, after in zip(params_of(base), params_of(tmp_path / "run"), strict=True):
        np.testing.assert_allclose(after, before, rtol=0, atol=1e-9)


def test_the_answer_loss_is_that_of_the_answers(config: Tune, base: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    decoder = load_decoder(base).decoder
    rows = pack_instructions(config.instructions, tokenizer, tmp_path / "rows.npz").held_out
    batch = rows.read(np.arange(len(rows)))
    hidden = decoder(batch.tokens, segment_ids=batch.segment_ids, positions=batch.positions)
    logits = np.asarray(decoder.logits(hidden), np.float64)
    log_probability = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    of_targets = np.take_along_axis(log_probability, np.asarray(batch.targets)[..., None], -1)[..., 0]
    weights = np.asarray(batch.weights)
    measured = answer_loss(rows)(decoder)
    assert measured["answer_loss"] == pytest.approx(-(weights * of_targets).sum() / weights.sum(), rel=1e-6)
    correct = logits.argmax(-1) == batch.targets
    assert measured["answer_accuracy"] == pytest.approx((weights * correct).sum() / weights.sum())


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def another_tokenizer(run: Path) -> None:
    """The same pieces in another file: an unknown field is added to the protocol buffer."""
    path = run / "tokenizer.model"
    path.write_bytes(path.read_bytes() + b"\xfa\x07\x00")


SPOILED: dict[str, tuple[Callable[[Path], Any], type[Exception], str]] = {
    "no run": (shutil.rmtree, FileNotFoundError, "base holds no checkpoint"),
    "no checkpoint": (lambda run: shutil.rmtree(run / "checkpoints/7"), FileNotFoundError, "base holds no checkpoint"),
    "no tokenizer": (lambda run: (run / "tokenizer.model").unlink(), FileNotFoundError, "there is no tokenizer .*base"),
    "another tokenizer": (another_tokenizer, ValueError, r"tokenizer\.model is not the tokenizer that .* was trained"),
    "damaged": (
        lambda run: damage(max((run / "checkpoints/7/params").rglob("*"), key=lambda p: p.stat().st_size)),
        ValueError,
        r"does not match its checksum: the checkpoint is damaged",
    ),
}


@pytest.mark.parametrize("case", SPOILED)
def test_bases_that_cannot_be_tuned(config: Tune, base: Path, tmp_path: Path, case: str) -> None:
    spoil, kind, message = SPOILED[case]
    copy = tmp_path / "base"
    shutil.copytree(base, copy)
    spoil(copy)
    with pytest.raises(kind, match=message):
        tune(replace(config, base=str(copy)), tmp_path / "run")


def test_data_that_cannot_be_tuned_on(config: Tune, write: Callable[..., Path], tmp_path: Path) -> None:
    def tuned_on(path: Path, **changes: Any) -> None:
        tune(
            replace(config, instructions=replace(config.instructions, inputs=(str(path),), **changes)), tmp_path / "run"
        )

    with pytest.raises(ValueError, match=r"bad\.jsonl, line 2: wrong JSON at column 9"):
        tuned_on(write(ROWS[0], '{"input"', name="bad.jsonl"))
    with pytest.raises(ValueError, match=r"some\.jsonl, line 1: `messages` has no turn of the role 'assistant'"):
        tuned_on(write({"messages": [{"role": "user", "content": "Q"}]}))
    with pytest.raises(ValueError, match=r"some\.jsonl holds no conversation: the file is empty"):
        tuned_on(write())
    with pytest.raises(ValueError, match=r"rows of 97 tokens are longer than Model\.max_length = 96"):
        tuned_on(write(*ROWS), sequence_length=97)


def test_going_on_with_other_data_is_refused(config: Tune, write: Callable[..., Path], tmp_path: Path) -> None:
    short = replace(config, loop=replace(config.loop, steps=1))
    tune(short, tmp_path / "run")
    write(*ROWS[:30], name="rows.jsonl")
    with pytest.raises(ValueError, match=r"checkpoints/1: data was .* use the data and tokenizer of that run"):
        tune(short, tmp_path / "run")
