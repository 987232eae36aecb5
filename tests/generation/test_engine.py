"""Generation with the cache against the full forward pass, and what a user may ask of it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from small_tokenizers import metadata

from mindllm_jax.generation import slots
from mindllm_jax.generation.continuation import NOT_FINITE, Continuation
from mindllm_jax.generation.engine import STREAM_CHUNK, Completion, generate, stream
from mindllm_jax.generation.sampling import Sampling
from mindllm_jax.interop.imported_tokenizer import from_gguf
from mindllm_jax.model import decoder as model_decoder
from mindllm_jax.model.decoder import Decoder
from mindllm_jax.parallel.mesh import MeshAxes
from mindllm_jax.parallel.sharding import Sharding
from mindllm_jax.tokenization.tokenizer import Tokenizer

NEW_TOKENS = 11
GREEDY = Sampling(temperature=0.0, max_tokens=NEW_TOKENS)
DRAWN = Sampling(temperature=1.0, max_tokens=NEW_TOKENS)


def prompts(tokenizer: Tokenizer, lengths: list[int]) -> list[list[int]]:
    """Prompts of random tokens."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, tokenizer.vocab_size, length).tolist() for length in lengths]


def by_full_passes(decoder: Decoder, prompts: list[list[int]], count: int, vocab_size: int) -> list[list[int]]:
    """Greedy tokens from the whole forward pass over all that is there, again for each token."""
    forward = nnx.jit(lambda decoder, tokens: decoder.logits(decoder(tokens))[..., :vocab_size])
    rows, ends = np.arange(len(prompts)), np.array([len(prompt) for prompt in prompts])
    tokens = np.zeros((len(prompts), decoder.config.max_seq_len), np.int32)
    for row, prompt in enumerate(prompts):
        tokens[row, : len(prompt)] = prompt  # what stands behind is not seen by causal attention
    for step in range(count):
        logits = np.asarray(forward(decoder, jnp.asarray(tokens)))
        tokens[rows, ends + step] = logits[rows, ends + step - 1].argmax(-1)
    return [tokens[row, end : end + count].tolist() for row, end in enumerate(ends)]


def with_twice_the_logit(decoder: Decoder, token: int, of: int) -> Decoder:
    """The decoder with a head that gives `token` twice the logit of the token `of`."""
    copy = nnx.clone(decoder)
    assert copy.head_kernel is not None
    copy.head_kernel[...] = copy.head_kernel[...].at[:, token].set(2 * copy.head_kernel[:, of])
    return copy


# The fixture has RoPE and grouped heads; the longest prompt of the other one just fits.
@pytest.mark.parametrize(
    ("choices", "lengths"),
    [({"attention": "reference"}, [1, 30, 7, 19]), ({"positions": "learned", "windows": (None, 5)}, [1, 40, 7, 85])],
    ids=["rope, grouped heads", "learned positions, window"],
)
def test_greedy_equals_the_full_forward_pass(
    make_decoder, tokenizer: Tokenizer, choices: dict[str, object], lengths: list[int]
) -> None:
    decoder = make_decoder(**choices)
    ragged = prompts(tokenizer, lengths)
    completions = generate(decoder, tokenizer, ragged, GREEDY, stop_ids=())
    expected = by_full_passes(decoder, ragged, NEW_TOKENS, tokenizer.vocab_size)
    assert [completion.tokens for completion in completions] == expected
    for completion in completions:
        assert completion.finish == "length" and completion.cut == 0
        assert completion.text == tokenizer.decode(completion.tokens)
    assert len({tuple(completion.tokens) for completion in completions}) > 1


def test_rows_do_not_depend_on_each_other(decoder: Decoder, tokenizer: Tokenizer) -> None:
    ragged = prompts(tokenizer, [3, 30, 20])
    together = generate(decoder, tokenizer, ragged, DRAWN)
    assert generate(decoder, tokenizer, ragged, DRAWN, batch_size=1) == together


def test_sampling_is_reproducible_by_its_seed(decoder: Decoder, tokenizer: Tokenizer) -> None:
    twice = prompts(tokenizer, [5, 9]) * 2
    first, again = (generate(decoder, tokenizer, twice, DRAWN) for _ in range(2))
    assert first == again
    assert first[0] != first[2], "the same prompt twice draws twice"
    assert first != generate(decoder, tokenizer, twice, replace(DRAWN, seed=1))


def test_rows_end_at_an_end_token(decoder: Decoder, tokenizer: Tokenizer) -> None:
    ragged = prompts(tokenizer, [6, 9, 30])
    free = generate(decoder, tokenizer, ragged, GREEDY, stop_ids=(tokenizer.pad_id,))
    end = free[0].tokens[4]
    ended = generate(decoder, tokenizer, ragged, GREEDY, stop_ids=(end,))
    for before, after in zip(free, ended, strict=True):
        tokens = before.tokens
        if end in tokens:
            tokens = tokens[: tokens.index(end)]
            assert after == Completion(tokens, tokenizer.decode(tokens), "end", 0)
        else:
            assert after == before
    assert {completion.finish for completion in ended} == {"end", "length"}


def test_by_default_the_end_of_a_document_ends_a_row(decoder: Decoder, tokenizer: Tokenizer) -> None:
    (free,) = generate(decoder, tokenizer, ["a"], GREEDY)
    third = free.tokens[2]
    assert third not in free.tokens[:2]
    (ended,) = generate(with_twice_the_logit(decoder, tokenizer.doc_id, third), tokenizer, ["a"], GREEDY)
    assert ended == Completion(free.tokens[:2], tokenizer.decode(free.tokens[:2]), "end", 0)


def test_the_end_of_text_of_an_imported_tokenizer_ends_a_row(decoder: Decoder) -> None:
    """Beside the symbol that begins a document: in Llama 3's layout they are two."""
    imported = Tokenizer(Path("t"), from_gguf(metadata()))
    end = imported.symbols[imported.special_tokens["eos_token"]]
    assert imported.text_ends == (imported.doc_id, end) and end != imported.doc_id
    (free,) = generate(decoder, imported, ["a"], GREEDY)
    third = free.tokens[2]
    assert third not in free.tokens[:2]
    (ended,) = generate(with_twice_the_logit(decoder, end, third), imported, ["a"], GREEDY)
    assert ended == Completion(free.tokens[:2], imported.decode(free.tokens[:2]), "end", 0)


def test_rows_of_the_model_without_a_piece_are_never_drawn(decoder: Decoder, tokenizer: Tokenizer) -> None:
    free = generate(decoder, tokenizer, ["a"], GREEDY)
    eager = with_twice_the_logit(decoder, tokenizer.vocab_size, free[0].tokens[0])
    assert generate(eager, tokenizer, ["a"], GREEDY) == free


def test_stop_strings_end_a_row(decoder: Decoder, tokenizer: Tokenizer) -> None:
    (free,) = generate(decoder, tokenizer, ["The"], GREEDY)
    stop = free.text[3:5]
    (stopped,) = generate(decoder, tokenizer, ["The"], GREEDY, stop_strings=("\0", stop))
    assert stopped.finish == "stop"
    assert stopped.text == free.text[: free.text.index(stop)]
    assert stopped.tokens == free.tokens[: len(stopped.tokens)]
    assert stop in tokenizer.decode(stopped.tokens) and stop not in tokenizer.decode(stopped.tokens[:-1])


def test_the_stream_is_what_generate_gives(decoder: Decoder, tokenizer: Tokenizer) -> None:
    assert NEW_TOKENS % STREAM_CHUNK, "the last chunk is to be a part of one"
    (whole,) = generate(decoder, tokenizer, ["春眠不觉晓"], DRAWN)
    pieces = list(stream(decoder, tokenizer, "春眠不觉晓", DRAWN))
    assert "".join(pieces) == whole.text
    assert len(pieces) > 1


def test_a_text_is_the_beginning_of_a_document(decoder: Decoder, tokenizer: Tokenizer) -> None:
    ids = [tokenizer.doc_id, *tokenizer.encode("Once upon")]
    assert generate(decoder, tokenizer, ["Once upon"], GREEDY) == generate(decoder, tokenizer, [ids], GREEDY)


def test_on_a_mesh_as_on_one_device(decoder: Decoder, tokenizer: Tokenizer) -> None:
    sharding = Sharding(MeshAxes(data=2, fsdp=2, tensor=2).build())
    abstract = nnx.eval_shape(lambda: Decoder(decoder.config, rngs=nnx.Rngs(0), sharding=sharding))
    spread = nnx.merge(nnx.split(abstract)[0], nnx.state(decoder))
    ragged = prompts(tokenizer, [4, 30, 12, 7])
    assert generate(spread, tokenizer, ragged, GREEDY) == generate(decoder, tokenizer, ragged, GREEDY)


def test_a_cut_prompt_is_its_right_end(decoder: Decoder, tokenizer: Tokenizer) -> None:
    (long,) = prompts(tokenizer, [200])
    room = decoder.config.max_seq_len - NEW_TOKENS
    (cut,) = generate(decoder, tokenizer, [long], GREEDY, truncate=True)
    (short,) = generate(decoder, tokenizer, [long[-room:]], GREEDY, truncate=True)
    assert cut == short._replace(cut=200 - room)


@pytest.mark.parametrize(
    ("prompt", "max_tokens", "message"),
    [
        ([5] * 90, 11, r"prompt 1 has 90 tokens, and 11 new ones .* Model\.max_seq_len = 96: shorten it to 85"),
        ([5], 96, r"Sampling\.max_tokens = 96 leaves no room for a prompt in Model\.max_seq_len = 96"),
        ([], 11, r"prompt 1 is empty"),
        ([10**6], 11, r"prompt 1 has a token outside the vocabulary of \d+"),
        ([-1], 11, r"prompt 1 has a token outside the vocabulary"),
    ],
)
def test_prompts_that_cannot_be_continued(
    decoder: Decoder, tokenizer: Tokenizer, prompt: list[int], max_tokens: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        generate(decoder, tokenizer, ["good", prompt], Sampling(max_tokens=max_tokens))


def test_no_prompts_no_completions(decoder: Decoder, tokenizer: Tokenizer) -> None:
    assert generate(decoder, tokenizer, [], GREEDY) == []


def test_few_programs_are_compiled(decoder: Decoder, tokenizer: Tokenizer) -> None:
    programs: list[Any] = [slots.begin, slots.decode, model_decoder._apart]
    sizes = []
    for length in (1, 17, 32):
        generate(decoder, tokenizer, prompts(tokenizer, [length]), replace(DRAWN, temperature=length))
        sizes.append([program._cache_size() for program in programs])
    assert sizes[0] == sizes[1] == sizes[2]


def test_what_comes_before_logits_that_are_not_finite_counts(tokenizer: Tokenizer) -> None:
    """However many tokens a chunk has."""
    ids = tokenizer.encode("one two three").tolist()
    stopped = Continuation(tokenizer, 20, (), (" two",))
    stopped.add([*ids, NOT_FINITE])
    assert stopped.finish == "stop" and stopped.text == "one"
    failed = Continuation(tokenizer, 20, ())
    assert failed.add([*ids, NOT_FINITE]) == "one two three" and failed.finish == "failed"
    assert f"new token {len(ids) + 1} are not finite" in str(failed.not_finite())
