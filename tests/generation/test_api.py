"""The public API (mindllm_jax/api.py) gives what the engine gives; importing the package imports nothing heavy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import mindllm_jax
from mindllm_jax.api import Run
from mindllm_jax.generation.chat import Chat, Session
from mindllm_jax.generation.engine import generate
from mindllm_jax.generation.sampling import Sampling
from mindllm_jax.model.decoder import Decoder
from mindllm_jax.tokenization.tokenizer import Tokenizer
from mindllm_jax.training.load_run import LoadedRun


@pytest.fixture(scope="module")
def run(decoder: Decoder, tokenizer: Tokenizer) -> Run:
    return Run(decoder, decoder.config, tokenizer, step=7)


def test_generate_is_the_engine(run: Run, decoder: Decoder, tokenizer: Tokenizer) -> None:
    prompts = ["The mill", "国务院"]
    expected = [
        completion.text
        for completion in generate(decoder, tokenizer, prompts, Sampling(0.7, None, max_tokens=9, seed=3))
    ]
    assert run.generate(prompts, temperature=0.7, top_k=None, max_tokens=9, seed=3) == expected
    assert run.generate("The mill", temperature=0.7, top_k=None, max_tokens=9, seed=3) == expected[0]
    stop = expected[0][2:4]
    assert run.generate("The mill", stop=stop, temperature=0.7, top_k=None, max_tokens=9, seed=3) == expected[0][:2]


def test_answer_is_the_chat(run: Run, decoder: Decoder, tokenizer: Tokenizer) -> None:
    sampling = Sampling(temperature=0.0, max_tokens=6)
    session = Session(LoadedRun(decoder, decoder.config, tokenizer, 7, {}), Chat("run", sampling=sampling))
    first = "".join(session.reply("Hello?"))
    assert run.answer("Hello?", temperature=0.0, max_tokens=6) == first.strip()
    second = "".join(session.reply("Why?"))
    history = [("Hello?", first.strip())]
    assert run.answer("Why?", history=history, temperature=0.0, max_tokens=6) == second.strip()


def test_a_bad_argument_is_named(run: Run, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"Sampling\.temperature"):
        run.generate("a", temperature=-1.0)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        mindllm_jax.load(tmp_path / "nowhere")


def test_the_package_imports_nothing_until_it_is_used() -> None:
    script = (
        "import sys, mindllm_jax\n"
        "assert not {'jax', 'numpy', 'flax'} & set(sys.modules)\n"
        "assert set(mindllm_jax.__all__) <= set(dir(mindllm_jax))\n"
        "print(*(getattr(mindllm_jax, name).__name__ == name for name in mindllm_jax.__all__))\n"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert set(run.stdout.split()) == {"True"}
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        mindllm_jax.lod  # noqa: B018  # pyright: ignore[reportAttributeAccessIssue]
