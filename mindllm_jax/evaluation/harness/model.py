"""The adapter between our decoder and lm-evaluation-harness."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from mindllm_jax.evaluation.likelihood import Query, likelihoods
from mindllm_jax.generation.engine import generate
from mindllm_jax.generation.sampling import Sampling
from mindllm_jax.model.decoder import Decoder
from mindllm_jax.tokenization.tokenizer import Tokenizer

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance

log = logging.getLogger(__name__)


def require_harness() -> None:
    """Raises ImportError, with the command that installs it, where lm-evaluation-harness is missing."""
    try:
        import lm_eval  # noqa: F401
    except ImportError as error:
        raise ImportError("benchmark tasks need lm-evaluation-harness: pip install 'mindllm-jax[eval]'") from error


def harness_model(decoder: Decoder, tokenizer: Tokenizer, *, batch_size: int = 16) -> HarnessRequests:
    """Returns a model that lm-evaluation-harness (0.4.13 or later) can evaluate, an `lm_eval.api.model.LM`.

    Every process of a run makes the same requests and gets the same answers. Raises ImportError without lm-eval.
    """
    require_harness()
    from lm_eval.api.model import LM

    class HarnessModel(HarnessRequests, LM):
        def __init__(self) -> None:
            LM.__init__(self)
            HarnessRequests.__init__(self, decoder, tokenizer, batch_size)

    return HarnessModel()


class HarnessRequests:
    """The three kinds of request of the harness. A context begins a document, after `<doc>`.

    Attributes:
        cut: number of requests so far that were longer than Model.max_seq_len and lost the beginning of their context.
    """

    def __init__(self, decoder: Decoder, tokenizer: Tokenizer, batch_size: int):
        self.decoder, self.tokenizer, self.batch_size = decoder, tokenizer, batch_size
        self.cut = 0

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        """Returns for each (context, continuation) its log-likelihood in nats, and whether greedy decoding gives it."""
        queries = [self._query(*request.args) for request in requests]
        answers = likelihoods(self.decoder, queries, batch_size=self.batch_size)
        self._count(sum(answer.cut > 0 for answer in answers), len(requests))
        return [(answer.log, answer.greedy) for answer in answers]

    def loglikelihood_rolling(self, requests: list[Instance]) -> list[float]:
        """Returns for each (text,) its log-likelihood in nats, in windows of Model.max_seq_len tokens."""
        from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

        longest, doc = self.decoder.config.max_seq_len, self.tokenizer.doc_id
        queries: list[Query] = []
        owners: list[int] = []
        for number, request in enumerate(requests):
            ids = self.tokenizer.encode(request.args[0]).tolist()
            for window in get_rolling_token_windows(ids, doc, max_seq_len=longest, context_len=1):
                queries.append(Query(*make_disjoint_window(window)))
                owners.append(number)
        totals = [0.0] * len(requests)
        for owner, answer in zip(owners, likelihoods(self.decoder, queries, batch_size=self.batch_size), strict=True):
            totals[owner] += answer.log
        return totals

    def generate_until(self, requests: list[Instance]) -> list[str]:
        """Returns for each (context, settings) the text up to a string of `until`, `<doc>` or max_gen_toks.

        It supports the settings until, max_gen_toks (256 by default), do_sample, temperature and top_k. Raises
        ValueError for another one that changes sampling.
        """
        texts = [""] * len(requests)
        groups: dict[tuple[Sampling, tuple[str, ...]], list[int]] = {}
        for number, request in enumerate(requests):
            groups.setdefault(generation_settings(request.args[-1]), []).append(number)
        for (sampling, until), numbers in groups.items():
            prompts = [requests[number].args[0] for number in numbers]
            completions = generate(
                self.decoder,
                self.tokenizer,
                prompts,
                sampling,
                stop_strings=until,
                truncate=True,
                batch_size=self.batch_size,
            )
            self._count(sum(completion.cut > 0 for completion in completions), len(numbers))
            for number, completion in zip(numbers, completions, strict=True):
                texts[number] = completion.text
        return texts

    def _query(self, context: str, continuation: str) -> Query:
        """Encodes context and continuation separately, so that no piece crosses the border.

        Encoded together, as the harness does for other models, the first characters of a continuation can join the last
        of the context in one piece, often in Chinese, and would not be scored. White space at the end of the context
        goes to the continuation, as in the harness: pieces begin with a space and do not end in one.
        """
        stem = context.rstrip()
        ids = [self.tokenizer.doc_id, *self.tokenizer.encode(stem).tolist()]
        return Query(ids, self.tokenizer.encode(context[len(stem) :] + continuation).tolist())

    def _count(self, cut: int, total: int) -> None:
        self.cut += cut
        if cut:
            log.warning(
                "%d of %d requests are longer than Model.max_seq_len = %d tokens: the beginning of the context was cut",
                cut,
                total,
                self.decoder.config.max_seq_len,
            )


def generation_settings(settings: dict[str, Any]) -> tuple[Sampling, tuple[str, ...]]:
    """Translates generation settings of the harness into sampling and stop strings.

    Raises ValueError for a wrong setting, and for an unsupported one that would change sampling.
    """
    from lm_eval.models.utils import normalize_gen_kwargs

    known: dict[str, Any] = {**normalize_gen_kwargs(settings)}
    until, greedy = tuple(known.pop("until")), not known.pop("do_sample")
    temperature, top_k = float(known.pop("temperature", 0.0)), known.pop("top_k", None)
    sampling = Sampling(temperature, top_k, max_tokens=known.pop("max_gen_toks"))
    if known and not greedy:
        raise ValueError(f"generation settings {sorted(known)} are not supported; use temperature, top_k, max_gen_toks")
    return sampling, until
