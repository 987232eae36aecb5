"""The adapter between our decoder and lm-evaluation-harness."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import jax
from rich.console import Console
from rich.progress import track

from mindllm_jax.batching.chat_template import Message
from mindllm_jax.evaluation.answers import Answer, Answers, parts, request_key
from mindllm_jax.evaluation.encoding import Encoder, Pair, chat_text
from mindllm_jax.evaluation.harness.generation_settings import generation_settings
from mindllm_jax.evaluation.likelihood import Query, likelihoods
from mindllm_jax.evaluation.protocol import Protocol
from mindllm_jax.generation.engine import generate
from mindllm_jax.generation.sampling import Sampling
from mindllm_jax.model.decoder import Decoder
from mindllm_jax.tokenization.tokenizer import Tokenizer

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance

log = logging.getLogger(__name__)

BATCHES_AT_A_TIME = 4  # of generation, after which their answers are kept

Arguments = tuple[Any, ...]  # of a request


def require_harness() -> None:
    """Raises ImportError, with the command that installs it, where lm-evaluation-harness is missing."""
    try:
        import lm_eval  # noqa: F401
    except ImportError as error:
        raise ImportError("benchmark tasks need lm-evaluation-harness: pip install 'mindllm-jax[eval]'") from error


def harness_model(
    decoder: Decoder,
    tokenizer: Tokenizer,
    *,
    protocol: Protocol = Protocol(),  # noqa: B008  frozen
    answers: Answers | None = None,
    batch_size: int = 16,
) -> HarnessRequests:
    """Returns a model that lm-evaluation-harness (0.4.13 or later) can evaluate, an `lm_eval.api.model.LM`.

    Every process of a run makes the same requests and gets the same answers. Raises ImportError without lm-eval,
    ValueError where the tokenizer does not fit the protocol.

    answers: where answers are looked up and kept; None: each request is computed.
    """
    require_harness()
    from lm_eval.api.model import LM

    class HarnessModel(HarnessRequests, LM):
        def __init__(self) -> None:
            LM.__init__(self)
            HarnessRequests.__init__(self, decoder, tokenizer, protocol, answers, batch_size)

    return HarnessModel()


class HarnessRequests:
    """The three kinds of request of the harness, and its chat templates. Equal requests are computed once.

    Attributes:
        protocol: how requests become tokens.
        record: what `Protocol.record` returns, to be stored beside the scores.
        cut: number of requests with a prompt so far that were longer than Model.max_seq_len and lost the beginning of
            their context, or all of it and the beginning of a continuation that is longer by itself; those that a task
            repeats are one.
        seam_differs: number of items so far of which a continuation has other tokens with the other seam.
        swallowed: number of requests so far whose continuation the tokens of the context cover, so that it was encoded
            apart.
    """

    def __init__(
        self, decoder: Decoder, tokenizer: Tokenizer, protocol: Protocol, answers: Answers | None, batch_size: int
    ):
        self.decoder, self.tokenizer, self.batch_size = decoder, tokenizer, batch_size
        self.protocol, self.record = protocol, protocol.record(tokenizer, decoder.config)
        self.encoder = Encoder(tokenizer, protocol)
        self.cut = self.seam_differs = self.swallowed = 0
        self._answers = answers
        self._refused_system = False
        if protocol.chat_template:
            roles = ("user",) if protocol.system_prompt is None else ("system", "user")
            chat_text(tokenizer, [Message(role, "a") for role in roles])

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        """Returns for each (context, continuation) its log-likelihood in nats, and whether greedy decoding gives it.

        Raises ValueError, before anything is computed, for a continuation without characters.
        """

        def compute(arguments: Sequence[Arguments]) -> Iterator[list[Answer]]:
            pairs = self.encoder.pairs([(context, continuation) for context, continuation in arguments])
            sizes = [len(pair.query.context) + len(pair.query.continuation) for pair in pairs]
            for part, title in parts(sizes, "scoring"):
                yield self._scored(pairs[part], title)

        for number, request in enumerate(requests):
            if not request.arguments[1]:
                task, item = _item(request, number)
                raise ValueError(f"item {item} of task {task!r}: a choice is empty, so it has no likelihood")
        found = self._ask("loglikelihood", requests, compute)
        self._count_cut(requests, found)
        items = map(_item, requests, range(len(requests)))
        differing = {item for item, answer in zip(items, found, strict=True) if answer["seam_differs"]}
        self.seam_differs += len(differing)
        swallowed = sum(answer["swallowed"] for answer in found)
        self.swallowed += swallowed
        if swallowed:
            log.warning(
                "%d of %d continuations have no token of their own behind their context, and were encoded apart",
                swallowed,
                len(found),
            )
        return [(answer["log"], answer["greedy"]) for answer in found]

    def loglikelihood_rolling(self, requests: list[Instance]) -> list[float]:
        """Returns for each (text,) its log-likelihood in nats, in windows of Model.max_seq_len tokens.

        The first token or the prefix begins it and is not predicted itself, which class `hf` does where the tokenizer
        puts one before a text.
        """
        from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

        longest = self.decoder.config.max_seq_len

        def compute(arguments: Sequence[Arguments]) -> Iterator[list[Answer]]:
            texts = self.encoder.texts([text for (text,) in arguments])
            for part, title in parts([len(ids) for ids in texts], "scoring texts"):
                queries: list[Query] = []
                owners: list[int] = []
                for number, ids in enumerate(texts[part]):
                    for window in get_rolling_token_windows(ids, self.encoder.prefix, longest, context_len=1):
                        queries.append(Query(*make_disjoint_window(window)))
                        owners.append(number)
                logs = [0.0] * len(texts[part])
                scores = likelihoods(self.decoder, queries, batch_size=self.batch_size, title=title)
                for owner, score in zip(owners, scores, strict=True):
                    logs[owner] += score.log
                yield [{"log": log} for log in logs]

        return [answer["log"] for answer in self._ask("loglikelihood_rolling", requests, compute)]

    def generate_until(self, requests: list[Instance]) -> list[str]:
        """Returns for each (context, settings) the text up to a string of `until`, an end token or max_gen_toks.

        It supports the settings until, max_gen_toks (256 by default), do_sample, temperature, top_k and top_p, as
        `generation_settings`. Sampled answers are computed each time.
        """
        found: list[Answer] = [{}] * len(requests)
        groups: dict[tuple[Sampling, tuple[str, ...]], list[int]] = {}
        for number, request in enumerate(requests):
            groups.setdefault(generation_settings(request.args[-1]), []).append(number)
        for (sampling, until), numbers in groups.items():

            def compute(
                arguments: Sequence[Arguments], sampling: Sampling = sampling, until: tuple[str, ...] = until
            ) -> Iterator[list[Answer]]:
                return self._generated([arguments[0] for arguments in arguments], sampling, until)

            group = [requests[number] for number in numbers]
            if sampling.temperature:
                texts = [request.args for request in group]
                some = [answer for part in compute(texts) for answer in part]
            else:
                some = self._ask("generate_until", group, compute)
            for number, answer in zip(numbers, some, strict=True):
                found[number] = answer
        self._count_cut(requests, found)
        return [answer["text"] for answer in found]

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """Returns the prompt of a conversation; without `add_generation_prompt` its last message is to be continued.

        A template that refuses system messages gets the conversation without them, as in class `hf`, and a warning
        says so; `Protocol.system_prompt` is refused at the start. Raises ValueError when it refuses the others too.
        """
        messages = [Message(message["role"], message["content"]) for message in chat_history]
        try:
            return chat_text(self.tokenizer, messages, prefilled=not add_generation_prompt)
        except ValueError as error:
            others = [message for message in messages if message.role != "system"]
            if len(others) == len(messages):
                raise
            text = chat_text(self.tokenizer, others, prefilled=not add_generation_prompt)
            if not self._refused_system:
                log.warning("%s: the descriptions of tasks are left out", error)
            self._refused_system = True
            return text

    def chat_template(self, chat_template: bool | str = False) -> str:
        """Returns the Jinja template, "" where `chat_template` asks for none."""
        return self.tokenizer.chat_template if chat_template else ""

    @property
    def tokenizer_name(self) -> str:
        """The checksum of tokenizer and chat template, by which the harness tells rendered prompts apart."""
        return hashlib.sha256(f"{self.tokenizer.sha256}{self.tokenizer.chat_template}".encode()).hexdigest()

    def _ask(
        self,
        kind: str,
        requests: Sequence[Instance],
        compute: Callable[[Sequence[Arguments]], Iterator[list[Answer]]],
    ) -> list[Answer]:
        """Returns the answer to each request: known ones, and those that `compute` yields in parts, which are kept."""
        weights = "" if self._answers is None else self._answers.weights
        keys = [request_key(weights, self.record, kind, request.args) for request in requests]
        known = {} if self._answers is None else self._answers.known(keys)
        if known:
            log.info("%s: %d of %d requests are answered already", kind, sum(key in known for key in keys), len(keys))
        missing = {key: request.args for key, request in zip(keys, requests, strict=True) if key not in known}
        waiting = iter(missing)
        for part in compute(list(missing.values())) if missing else ():
            new = {next(waiting): answer for answer in part}
            known |= new
            if self._answers is not None:
                self._answers.add(new)
        return [known[key] for key in keys]

    def _scored(self, pairs: Sequence[Pair], title: str) -> list[Answer]:
        scores = likelihoods(self.decoder, [pair.query for pair in pairs], batch_size=self.batch_size, title=title)
        return [
            {
                "log": score.log,
                "greedy": score.greedy,
                "cut": score.cut,
                "seam_differs": pair.seam_differs,
                "swallowed": pair.swallowed,
            }
            for pair, score in zip(pairs, scores, strict=True)
        ]

    def _generated(self, prompts: Sequence[str], sampling: Sampling, until: Sequence[str]) -> Iterator[list[Answer]]:
        """Yields the answers to prompts in parts. Sampled ones are one part: a draw depends on the prompt's number."""
        ids = self.encoder.prompts(prompts)
        size = len(ids) if sampling.temperature else self.batch_size * BATCHES_AT_A_TIME
        console = Console(stderr=True, quiet=jax.process_index() != 0)
        starts = range(0, len(ids), size)
        for start in track(starts, "generating", console=console, transient=True):
            completions = generate(
                self.decoder,
                self.tokenizer,
                ids[start : start + size],
                sampling,
                stop_ids=self.tokenizer.ends,
                stop_strings=until,
                truncate=True,
                batch_size=self.batch_size,
            )
            yield [{"text": completion.text, "cut": completion.cut} for completion in completions]

    def _count_cut(self, requests: Sequence[Instance], answers: Sequence[Answer]) -> None:
        """Adds the requests with a prompt that lost something; those that a task repeats are one."""
        keys = [(*_item(request, number), request.idx) for number, request in enumerate(requests)]
        asked = [(key, answer) for key, request, answer in zip(keys, requests, answers, strict=True) if request.args[0]]
        cut = len({key for key, answer in asked if answer["cut"] > 0})
        self.cut += cut
        if cut:
            log.warning(
                "%d of %d requests are longer than Model.max_seq_len = %d tokens: the beginning of the context was cut",
                cut,
                len({key for key, _ in asked}),
                self.decoder.config.max_seq_len,
            )


def _item(request: Instance, number: int) -> tuple[str | None, int]:
    """Returns task and number of the item of a request, its own number where it has none."""
    return request.task_name, number if request.doc_id is None else request.doc_id
