"""Likelihoods behind shared prefixes, against one pass over each whole sequence."""

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from flax import nnx
from numerics import SEED

from mindllm_jax.evaluation import likelihood, prefix_rows
from mindllm_jax.evaluation.likelihood import Likelihood, Query, likelihoods
from mindllm_jax.evaluation.prefix_rows import Levels
from mindllm_jax.model.config import Model
from mindllm_jax.model.decoder import Decoder

ROOT = Path(__file__).parents[2]

LogProbabilities = Callable[[Decoder, Sequence[int]], np.ndarray]


@pytest.fixture(scope="module")
def queries() -> list[Query]:
    """Few-shot prompts of two subjects: letters, and answers of several tokens; some too long for the model."""
    random = np.random.default_rng(SEED)

    def ids(most: int, least: int = 1) -> list[int]:
        return random.integers(0, 300, random.integers(least, most)).tolist()

    found = [Query(ids(40), ids(20)) for _ in range(3)]
    for _ in range(2):
        examples = ids(26, 20)
        for number in range(8):
            context = [*examples, *ids(24, 16)]
            found += [Query(context, [letter] if number % 2 else [letter, *ids(12)]) for letter in (5, 6, 7, 8)]
        found += [Query([*examples, *ids(61, 60)], [letter]) for letter in (5, 6)]
    return [found[n] for n in random.permutation(len(found))]


def expected(decoder: Decoder, queries: Sequence[Query], log_probabilities: LogProbabilities) -> list[Likelihood]:
    answers: list[Likelihood] = []
    for context, continuation in queries:
        whole = [*context, *continuation]
        cut = max(0, len(whole) - 1 - decoder.config.max_seq_len)
        logs = log_probabilities(decoder, whole[cut:-1])[-len(continuation) :]
        log = logs[np.arange(len(continuation)), list(continuation)].sum()
        answers.append(Likelihood(float(log), logs.argmax(-1).tolist() == list(continuation), cut))
    return answers


def require_equal(found: Sequence[Likelihood], expected: Sequence[Likelihood]) -> None:
    assert [answer.log for answer in found] == pytest.approx([answer.log for answer in expected], rel=5e-6)
    assert [answer[1:] for answer in found] == [answer[1:] for answer in expected]


@pytest.fixture
def levels(monkeypatch: pytest.MonkeyPatch) -> list[Levels]:
    """The levels of sharing of each call."""
    used: list[Levels] = []

    def remember(*args: object, **settings: object) -> Levels:
        used.append(prefix_rows.shared_levels(*args, **settings))  # pyright: ignore[reportArgumentType]
        return used[-1]

    monkeypatch.setattr(likelihood, "shared_levels", remember)
    return used


def test_likelihoods_behind_prefixes_are_those_of_the_whole(
    decoder: Decoder, queries: list[Query], log_probabilities: LogProbabilities, levels: list[Levels]
) -> None:
    require_equal(likelihoods(decoder, queries, batch_size=6), expected(decoder, queries, log_probabilities))
    assert levels[0].far and levels[0].near


def test_devices_change_nothing(
    decoder: Decoder, on_devices: Callable[[int], Decoder], queries: list[Query], levels: list[Levels]
) -> None:
    truth = likelihoods(decoder, queries, batch_size=6)
    require_equal(likelihoods(on_devices(4), queries, batch_size=6), truth)
    assert levels[0].far and levels[0] == levels[1]


@pytest.mark.slow
def test_two_processes_give_the_likelihoods_of_one(
    model: Model, decoder: Decoder, queries: list[Query], tmp_path: Path
) -> None:
    asked, answered = tmp_path / "asked.json", tmp_path / "answered.json"
    asked.write_text(json.dumps({"model": dataclasses.asdict(model), "queries": queries}))
    script = [sys.executable, str(Path(__file__).with_name("likelihoods_on_mesh.py")), str(asked), str(answered)]
    cluster = [sys.executable, str(ROOT / "launch/local_cluster.py"), "--processes", "2", "--devices", "2", "--"]
    done = subprocess.run([*cluster, *script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = [Likelihood(*answer) for answer in json.loads(answered.read_text())]
    require_equal(found, likelihoods(decoder, queries, batch_size=6))


def test_local_layers_and_learned_positions(
    model: Model, queries: list[Query], log_probabilities: LogProbabilities, levels: list[Levels]
) -> None:
    gpt_neo = dataclasses.replace(
        model, positions="learned", norm="layernorm", residual="pre_norm", mlp="gelu", windows=(None, 24), kv_heads=2,
        biases=("attention_out", "mlp"), tied=True, attention_scale=1.0,
    )  # fmt: skip
    decoder = nnx.jit(lambda: Decoder(gpt_neo, rngs=nnx.Rngs(SEED)))()
    require_equal(likelihoods(decoder, queries, batch_size=6), expected(decoder, queries, log_probabilities))
    assert levels[0].far and levels[0].near


def test_one_program_serves_all_subjects(decoder: Decoder) -> None:
    random = np.random.default_rng(SEED)

    def ids(most: int, least: int = 1) -> list[int]:
        return random.integers(0, 300, random.integers(least, most)).tolist()

    before = likelihood._score._cache_size()  # pyright: ignore
    for _ in range(3):
        examples = ids(30, 20)
        contexts = [[*examples, *ids(20)] for _ in range(random.integers(25, 40))]
        likelihoods(decoder, [Query(context, [letter]) for context in contexts for letter in (5, 6)], batch_size=3)
    assert likelihood._score._cache_size() - before == 1  # pyright: ignore


def test_few_queries_are_a_small_batch(decoder: Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes: list[tuple[int, ...]] = []

    def stop(definition: object, params: object, batch: likelihood._Batch[np.ndarray]) -> None:
        shapes.append(batch.tokens.shape)
        raise InterruptedError

    monkeypatch.setattr(likelihood, "_score", stop)
    for rows in (1, 3, 9):
        with pytest.raises(InterruptedError):
            likelihoods(decoder, [Query([n] * 40, [1]) for n in range(rows)], batch_size=6)
    assert shapes == [(1, 64), (4, 64), (6, 64)]
