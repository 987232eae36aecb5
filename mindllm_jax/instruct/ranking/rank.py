"""The stages of a ranking: answers, judgements, ratings; and its cost, told beforehand."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from mindllm_jax.instruct.endpoint import ask, in_parallel
from mindllm_jax.instruct.kept_lines import appending, kept_lines
from mindllm_jax.instruct.ranking.answers import Answers, add_answers, kept_answers
from mindllm_jax.instruct.ranking.choices import HEADER, read_choices
from mindllm_jax.instruct.ranking.comparisons import (
    OTHER,
    Comparison,
    Judgement,
    Request,
    Winner,
    comparisons,
    judgements,
    requests,
    verdict_of,
)
from mindllm_jax.instruct.ranking.likelihood import likelihood_verdicts
from mindllm_jax.instruct.ranking.prompts import Prompt, read_prompts
from mindllm_jax.instruct.ranking.ratings import evalica, rate
from mindllm_jax.instruct.ranking.settings import RankAnswers
from mindllm_jax.training.load_run import RunRecord, load_decoder, read_run, weights_identity

VERDICTS = "judgements.jsonl"


class Ranking(NamedTuple):
    """A ranking holds its settings and inputs, and what earlier starts left of it in the workdir.

    Attributes:
        config: its settings.
        workdir: its folder.
        prompts: the prompts.
        runs: the runs that answer, by name.
        judge: the run that judges, if one does.
        origin: what identifies the judge: the hash of the run's weights, or the model's name at the endpoint.
        answers: by name and id of the prompt; `rank` adds the missing ones.
        verdicts: the lines of judgements.jsonl by key; `rank` adds the missing ones.
        skipped: malformed records of the prompts, by reason.
    """

    config: RankAnswers
    workdir: Path
    prompts: list[Prompt]
    runs: dict[str, RunRecord]
    judge: RunRecord | None
    origin: str
    answers: Answers
    verdicts: dict[str, dict[str, Any]]
    skipped: Counter[str]

    def comparisons(self) -> list[Comparison]:
        """Returns every pair of models at every prompt."""
        return comparisons(self.prompts, self.config.names, self.answers)

    def missing(self) -> list[Request]:
        """Returns what the judge has to be asked, each request once."""
        asked = [one for pair in self.comparisons() for one in requests(self.config.judge, self.origin, pair)]
        return list({one.key: one for one in asked if one.key not in self.verdicts}.values())


def open_ranking(config: RankAnswers, workdir: Path) -> Ranking:
    """Reads the prompts, the metadata of the runs and what is kept; writes nothing and starts no device.

    Raises ImportError where evalica is not installed, OSError where a run or file is missing, ValueError where one is
    malformed or kept answers are those of other weights, prompts or settings.
    """
    evalica()
    skipped = Counter[str]()
    prompts = read_prompts(config, skipped)
    runs = {name: read_run(Path(folder)) for name, folder in config.runs.items()}
    judge = read_run(Path(config.judge.run)) if config.judge.by == "likelihood" else None
    answers = kept_answers(config, workdir, prompts, runs)
    origin = weights_identity(judge) if judge else config.judge.model
    verdicts = _kept_verdicts(workdir / VERDICTS)
    ranking = Ranking(config, workdir, prompts, runs, judge, origin, answers, verdicts, skipped)
    if config.judge.by == "file" and Path(config.judge.file).exists():
        _choices(ranking)  # so that a mistake in the file raises before the long part
    return ranking


def cost(ranking: Ranking) -> str:
    """Returns models, prompts and pairs in words, and what the judge is still to be asked."""
    config, judge = ranking.config, ranking.config.judge
    count, names = len(ranking.prompts), config.names
    missing = sum(count - len(ranking.answers[name]) for name in names)
    pairs = count * len(names) * (len(names) - 1) // 2
    line = f"{len(names)} models ({', '.join(names)}), {count} prompts, {pairs} pairs; {missing} answers are missing"
    line += "".join(f"; {number} records skipped ({kind})" for kind, number in sorted(ranking.skipped.items()))
    asked = ranking.missing()
    if judge.by == "file":
        return f"{line}; people's choices are read from {judge.file}"
    if judge.by == "likelihood":
        return f"{line}; {judge.run} judges {len(asked)} pairs by likelihood"
    characters = sum(len(one.text) for one in asked)
    unknown = f", and the missing answers, at most {config.max_tokens} tokens each" if missing else ""
    return (
        f"{line}; {len(asked)} requests (both orders) to {judge.model} at {judge.url}, "
        f"{'about ' if missing else ''}{characters:,} characters to be sent{unknown}"
    )


def rank(ranking: Ranking, sleep: Callable[[float], None] = time.sleep) -> dict[str, Any]:
    """Asks for the answers and verdicts that are missing, keeps each as it comes, and returns the ranking as JSON.

    Raises OSError when they cannot be written, the endpoint cannot be connected to, or there is no file of choices yet;
    ValueError where a checkpoint is damaged, the endpoint refuses the key or does not know the model, or no pair has a
    verdict.
    """
    config = ranking.config
    before = cost(ranking)
    for name, record in ranking.runs.items():
        add_answers(config, ranking.workdir, ranking.prompts, name, record, ranking.answers[name])
    if (now := cost(ranking)) != before:
        print(now)
    happened = Counter[str]()
    if config.judge.by == "file":
        found = _choices(ranking)
        counts = Counter({"choices": len(found)})
    else:
        happened = _ask(ranking, sleep)
        found, counts = judgements(config.judge, ranking.origin, ranking.comparisons(), ranking.verdicts)
    if not found:
        listing = ", ".join(f"{count} x {kind}" for kind, count in happened.items())
        raise ValueError(f"no pair of answers has a verdict ({listing}); the same command asks again")
    rated = rate(config.names, found, resamples=config.resamples, seed=config.seed)
    return {
        "judge": {"by": config.judge.by, "name": config.judge.name},
        "prompts": len(ranking.prompts),
        "judged_prompts": len({one.id for one in found}),
        "models": [
            one._asdict() | {"cut_prompts": sum(answer.cut > 0 for answer in ranking.answers[one.name].values())}
            for one in rated.models
        ],
        "counts": dict(counts),
        "requests": dict(happened),
        "note": rated.note,
    }


def _ask(ranking: Ranking, sleep: Callable[[float], None]) -> Counter[str]:
    """Asks for the missing verdicts, keeps each, adds them to the ranking, and returns counts of what happened."""
    judge, happened, missing = ranking.config.judge, Counter[str](), ranking.missing()
    with appending(ranking.workdir / VERDICTS) as append:

        def keep(request: Request, verdict: Winner, cut: bool) -> None:
            names = dict(zip(("first", "second"), request.names, strict=True))
            row = {"id": request.prompt.id, **names, "verdict": verdict, "cut": cut, "by": judge.name}
            ranking.verdicts[request.key] = row
            append({"key": request.key, **row})

        if ranking.judge is None:

            def compare(one: Request) -> tuple[Winner | None, Counter[str]]:
                return ask(judge, one.text, lambda reply: verdict_of(reply.text), sleep)

            replies = in_parallel(missing, compare, judge.concurrency)
            for request, (verdict, what) in replies:
                happened.update(what)
                if verdict is not None:
                    keep(request, verdict, cut=False)
        elif missing:
            run = load_decoder(ranking.judge)
            for request, verdict, cut in likelihood_verdicts(run, missing, judge.tie, ranking.config.batch_size):
                keep(request, verdict, cut)
    return happened


def _kept_verdicts(path: Path) -> dict[str, dict[str, Any]]:
    verdicts: dict[str, dict[str, Any]] = {}
    if path.exists():
        for number, row in kept_lines(path, ("key", "verdict")):
            if row["verdict"] not in OTHER:
                raise ValueError(f"{path}, line {number}: verdict = {row['verdict']!r}: remove the line to ask again")
            verdicts[row["key"]] = row
    return verdicts


def _choices(ranking: Ranking) -> list[Judgement]:
    path = Path(ranking.config.judge.file)
    try:
        return read_choices(path, [prompt.id for prompt in ranking.prompts], ranking.config.names)
    except FileNotFoundError:
        raise FileNotFoundError(
            f"there is no file {path}: the answers to choose between are in {ranking.workdir / 'answers'}; write the "
            f"choices to it, {','.join(HEADER)}, and start the same command again"
        ) from None
