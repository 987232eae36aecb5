"""A whole ranking of tiny runs: answers that are kept, judges, and starts that are refused or resumed."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from endpoint_server import EndpointServer
from flax import nnx

from mindllm_jax.batching.chat_format import encode_conversations
from mindllm_jax.batching.chat_template import Message
from mindllm_jax.instruct.ranking.comparisons import Request
from mindllm_jax.instruct.ranking.likelihood import answer_likelihoods, likelihood_verdicts
from mindllm_jax.instruct.ranking.prompts import Prompt
from mindllm_jax.instruct.ranking.rank import cost, open_ranking, rank
from mindllm_jax.instruct.ranking.report import judge_table, ranking_table, write_ranking
from mindllm_jax.instruct.ranking.settings import Judge, RankAnswers
from mindllm_jax.instruct.scoring.forward import token_scores
from mindllm_jax.model.not_finite import NotFiniteError
from mindllm_jax.training.load_run import load_decoder

pytest.importorskip("evalica", reason="evalica (the extra `rank`) is not installed")
ROOT = Path(__file__).parents[3]


class Judging(EndpointServer):
    """Finds the answer better that is longer, unless `script` has another reply."""

    def __init__(self) -> None:
        super().__init__()
        self.script: list[Any] = []
        self.always = ""

    def answer(self, text: str) -> Any:
        if self.script:
            return self.script.pop(0)
        first, _, second = text.removeprefix("A:").partition("\nB:")
        return self.always or ("A" if len(first) > len(second) else "B")


@pytest.fixture
def endpoint() -> Iterator[Judging]:
    server = Judging()
    with server.running():
        yield server


@pytest.fixture(scope="session")
def answered(
    tmp_path_factory: pytest.TempPathFactory, base: Path, random_run: Callable[[Path, int], None]
) -> tuple[RankAnswers, Path]:
    """Two runs and the references, and a workdir with their answers, which people are still to judge."""
    folder = tmp_path_factory.mktemp("ranking")
    random_run(folder / "other", 1)
    rows = [{"id": f"n{i}", "input": f"{i}?", "output": f"answer {i} of some length"} for i in range(4)]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = RankAnswers(
        {"base": str(base), "other": str(folder / "other")},
        (str(folder / "prompts.jsonl"),),
        Judge(by="file", file=str(folder / "choices.csv")),
        with_reference=True,
        max_tokens=4,
        batch_size=4,
        resamples=20,
    )
    with pytest.raises(FileNotFoundError, match=r"choices\.csv: the answers to choose between are in .*answers; write"):
        rank(open_ranking(config, folder))
    return config, folder


@pytest.fixture
def workdir(answered: tuple[RankAnswers, Path], tmp_path: Path) -> Path:
    shutil.copytree(answered[1] / "answers", tmp_path / "answers")
    return tmp_path


def by_endpoint(config: RankAnswers, endpoint: Judging, **changes: Any) -> RankAnswers:
    judge = Judge(url=endpoint.url, model="m", prompt="A:{first}\nB:{second}\nQ:{question}", concurrency=1, attempts=2)
    return dataclasses.replace(config, judge=dataclasses.replace(judge, **changes))


@pytest.mark.long
def test_an_endpoint_judges_in_both_orders_and_is_asked_once(
    answered: tuple[RankAnswers, Path], workdir: Path, endpoint: Judging, capsys: pytest.CaptureFixture[str]
) -> None:
    config = by_endpoint(answered[0], endpoint)
    ranking = open_ranking(config, workdir)
    told = cost(ranking)
    assert "3 models (base, other, reference), 4 prompts, 12 pairs; 0 answers are missing; 24 requests" in told
    endpoint.script = ["neither", 429]
    result = rank(ranking, lambda seconds: None)
    sent = {request["messages"][0]["content"] for request in endpoint.asked}
    assert f" {sum(map(len, sent)):,} characters to be sent" in told
    assert result["counts"]["without a verdict"] == 1
    assert result["requests"] == {"nonsense": 1, "refused for the rate": 1, "answered": 23}

    asked = len(endpoint.asked)
    again = open_ranking(config, workdir)
    assert "; 1 requests (both orders)" in cost(again)
    result = rank(again)
    assert len(endpoint.asked) == asked + 1 and result["requests"] == {"answered": 1}
    assert "without a verdict" not in {name for name, count in result["counts"].items() if count}
    assert result["counts"]["pairs"] == 12
    assert sum(model["wins"] + model["ties"] + model["losses"] for model in result["models"]) == 24
    assert "base:" not in capsys.readouterr().out, "no run was asked again"

    page = write_ranking(result, workdir).read_text()
    assert "| reference |" in page and "position bias" in page
    assert json.loads((workdir / "ranking.json").read_text())["models"] == json.loads(json.dumps(result["models"]))


@pytest.mark.long
def test_a_judge_that_always_prefers_the_first_place_makes_ties(
    answered: tuple[RankAnswers, Path], workdir: Path, endpoint: Judging
) -> None:
    endpoint.always = "A"
    result = rank(open_ranking(by_endpoint(answered[0], endpoint), workdir))
    assert all(model["wins"] == model["losses"] == 0 for model in result["models"])
    assert all(model["rating"] == pytest.approx(1000) for model in result["models"])
    assert result["counts"]["orders disagree"] == 12
    assert ("position bias: verdicts for the first place (50%: none)", "24 of 24, 100%") in judge_table(result).rows


@pytest.mark.long
def test_a_run_prefers_its_own_greedy_answers(answered: tuple[RankAnswers, Path], workdir: Path) -> None:
    config = dataclasses.replace(answered[0], judge=Judge(by="likelihood", run=answered[0].runs["base"], tie=0.0))
    ranking = open_ranking(config, workdir)
    assert cost(ranking).endswith("base0 judges 12 pairs by likelihood")
    result = rank(ranking)
    assert result["models"][0]["name"] == "base" and result["models"][0]["losses"] == 0
    assert ranking_table(result).rows[0][0] == "base"
    assert "base | " in result["note"] and result["models"][0]["interval"] is None
    assert cost(open_ranking(config, workdir)).endswith("judges 0 pairs by likelihood")
    all_ties = dataclasses.replace(config, judge=dataclasses.replace(config.judge, tie=1e9))
    assert {model["wins"] for model in rank(open_ranking(all_ties, workdir))["models"]} == {0}


@pytest.mark.long
def test_likelihood_is_of_the_last_answer_alone(base: Path) -> None:
    run = load_decoder(base)
    question, again = Message("user", "1?"), Message("user", "2?")
    one, two = Message("assistant", "no"), Message("assistant", "yes 好")
    long = [Message("user", "word " * 200), two]
    alone, last, cut = answer_likelihoods(run, [[question, two], [question, one, again, two], long], batch_size=4)
    ((ids, mask),) = encode_conversations(run.tokenizer, [[question, one, again, two]])
    (score,) = token_scores(run.decoder, [ids], batch_tokens=256)
    places = np.flatnonzero(mask)
    places = places[places > places[np.flatnonzero(np.diff(places) > 1)[0]]]  # of the second answer
    places = [place for place in places if run.tokenizer.token_bytes[ids[place]]]  # without the end of the turn
    expected = -sum(float(score.loss[place - 1]) for place in places) / len("yes 好".encode())
    assert last.per_byte == pytest.approx(expected, rel=1e-5)
    assert alone.per_byte < 0 and alone.per_byte != last.per_byte
    assert (alone.cut, last.cut, cut.cut) == (False, False, True)
    prompt = Prompt("n", (question,), "")
    empty = Request("k", prompt, ("x", "y"), (" ", "yes"), "")
    assert [winner for _, winner, _ in likelihood_verdicts(run, [empty], tie=100.0, batch_size=4)] == ["second"]


@pytest.mark.long
def test_a_judge_that_computes_nan_has_no_verdict(base: Path) -> None:
    """NaN is above nothing, so that the second answer would win every time, and the verdict would be kept."""
    run = load_decoder(base)
    nnx.update(run.decoder, jax.tree.map(lambda x: x * np.nan, nnx.state(run.decoder)))
    request = Request("k", Prompt("n", (Message("user", "1?"),), ""), ("x", "y"), ("no", "yes"), "")
    with pytest.raises(NotFiniteError, match="the judge's log-likelihood of an answer is NaN: parameters of the model"):
        list(likelihood_verdicts(run, [request], tie=0.0, batch_size=4))


@pytest.mark.long
def test_answers_of_another_run_prompt_or_setting_are_refused(
    answered: tuple[RankAnswers, Path], workdir: Path, random_run: Callable[[Path, int], None], write
) -> None:
    config, folder = answered
    trained_on = dataclasses.replace(config, runs={**config.runs, "base": str(folder / "other")})
    with pytest.raises(
        ValueError, match=r"base\.jsonl, line 1: .*other had other weights .*take another --workdir, or"
    ):
        open_ranking(trained_on, workdir)
    with pytest.raises(ValueError, match=r"line 1: RankAnswers\.max_tokens was 4 when this was answered"):
        open_ranking(dataclasses.replace(config, max_tokens=5), workdir)
    changed = write({"id": "n0", "input": "another one?", "output": "a"})
    with pytest.raises(ValueError, match=r"line \d: the prompt 'n0' was another one when this was answered"):
        open_ranking(dataclasses.replace(config, prompts=(str(changed),)), workdir)
    (workdir / "judgements.jsonl").write_text('{"key": "k", "verdict": "x"}\n')
    with pytest.raises(ValueError, match=r"judgements\.jsonl, line 1: verdict = 'x': remove the line"):
        open_ranking(config, workdir)


@pytest.mark.long
def test_answers_cut_by_a_killed_process_are_made_again(answered: tuple[RankAnswers, Path], workdir: Path) -> None:
    config, _ = answered
    path = workdir / "answers/base.jsonl"
    whole = path.read_text()
    path.write_text(whole[: len(whole) // 3])
    choices = workdir / "choices.csv"
    choices.write_text("id,first,second,winner\nn1,reference,base,first\nn1,other,base,tie\nn2,base,reference,second\n")
    config = dataclasses.replace(config, judge=Judge(by="file", file=str(choices)))
    ranking = open_ranking(config, workdir)
    assert "3 answers are missing" in cost(ranking)
    result = rank(ranking)
    assert sorted(path.read_text().splitlines()) == sorted(whole.splitlines())
    assert result["models"][0] | {"rating": 0, "interval": 0} == {
        "name": "reference", "rating": 0, "interval": 0, "wins": 2, "ties": 0, "losses": 0, "cut_prompts": 0
    }  # fmt: skip
    choices.write_text("id,first,second,winner\nn1,reference,nobody,first\n")
    with pytest.raises(ValueError, match=r"choices\.csv, line 2: second = 'nobody'"):
        open_ranking(config, workdir)


@pytest.mark.long
def test_a_dry_run_prints_the_cost_and_leaves_nothing(answered: tuple[RankAnswers, Path], tmp_path: Path) -> None:
    config, _ = answered
    settings = {"RankAnswers.runs": config.runs, "RankAnswers.prompts": config.prompts, "Judge.model": "m"}
    given = [f"--gin.{name}={value}" for name, value in settings.items()]
    command = [sys.executable, "launch/rank_answers.py", *given, "--workdir", str(tmp_path / "w"), "--dry_run"]
    run = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert "8 answers are missing; 8 requests (both orders) to m at http" in run.stdout
    assert "and the missing answers, at most 256 tokens each" in run.stdout
    assert not (tmp_path / "w").exists()
