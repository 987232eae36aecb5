"""Requests to an OpenAI-compatible endpoint: several at a time, repeated where that helps, and counted."""

from __future__ import annotations

import http.client
import json
import os
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from mindllm_jax.checks import require_at_least

Item = TypeVar("Item")
Usable = TypeVar("Usable")


@dataclass(frozen=True)
class Endpoint:
    """Settings of an endpoint, which those of what is asked of it inherit.

    Attributes:
        url: of the endpoint, up to /v1.
        model: its name there.
        key_variable: the environment variable with the endpoint's key; unset: no key.
        max_tokens: of a reply.
        concurrency: requests at a time.
        timeout: seconds for a reply.
        attempts: of a request that times out, is refused for its rate, meets an error of the server, or whose reply
            holds no message. A message that is of no use is asked for once: the temperature is 0.
    """

    url: str = "http://127.0.0.1:8000/v1"
    model: str = ""
    key_variable: str = "OPENAI_API_KEY"
    max_tokens: int = 128
    concurrency: int = 4
    timeout: float = 60.0
    attempts: int = 5

    def __post_init__(self) -> None:
        require_at_least(self, 1, "max_tokens", "concurrency", "attempts")
        if not self.timeout > 0:
            raise ValueError(f"{type(self).__name__}.timeout = {self.timeout}: must be greater than 0")

    def require_model(self) -> None:
        """Raises ValueError where no model is named."""
        if not self.model:
            name = type(self).__name__
            raise ValueError(f"{name}.model is empty: name the model of the endpoint, as its /v1/models lists it")


class Reply(NamedTuple):
    """The message of a reply, and whether `max_tokens` cut it."""

    text: str
    is_cut: bool


class Refused(Exception):
    """A request without a usable reply; `kind` is what it is counted by."""

    def __init__(self, kind: str, wait: float | None = None) -> None:
        super().__init__(kind)
        self.kind, self.wait = kind, wait  # wait: seconds after which it may be repeated; None: never


def ask(
    endpoint: Endpoint, prompt: str, read: Callable[[Reply], Usable | None], sleep: Callable[[float], None] = time.sleep
) -> tuple[Usable | None, Counter[str]]:
    """Returns what `read` makes of the reply to a prompt, or None, and counts of what happened.

    read: returns None for a reply that is of no use, which counts as "nonsense", or raises Refused with another kind.

    Raises ConnectionError where no attempt connects, ValueError where the endpoint refuses the key or does not know the
    model.
    """
    happened = Counter[str]()
    for attempt in range(endpoint.attempts):
        try:
            usable = read(_message(_reply(endpoint, prompt)))
            if usable is None:
                raise Refused("nonsense")
        except Refused as refused:
            happened[refused.kind] += 1
            if refused.wait is None:
                break
            if attempt + 1 < endpoint.attempts:
                sleep(max(refused.wait, min(60.0, 2.0**attempt)))
            continue
        happened["answered"] += 1
        return usable, happened
    if happened["no connection"] == endpoint.attempts:
        raise ConnectionError(
            f"no connection to {endpoint.url} in {endpoint.attempts} attempts: start the server, or check "
            f"{type(endpoint).__name__}.url; what was answered is kept, and the same command resumes"
        )
    return None, happened


def in_parallel(items: Iterable[Item], work: Callable[[Item], Usable], threads: int) -> Iterator[tuple[Item, Usable]]:
    """Yields items with the results of their work, as these come; an error drops the work that has not begun."""
    with ThreadPoolExecutor(threads) as pool:
        begun = {pool.submit(work, item): item for item in items}
        try:
            for result in as_completed(begun):
                yield begun[result], result.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _reply(endpoint: Endpoint, prompt: str) -> Any:
    """Posts one request and returns the JSON of its reply. Raises Refused, and ValueError for a wrong key or model."""
    body = {
        "model": endpoint.model,
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": endpoint.max_tokens,
        "temperature": 0,
    }
    headers = {"Content-Type": "application/json"}
    if key := os.environ.get(endpoint.key_variable):
        headers["Authorization"] = f"Bearer {key}"
    url = f"{endpoint.url.rstrip('/')}/chat/completions"
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=endpoint.timeout) as response:
            return json.loads(response.read())
    except urllib.error.HTTPError as error:
        if error.code in (401, 403, 404):
            name = type(endpoint).__name__
            raise ValueError(f"{url} answers {error.code} {error.reason}: check {name}.url, model and key") from None
        if error.code == 429:
            raise Refused("refused for the rate", _seconds(error.headers.get("Retry-After"))) from None
        raise Refused(f"error {error.code}", 0.0 if error.code >= 500 else None) from None
    except TimeoutError:
        raise Refused("timed out", 0.0) from None
    except urllib.error.URLError as error:
        kind = "timed out" if isinstance(error.reason, TimeoutError) else "no connection"
        raise Refused(kind, 0.0) from None
    except (OSError, http.client.HTTPException):
        raise Refused("connection lost", 0.0) from None
    except ValueError:
        raise Refused("nonsense", 0.0) from None


def _message(reply: Any) -> Reply:
    try:
        choice = reply["choices"][0]
        return Reply(choice["message"]["content"].strip(), choice.get("finish_reason") == "length")
    except (KeyError, IndexError, TypeError, AttributeError):
        raise Refused("nonsense", 0.0) from None


def _seconds(text: str | None) -> float:
    try:
        return max(0.0, float(text or 0))
    except ValueError:
        return 0.0
