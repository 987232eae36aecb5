"""Tuning a run: where it starts, what it learns, how it goes on, and what it refuses."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mindllm_jax.generation.chat import Chat, Session
from mindllm_jax.generation.sampling import Sampling
from mindllm_jax.instruct.answers import answer_loss
from mindllm_jax.instruct.instructions import PackedInstructions, pack_instructions
from mindllm_jax.instruct.tune import Tune, tune
from mindllm_jax.instruct.tuning_rows import TuningRows
from mindllm_jax.model.decoder import Decoder
from mindllm_jax.parallel.mesh import MeshAxes
from mindllm_jax.parallel.sharding import Sharding
from mindllm_jax.rows import Batch, SampledRows
from mindllm_jax.tokenization.tokenizer import Tokenizer
from mindllm_jax.training.checkpoint import latest_checkpoint
from mindllm_jax.training.checksums import write_checksums
from mindllm_jax.training.load_run import load_decoder, read_run, training_tokens
from mindllm_jax.training.run_spec import Loop


@pytest.fixture(scope="module")
def tuned(config: Tune, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the run."""
    workdir = tmp_path_factory.mktemp("tuned")
    tune(config, workdir)
    return workdir


@pytest.fixture(scope="module")
def packed(config: Tune, tuned: Path, tokenizer: Tokenizer) -> PackedInstructions:
    return pack_instructions(config.instructions, tokenizer, tuned / "instructions.npz")


@pytest.mark.long
def test_it_is_tuned_in_the_dtype_that_is_decided_on(config: Tune, tmp_path: Path) -> None:
    told: list[str] = []
    short = replace(config, loop=Loop(steps=2, global_batch_size=8))
    tune(short, tmp_path, (), told.append, lambda model: replace(model, compute_dtype="bfloat16"))
    identity = read_run(tmp_path).identity
    assert told == [identity["compute_dtype"]] == ["bfloat16"] and identity["model"]["compute_dtype"] == "float32"


def params_of(run: Path) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(nnx.state(load_decoder(run).decoder, nnx.Param))]


def metrics_of(run: Path, name: str) -> list[float]:
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [line[name] for line in lines if name in line]


def reference_loss(decoder: Decoder, batch: Batch) -> tuple[float, float]:
    """Mean loss and accuracy over the weighted targets, in float64 from the logits."""
    batch = Batch(*map(jnp.asarray, batch))
    logits = nnx.jit(
        lambda decoder, batch: decoder.logits(
            decoder(batch.tokens, segment_ids=batch.segment_ids, positions=batch.positions)
        )
    )(decoder, batch)
    logits = np.asarray(logits, np.float64)
    targets, weights = np.asarray(batch.targets), np.asarray(batch.weights)
    of_targets = np.take_along_axis(logits, targets[..., None], -1)[..., 0]
    losses = np.log(np.exp(logits).sum(-1)) - of_targets
    return (weights * losses).sum() / weights.sum(), (weights * (logits.argmax(-1) == targets)).sum() / weights.sum()


def test_it_starts_from_the_base(tuned: Path, base: Path, packed: PackedInstructions) -> None:
    batch = TuningRows(packed.train, {}, seed=0).read(np.arange(8))
    loss, accuracy = reference_loss(load_decoder(base).decoder, batch)
    assert metrics_of(tuned, "loss")[0] == pytest.approx(loss, rel=1e-5)
    assert metrics_of(tuned, "accuracy")[0] == pytest.approx(accuracy, rel=1e-5)


def test_the_answer_loss_is_that_of_the_answers(tuned: Path, packed: PackedInstructions) -> None:
    decoder, rows = load_decoder(tuned).decoder, packed.held_out["rows"]
    loss, accuracy = reference_loss(decoder, rows.read(np.arange(len(rows))))
    expected = {"answer_loss": pytest.approx(loss, rel=1e-5), "answer_accuracy": pytest.approx(accuracy)}
    assert answer_loss(packed.held_out)(decoder) == expected
    before, after = metrics_of(tuned, "answer_loss")
    assert after == pytest.approx(loss, rel=1e-5) and before > after
    assert len(metrics_of(tuned, "repetition")) == 1


def test_the_answer_loss_of_a_sample_is_the_same_on_any_devices(tuned: Path, packed: PackedInstructions) -> None:
    rows = packed.train["rows"]
    assert len(rows) > 5
    drawn = SampledRows(rows, 5, seed=0).read(np.arange(5))
    assert np.any(drawn.tokens != rows.read(np.arange(5)).tokens), "not the first rows"
    decoder = load_decoder(tuned).decoder
    loss, accuracy = reference_loss(decoder, drawn)
    everywhere = load_decoder(tuned, sharding=Sharding(MeshAxes().build(jax.devices()))).decoder
    for one in (decoder, everywhere):
        found = answer_loss({"rows": rows}, count=5)(one)
        assert found == {"answer_loss": pytest.approx(loss, rel=1e-5), "answer_accuracy": pytest.approx(accuracy)}


def test_it_learns_and_talks(tuned: Path, packed: PackedInstructions, base: Path) -> None:
    losses = metrics_of(tuned, "loss")
    assert len(losses) == 8 and losses[-1] < 0.5 * losses[0]
    untuned, after = (answer_loss(packed.held_out)(load_decoder(run).decoder)["answer_loss"] for run in (base, tuned))
    assert after < 0.5 * untuned
    session = Session(load_decoder(tuned), Chat(run=str(tuned), sampling=Sampling(temperature=0.0, max_tokens=16)))
    assert "".join(session.reply("3?")) in ("yes 好", "no")


def test_it_goes_on_where_it_was_interrupted(config: Tune, tuned: Path, tmp_path: Path) -> None:
    shutil.copytree(tuned, tmp_path / "run")
    shutil.rmtree(tmp_path / "run/checkpoints/8")
    tune(config, tmp_path / "run")
    assert all(map(np.array_equal, params_of(tuned), params_of(tmp_path / "run")))
    assert metrics_of(tmp_path / "run", "loss") == metrics_of(tuned, "loss")


def test_the_run_remembers_its_base(tuned: Path, base: Path) -> None:
    identity = read_run(tuned).identity
    assert identity["Tune"]["base"] == str(base)
    assert identity["Pretrain"] == {"data": {"store": "somewhere"}}, "where held-out text is found"
    of_base = read_run(base).identity
    assert training_tokens(identity) == training_tokens(of_base) + identity["position"]["tokens"]
    assert training_tokens({**identity, "base_tokens": None}) is None, "published weights were tuned"
    assert training_tokens({key: identity[key] for key in ("base", "position")}) is None, "of an older version"


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


def test_data_that_cannot_be_tuned_on(
    config: Tune, rows: list[dict[str, str]], write: Callable[..., Path], tmp_path: Path
) -> None:
    def tuned_on(path: Path, **changes: Any) -> None:
        tune(
            replace(config, instructions=replace(config.instructions, inputs=(str(path),), **changes)), tmp_path / "run"
        )

    with pytest.raises(ValueError, match=r"bad\.jsonl, line 2: wrong JSON at column 9"):
        tuned_on(write(rows[0], '{"input"', name="bad.jsonl"))
    with pytest.raises(ValueError, match=r"some\.jsonl, line 1: `messages` has no turn of the role 'assistant'"):
        tuned_on(write({"messages": [{"role": "user", "content": "Q"}]}))
    with pytest.raises(ValueError, match=r"some\.jsonl holds no conversation: the file is empty"):
        tuned_on(write())
    with pytest.raises(ValueError, match=r"sequence_length = 97 is more than the 96 positions .*: lower it"):
        tuned_on(write(*rows), sequence_length=97)


def test_going_on_with_other_data_is_refused(
    config: Tune, rows: list[dict[str, str]], tuned: Path, write: Callable[..., Path], tmp_path: Path
) -> None:
    shutil.copytree(tuned, tmp_path / "run")
    other = replace(config.instructions, inputs=(str(write(*rows[:30])),))
    with pytest.raises(
        ValueError,
        match=r"checkpoints/8: the checkpoint does not match this run:\n  data\.files\.train: was .*rows\.jsonl",
    ):
        tune(replace(config, instructions=other), tmp_path / "run")


def test_a_base_that_trained_further_is_the_same_base_and_one_of_another_seed_is_not(
    config: Tune, tuned: Path, base: Path, tmp_path: Path
) -> None:
    shutil.copytree(tuned, tmp_path / "run")
    further = Path(shutil.copytree(base, tmp_path / "base"))
    latest_checkpoint(further).rename(further / "checkpoints/9")
    of_base = further / "checkpoints/9/run/metadata"
    identity = json.loads(of_base.read_text()) | {"step": 9}

    def resume(seed: int) -> None:
        of_base.write_text(json.dumps(identity | {"seed": seed}))
        write_checksums(further / "checkpoints/9")
        tune(replace(config, base=str(further)), tmp_path / "run")

    resume(identity["seed"])
    with pytest.raises(ValueError, match=r"does not match this run:\n  base\.seed: was 0, is now 5"):
        resume(5)
