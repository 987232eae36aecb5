"""An export of our design, of the demo's shape, in transformers' `generate`, lm-evaluation-harness, torch.compile."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from interop_models import a_run, torch, transformers

import mindllm_jax
from mindllm_jax.evaluation.harness.model import harness_model
from mindllm_jax.generation.engine import generate
from mindllm_jax.generation.sampling import Sampling
from mindllm_jax.interop.write_weights import export_run
from mindllm_jax.model.config import Model

TEXTS = (
    "The cat sat on the mat and looked at the moon.", "小猫坐在垫子上，看着月亮。", "def f(x):\n\treturn x + 1\n",
    "  two spaces, then 1234 and 四个字", "\n\n", "a",
)  # fmt: skip


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> tuple[mindllm_jax.Run, Path]:
    """The run and the exported folder: six layers of width 256, DeepNorm, GeGLU, RoPE, RMSNorm."""
    folder = tmp_path_factory.mktemp("elsewhere")
    design = Model(layers=6, width=256, heads=4, head_dim=64, mlp_dim=768, max_seq_len=512)
    assert (design.residual, design.mlp, design.norm) == ("deepnorm", "geglu", "rmsnorm")
    export_run(a_run(folder / "run", design, noise=0.02), folder / "hf")
    return mindllm_jax.load(folder / "run"), folder / "hf"


def loaded(folder: Path, **settings: Any) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(
        folder, trust_remote_code=True, dtype=torch.float32, **settings
    ).eval()


@pytest.mark.slow
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_generate(export: tuple[mindllm_jax.Run, Path], attention: str) -> None:
    """64 greedy tokens on 20 prompts, but for near-ties: the two best logits over there differ by less than 1e-4."""
    run, model = export[0], loaded(export[1], attn_implementation=attention)
    draw = np.random.default_rng(0)
    prompts = [draw.integers(4, run.tokenizer.vocab_size, length) for length in draw.integers(3, 90, 20)]
    ours = generate(run.decoder, run.tokenizer, prompts, Sampling(temperature=0, max_tokens=64), stop_ids=[])
    ties = 0
    for prompt, mine in zip(prompts, ours, strict=True):
        out = model.generate(
            torch.from_numpy(prompt)[None], max_new_tokens=64, do_sample=False, eos_token_id=None,
            output_logits=True, return_dict_in_generate=True,
        )  # fmt: skip
        theirs = out.sequences[0, len(prompt) :].tolist()
        different = np.flatnonzero(np.array(mine.tokens) != np.array(theirs))
        if len(different):
            best = out.logits[different[0]][0].topk(2).values
            assert best[0] - best[1] < 1e-4
            ties += 1
    assert ties <= 1
    assert len({tuple(completion.tokens) for completion in ours}) == 20, "the prompts matter"


@pytest.mark.slow
def test_lm_evaluation_harness(export: tuple[mindllm_jax.Run, Path]) -> None:
    """Its class `hf` gives every request the log-likelihood and the answer that ours gives it."""
    pytest.importorskip("lm_eval", reason="lm-evaluation-harness (the extra `eval`) is not installed")
    pytest.importorskip(
        "accelerate", reason="accelerate, which lm-evaluation-harness's class hf needs, is not installed"
    )
    from lm_eval.api.instance import Instance
    from lm_eval.models import huggingface

    run, folder = export
    peer: Any = huggingface.HFLM  # its types are those of another class
    # Its cache of logits reads the wrong place where one request's text is another's context (lm-eval 0.4.13).
    settings: dict[str, Any] = {"trust_remote_code": True, "device": "cpu", "dtype": "float32", "logits_cache": False}
    theirs = peer(str(folder), batch_size=4, **settings)
    ours = harness_model(run.decoder, run.tokenizer)
    assert theirs.max_length == 512 and theirs.prefix_token_id == run.tokenizer.doc_id

    def requests(kind: Any, *arguments: Any) -> list[Instance]:
        return [Instance(kind, {}, given, number) for number, given in enumerate(arguments)]

    contexts = ("", *TEXTS, "  ", " ".join(TEXTS) * 12)
    pairs = requests("loglikelihood", *((context, text) for context in contexts for text in TEXTS))
    answers = ours.loglikelihood(pairs)
    assert ours.seam_differs and ours.cut and not ours.swallowed
    for mine, other in zip(answers, theirs.loglikelihood(pairs, disable_tqdm=True), strict=True):
        assert mine[1] == other[1] and mine[0] == pytest.approx(other[0], abs=1e-3)
    generation = {"until": ["\n\n"], "max_gen_toks": 24, "do_sample": False}
    until = requests("generate_until", *((text, generation) for text in contexts[1:]))
    both = ours.generate_until(until), theirs.generate_until(until, disable_tqdm=True)
    # Of bytes that end inside a character, tokenizers decodes the whole characters to marks too.
    known = [(text, other.partition("\ufffd")[0]) for text, other in zip(*both, strict=True)]
    assert all(text.startswith(other) for text, other in known) and any(other for _, other in known)
    # With a first token of the tokenizer's, `hf` predicts it in a text, behind its prefix.
    bare = peer(str(folder), trust_remote_code=True, device="cpu", dtype="float32", batch_size=4, add_bos_token=False)
    long = requests("loglikelihood_rolling", *((text,) for text in (*TEXTS, " ".join(TEXTS) * 12)))
    rolling = bare.loglikelihood_rolling(long, disable_tqdm=True)
    assert ours.loglikelihood_rolling(long) == pytest.approx(rolling, rel=1e-5)


@pytest.mark.slow
def test_inductor(export: tuple[mindllm_jax.Run, Path]) -> None:
    """torch.compile with its default backend, as one graph, gives the logits of eager execution."""
    if shutil.which("g++") is None:
        pytest.skip("inductor needs a C++ compiler")
    model = loaded(export[1])
    ids = torch.randint(4, 400, (2, 70), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        compiled = torch.compile(model, fullgraph=True)(ids, use_cache=False).logits
        torch.testing.assert_close(compiled, model(ids).logits, atol=1e-4, rtol=0)
