"""Rationales of labelled records, asked of an OpenAI-compatible endpoint, and kept in a file that resumes."""

from __future__ import annotations

import hashlib
import json
import os
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mindllm_jax.checks import require_at_least
from mindllm_jax.instruct.domains.rationale_rules import RULES
from mindllm_jax.instruct.domains.records import filled, require_template
from mindllm_jax.text.json_lines import BadLine, lines, parse

if TYPE_CHECKING:
    from mindllm_jax.instruct.domains.prepare import Asked


@dataclass(frozen=True)
class Rationales:
    """Settings of the rationales of a domain's records.

    Attributes:
        by: "endpoint" asks a model; "words" takes the words of a question that tell of its answer most
            (`telling_words`); "clause" takes its longest clause, which explains nothing and is for tests of the
            pipeline. Each line of the file says by which it was made.
        url: of the endpoint, up to /v1.
        model: its name there.
        key_variable: the environment variable with the endpoint's key; unset: no key.
        prompt: template of the message; {asked} and {answered} are the filled question and answer.
        max_tokens: of a reply.
        longest: characters of a rationale; a longer reply counts as nonsense.
        concurrency: requests at a time.
        timeout: seconds for a reply.
        attempts: of a request that times out, is refused for its rate, or meets an error of the server.
        limit: records that are asked about in this start; None: all.
    """

    by: Literal["endpoint", "words", "clause"] = "endpoint"
    url: str = "http://127.0.0.1:8000/v1"
    model: str = ""
    key_variable: str = "OPENAI_API_KEY"
    prompt: str = "{asked}\n答案是“{answered}”。请用一两句话说明理由，不要重复题目。"
    max_tokens: int = 128
    longest: int = 600
    concurrency: int = 4
    timeout: float = 60.0
    attempts: int = 5
    limit: int | None = None

    def __post_init__(self) -> None:
        require_at_least(self, 1, "max_tokens", "longest", "concurrency", "attempts", "limit")
        require_template("Rationales.prompt", self.prompt)
        if not self.timeout > 0:
            raise ValueError(f"Rationales.timeout = {self.timeout}: must be greater than 0")
        if self.by == "endpoint" and not self.model:
            raise ValueError("Rationales.model is empty: name the model of the endpoint, as its /v1/models lists it")


class Refused(Exception):
    """A request that gave no rationale; `kind` is what it is counted by."""

    def __init__(self, kind: str, wait: float | None = None) -> None:
        super().__init__(kind)
        self.kind, self.wait = kind, wait  # wait: seconds after which it may be repeated; None: never


def write_rationales(
    config: Rationales, path: Path, records: Iterable[Asked], sleep: Callable[[float], None] = time.sleep
) -> Counter[str]:
    """Asks for the rationales that a file lacks, appends each as it comes, and returns counts of what happened.

    A line of the file has `id`, `key` (of the request), `from` (the model, or the rule) and `rationale`.

    The same command resumes: a kept rationale is not asked for again while model and prompt are the same. A record
    without a usable reply has no line, so that the next start asks again; nothing is put in its place.

    Raises OSError when the file cannot be written, ValueError when a line of it is damaged, or when the endpoint
    refuses the key or does not know the model; as the rule does where there is one.
    """
    counts, records = Counter[str](), list(records)
    rule = RULES.get(config.by)
    origin = rule.origin if rule else config.model
    by_rule = rule.rationales(records) if rule else {}
    kept = {row["key"] for row in _rows(path)} if path.exists() else set[str]()
    missing = []
    for record in records:
        prompt = filled(config.prompt, {"asked": record.question, "answered": record.answer})
        asked = [by_rule.get(record.id)] if rule else [prompt, config.max_tokens]
        key = hashlib.sha256(json.dumps([record.id, origin, *asked]).encode()).hexdigest()[:24]
        if key in kept:
            counts["kept from before"] += 1
        else:
            missing.append((record, prompt, key))
    missing = missing[: config.limit]

    def ask(item: tuple[Asked, str, str]) -> tuple[str | None, Counter[str]]:
        record, prompt, _ = item
        if rule:
            return by_rule.get(record.id), Counter(["by the rule" if record.id in by_rule else "without a rationale"])
        return _asked(config, prompt, sleep)

    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        _cut_incomplete(path)
    with path.open("a", encoding="utf-8") as file, ThreadPoolExecutor(config.concurrency) as pool:
        asked = {pool.submit(ask, item): item for item in missing}
        try:
            for reply in as_completed(asked):
                (record, _, key), (rationale, happened) = asked[reply], reply.result()
                counts.update(happened)
                if rationale is not None:
                    row = {"id": record.id, "key": key, "from": origin, "rationale": rationale}
                    file.write(json.dumps(row, ensure_ascii=False) + "\n")
                    file.flush()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return counts


def read_rationales(path: Path) -> dict[str, str]:
    """Returns the rationales of a file by the id of their record; the last of several counts.

    Raises OSError where there is no file, ValueError that names a damaged line.
    """
    return {row["id"]: row["rationale"] for row in _rows(path)}


def _rows(path: Path) -> Iterator[dict[str, str]]:
    """Yields the lines, but not an incomplete last one of a process that was killed."""
    content = list(lines(path))
    for number, line in content:
        try:
            row = parse(line)
            if not isinstance(row, dict) or not all(isinstance(row.get(name), str) for name in ("id", "rationale")):
                raise BadLine("no rationale", "not an object with the texts `id` and `rationale`")
        except BadLine as bad:
            if number == content[-1][0] and not line.endswith(b"\n"):
                return
            raise ValueError(f"{path}, line {number}: {bad}; remove the line") from None
        yield {"key": "", **row}


def _cut_incomplete(path: Path) -> None:
    """Removes the last line where it has no end, so that the next one begins on a line of its own."""
    with path.open("r+b") as file:
        file.truncate(file.read().rfind(b"\n") + 1)


def _asked(config: Rationales, prompt: str, sleep: Callable[[float], None]) -> tuple[str | None, Counter[str]]:
    """Returns a rationale, or None, and counts of what happened."""
    happened = Counter[str]()
    for attempt in range(config.attempts):
        try:
            rationale = _usable(_reply(config, prompt), config.longest)
        except Refused as refused:
            happened[refused.kind] += 1
            if refused.wait is None:
                break
            if attempt + 1 < config.attempts:
                sleep(max(refused.wait, min(60.0, 2.0**attempt)))
            continue
        happened["answered"] += 1
        return rationale, happened
    happened["without a rationale"] += 1
    return None, happened


def _reply(config: Rationales, prompt: str) -> Any:
    """Posts one request and returns the JSON of its reply. Raises Refused, and ValueError for a wrong key or model."""
    body = {
        "model": config.model,
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": config.max_tokens,
        "temperature": 0,
    }
    headers = {"Content-Type": "application/json"}
    if key := os.environ.get(config.key_variable):
        headers["Authorization"] = f"Bearer {key}"
    url = f"{config.url.rstrip('/')}/chat/completions"
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=config.timeout) as response:
            return json.loads(response.read())
    except urllib.error.HTTPError as error:
        if error.code in (401, 403, 404):
            raise ValueError(
                f"{url} answers {error.code} {error.reason}: check Rationales.url, model and key"
            ) from None
        if error.code == 429:
            raise Refused("refused for the rate", _seconds(error.headers.get("Retry-After"))) from None
        raise Refused(f"error {error.code}", 0.0 if error.code >= 500 else None) from None
    except TimeoutError:
        raise Refused("timed out", 0.0) from None
    except urllib.error.URLError as error:
        kind = "timed out" if isinstance(error.reason, TimeoutError) else "no connection"
        raise Refused(kind, 0.0) from None
    except OSError:
        raise Refused("no connection", 0.0) from None
    except ValueError:
        raise Refused("nonsense", 0.0) from None


def _usable(reply: Any, longest: int) -> str:
    """Returns the text of a reply. Raises Refused where it is none that could be a rationale."""
    try:
        text = reply["choices"][0]["message"]["content"].strip()
    except (KeyError, IndexError, TypeError, AttributeError):
        raise Refused("nonsense", 0.0) from None
    if not text or len(text) > longest or "\ufffd" in text:
        raise Refused("nonsense", 0.0)
    return text


def _seconds(text: str | None) -> float:
    try:
        return max(0.0, float(text or 0))
    except ValueError:
        return 0.0
