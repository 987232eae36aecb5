"""A tokenizer, a token store of a few documents, a small decoder and a run with one checkpoint."""

import dataclasses
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx

from mindllm_jax.evaluation.harness import index
from mindllm_jax.model.config import Model
from mindllm_jax.model.decoder import Decoder
from mindllm_jax.parallel.mesh import MeshAxes
from mindllm_jax.parallel.sharding import Sharding
from mindllm_jax.store.store import TokenStore
from mindllm_jax.store.writer import SourceDocuments, build_store
from mindllm_jax.text.documents import Document
from mindllm_jax.tokenization.tokenizer import Tokenizer
from mindllm_jax.training.checkpoint import Checkpointing, Checkpoints
from mindllm_jax.training.load_run import keep_tokenizer
from mindllm_jax.training.position import Position
from mindllm_jax.training.state import TrainState, abstract_model, initial_params

Texts = dict[str, list[str]]
LogProbabilities = Callable[[Decoder, Sequence[int]], np.ndarray]

LANGUAGES = {"laws": "zh", "novel": "zh", "wiki": "en"}
TEXTS: Texts = {
    "laws": [f"第{n}条　公民的合法权益受法律保护，任何人不得侵犯第{n * 7}号财产。\n" for n in range(60)],
    "novel": [f"却说第{n}回，天下大势，分久必合，合久必分。\n\n" for n in range(40)],
    "wiki": [f"Article {n}: the river was {n * 3} miles long, the mill {n} yards below it.\n" for n in range(60)],
}


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return Tokenizer.load(Path(__file__).parents[1] / "fixtures" / "tokenizer.model")


@pytest.fixture(scope="session")
def model(tokenizer: Tokenizer) -> Model:
    return Model(
        vocab_size=tokenizer.vocab_size + 3,  # more rows than pieces, as a size that divides well may need
        layers=2,
        width=64,
        heads=4,
        head_dim=16,
        mlp_dim=128,
        max_seq_len=64,
        compute_dtype="float32",
    )


@pytest.fixture(scope="session")
def decoder(model: Model) -> Decoder:
    """Fresh parameters on one device."""
    abstract = abstract_model(model, Sharding(MeshAxes().build(jax.devices()[:1])))
    return abstract.decoder(initial_params(model, abstract, seed=0))


@pytest.fixture(scope="session")
def on_devices(model: Model, decoder: Decoder) -> Callable[[int], Decoder]:
    """The same parameters on a mesh of so many devices."""

    def place(count: int) -> Decoder:
        abstract = abstract_model(model, Sharding(MeshAxes(fsdp=min(count, 2)).build(jax.devices()[:count])))
        return abstract.decoder(jax.device_put(nnx.to_pure_dict(nnx.state(decoder)), abstract.shardings))

    return place


@pytest.fixture(scope="session")
def wide_decoder(on_devices: Callable[[int], Decoder]) -> Decoder:
    """The same parameters on eight devices."""
    return on_devices(8)


@pytest.fixture(scope="session")
def bare_decoder(model: Model, decoder: Decoder) -> Decoder:
    """The same parameters, without a mesh."""
    definition, _ = nnx.split(nnx.eval_shape(lambda: Decoder(model, rngs=nnx.Rngs(0))))
    return nnx.merge(definition, nnx.state(decoder))


@pytest.fixture(scope="session")
def log_probabilities() -> LogProbabilities:
    """Of every token of the vocabulary after each of some tokens: one plain forward pass, float64 [T V]."""

    @partial(jax.jit, static_argnums=0)
    def logits(definition: nnx.GraphDef[Decoder], params: nnx.State, tokens: jax.Array) -> jax.Array:
        decoder = nnx.merge(definition, params)
        return decoder.logits(decoder(tokens[None]))[0]

    def compute(decoder: Decoder, tokens: Sequence[int]) -> np.ndarray:
        # What follows a token cannot change what is said after it, so any padding on the right will do.
        padded = np.resize(np.asarray(tokens, np.int32), decoder.config.max_seq_len)
        definition, params = nnx.split(decoder)
        scores = np.asarray(logits(definition, params, jax.device_put(padded)), np.float64)[: len(tokens)]
        scores -= scores.max(-1, keepdims=True)
        return scores - np.log(np.exp(scores).sum(-1, keepdims=True))

    return compute


@pytest.fixture(scope="session")
def texts() -> Texts:
    """The documents of each source; a document's id is the source's name and its number."""
    return TEXTS


@pytest.fixture(scope="session")
def store(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> TokenStore:
    """Two Chinese sources and an English one, a third of each held out."""
    url = str(tmp_path_factory.mktemp("store"))
    sources = [SourceDocuments(name, lang, {}, partial(documents, name)) for name, lang in LANGUAGES.items()]
    build_store(url, sources, tokenizer, held_out=1 / 3)
    return TokenStore.open(url)


def documents(source: str) -> list[Document]:
    return [Document(text, source, LANGUAGES[source], f"{source}-{n}") for n, text in enumerate(TEXTS[source])]


GENERATING = """
task: gen_demo
dataset_path: mindllm/gen_demo
output_type: generate_until
test_split: test
doc_to_text: "{{context}}"
doc_to_target: "{{choices[0]}}"
metric_list:
  - metric: exact_match
"""


@pytest.fixture
def generating(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a generating task beside ours, at its default of 256 new tokens."""
    folder = tmp_path / "tasks"
    shutil.copytree(index.TASKS, folder)
    (folder / "gen_demo.yaml").write_text(GENERATING)
    monkeypatch.setattr(index, "TASKS", folder)
    return "gen_demo"


@pytest.fixture(scope="session")
def run(
    tokenizer: Tokenizer, model: Model, decoder: Decoder, store: TokenStore, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The folder of a pre-training run of seed 0, with checkpoints at steps 3 and 5."""
    folder = tmp_path_factory.mktemp("run")
    keep_tokenizer(tokenizer, folder)
    identity = {
        "Pretrain": {"data": {"store": store.url, "sequence_length": 32}},
        "model": dataclasses.asdict(model),
        "seed": 0,
        "tokenizer_sha256": tokenizer.sha256,
    }
    fresh = nnx.to_pure_dict(nnx.state(decoder))
    with Checkpoints(folder, Checkpointing(), identity) as checkpoints:
        checkpoints.start()
        for step in (3, 5):
            params = jax.tree.map(lambda x, step=step: x * (1 + step / 10), fresh)
            counter = jax.numpy.int32(step)
            checkpoints.save(TrainState(counter, counter, counter, params, (counter,), {}), Position(), "")
            checkpoints.wait()
    return folder
