"""A run becomes a folder that transformers reads, and a run again, without a changed bit."""

import dataclasses
import json
import re
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flax import nnx
from interop_models import a_run, gpt_neo, llama, saved, torch, transformers
from safetensors.torch import load_file

import mindllm_jax
from mindllm_jax.generation.engine import generate
from mindllm_jax.generation.sampling import Sampling
from mindllm_jax.interop import conformance, import_run, write_weights
from mindllm_jax.interop.architecture import flat
from mindllm_jax.interop.architectures import native_architecture
from mindllm_jax.interop.conformance import check_folder
from mindllm_jax.interop.import_run import _write_checkpoint
from mindllm_jax.interop.write_weights import export_run
from mindllm_jax.model.config import Model
from mindllm_jax.tokenization.tokenizer import Tokenizer

SMALL: dict[str, Any] = {"layers": 2, "width": 32, "heads": 4, "head_dim": 8, "mlp_dim": 48, "max_seq_len": 128}
GPT: dict[str, Any] = {"positions": "learned", "norm": "layernorm", "residual": "pre_norm", "mlp": "gelu"}
DESIGNS = {
    "mindllm": Model(**SMALL),
    "windows": Model(**SMALL, kv_heads=2, windows=(None, 16), residual="post_norm", mlp="swiglu", tied=True),
    "learned": Model(**SMALL, **GPT, attention_scale=0.5, biases=("query_key_value", "attention_out", "mlp")),
    "llama": Model(**SMALL, kv_heads=2, residual="pre_norm", mlp="swiglu"),
    "gpt_neo": Model(**SMALL, **GPT, attention_scale=1.0, biases=("attention_out", "mlp"), windows=(None, 16)),
}  # fmt: skip
CLASSES = {"llama": "LlamaForCausalLM", "gpt_neo": "GPTNeoForCausalLM"}


def parameters(run: Path) -> dict[str, np.ndarray]:
    decoder = mindllm_jax.load(run).decoder
    return {path: np.asarray(leaf) for path, leaf in flat(nnx.to_pure_dict(nnx.state(decoder, nnx.Param)))}


@pytest.mark.parametrize("name", DESIGNS)
def test_ours_to_hugging_face_to_ours(name: str, tmp_path: Path) -> None:
    run = a_run(tmp_path / "run", DESIGNS[name])
    table = export_run(run, tmp_path / "hf", max_shard_bytes=40_000)
    assert all(share == 1.0 for *_, share in table.rows)
    config = json.loads((tmp_path / "hf/config.json").read_text())
    assert config["architectures"] == [CLASSES.get(name, "MindLLMForCausalLM")]
    assert len(list((tmp_path / "hf").glob("model-*.safetensors"))) > 1
    import_run.import_run(tmp_path / "hf", tmp_path / "again", {})
    before, after = parameters(run), parameters(tmp_path / "again")
    assert before.keys() == after.keys()
    for path, value in before.items():
        np.testing.assert_array_equal(value, after[path], err_msg=path)
    first, second = mindllm_jax.load(run), mindllm_jax.load(tmp_path / "again")
    assert dataclasses.replace(first.config, kv_heads=first.config.key_heads) == dataclasses.replace(
        second.config, kv_heads=second.config.key_heads
    )
    assert first.tokenizer.sha256 == second.tokenizer.sha256


@pytest.mark.parametrize(
    "maker", [llama, partial(llama, attention_bias=True, tie_word_embeddings=True), gpt_neo], ids=["llama", "b", "neo"]
)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_hugging_face_to_ours_to_hugging_face(maker: Any, dtype: str, tmp_path: Path, extended: Tokenizer) -> None:
    folder = saved(maker().to(getattr(torch, dtype)), tmp_path / "hf", extended)
    import_run.import_run(folder, tmp_path / "run", {})
    export_run(tmp_path / "run", tmp_path / "again")
    before, after = (load_file(path / "model.safetensors") for path in (folder, tmp_path / "again"))
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        assert tensor.dtype == after[name].dtype and torch.equal(tensor, after[name]), name


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run of our own design with windows, and its export."""
    folder = tmp_path_factory.mktemp("own")
    run = a_run(folder / "run", DESIGNS["windows"])
    export_run(run, folder / "hf", license="apache-2.0")
    return run, folder / "hf"


def test_our_class_generates_the_same(own: tuple[Path, Path]) -> None:
    """Greedy, 64 tokens on 20 prompts of many lengths in one batch, padded on the left, beyond the window."""
    run, folder = mindllm_jax.load(own[0]), own[1]
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True, dtype=torch.float32)
    assert model.config._attn_implementation == "sdpa"
    draw = np.random.default_rng(0)
    prompts = [draw.integers(4, run.tokenizer.vocab_size, length) for length in draw.integers(5, 40, 20)]
    longest = max(map(len, prompts))
    ids = torch.from_numpy(np.stack([np.pad(row, (longest - len(row), 0)) for row in prompts]))
    mask = torch.from_numpy(np.stack([np.arange(longest) >= longest - len(row) for row in prompts]).astype(np.int64))
    theirs = model.generate(ids, attention_mask=mask, max_new_tokens=64, do_sample=False, eos_token_id=None)
    ours = generate(run.decoder, run.tokenizer, prompts, Sampling(temperature=0, max_tokens=64), stop_ids=[])
    different = [
        number
        for number, (mine, other) in enumerate(zip(ours, theirs[:, longest:].tolist(), strict=True))
        if mine.tokens != other
    ]
    assert not different


@pytest.mark.long
def test_our_class_compiles_and_trains(own: tuple[Path, Path]) -> None:
    model = transformers.AutoModelForCausalLM.from_pretrained(own[1], trust_remote_code=True, dtype=torch.float32)
    ids = torch.randint(4, 400, (2, 50), generator=torch.Generator().manual_seed(0))
    whole = torch.compile(model, fullgraph=True, backend="eager")
    torch.testing.assert_close(whole(ids, use_cache=False).logits, model(ids).logits, atol=1e-4, rtol=0)
    loss = model(ids, labels=ids).loss
    loss.backward()
    assert torch.isfinite(loss) and all(p.grad is not None for p in model.parameters())


def test_the_contract_of_transformers_backends(own: tuple[Path, Path]) -> None:
    """What vLLM's Transformers backend asks of a class: see docs/interop.md."""
    config = transformers.AutoConfig.from_pretrained(own[1], trust_remote_code=True)
    assert {"AutoConfig", "AutoModel", "AutoModelForCausalLM"} == config.auto_map.keys()
    base = transformers.AutoModel.from_pretrained(own[1], trust_remote_code=True)
    assert type(base).__name__ == "MindLLMModel" and base._supports_attention_backend
    calls = []

    def attend(module: Any, query: Any, key: Any, value: Any, mask: Any, **kwargs: Any) -> Any:
        calls.append(kwargs)
        return query.transpose(1, 2), None

    transformers.AttentionInterface.register("counted", attend)
    base.set_attn_implementation("counted")
    base(torch.zeros((1, 3), dtype=torch.long), attention_instances="passed on")
    assert [call["attention_instances"] for call in calls] == ["passed on"] * 2
    assert [call["sliding_window"] for call in calls] == [None, 16]


def test_files_of_an_export(own: tuple[Path, Path]) -> None:
    names = {path.name for path in own[1].iterdir()}
    assert names == {
        "README.md", "chat_template.jinja", "config.json", "conformance.json", "conformance.md",
        "generation_config.json", "mindllm_tokenizer.model", "model.safetensors", "modeling_mindllm.py",
        "tokenizer.json", "tokenizer_config.json",
    }  # fmt: skip
    assert len({path.stat().st_mode for path in own[1].iterdir()}) == 1, "all of them can be read by whom one can"
    card = (own[1] / "README.md").read_text("utf-8")
    assert 'license: "apache-2.0"' in card and "7 steps, 512 tokens read" in card and "largest difference" in card
    record = json.loads((own[1] / "conformance.json").read_text())
    assert {row["name"] for row in record["logits"]} == {
        "ours, cache",
        *(f"transformers, {kind}{way}" for kind in ("eager", "sdpa") for way in ("", ", padded batch", ", cache")),
    }
    assert all(row["passed"] and row["tokens"] for row in record["logits"]) and record["limit"] >= 1e-4
    assert record["tokens"]["difficult texts"]["lines"] > 100 and record["versions"]["transformers"]


@pytest.mark.parametrize(
    ("name", "before", "after"), [("tokenizer.json", '"<doc>"', '"<end>"'), ("chat_template.jinja", "<user>", "<me>")]
)
def test_a_tokenizer_that_was_changed_in_an_export_is_not_lost(
    name: str, before: str, after: str, own: tuple[Path, Path], tmp_path: Path
) -> None:
    """The run is made of our tokenizer file beside it."""
    folder = shutil.copytree(own[1], tmp_path / "copy")
    (folder / name).write_text((folder / name).read_text("utf-8").replace(before, after), "utf-8")
    with pytest.raises(ValueError, match=rf"{re.escape(name)} was changed beside mindllm_tokenizer\.model"):
        import_run.import_run(folder, tmp_path / "again", {})
    assert not (tmp_path / "again").exists()


def test_a_check_sees_a_changed_class_and_does_not_execute_it(own: tuple[Path, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(own[1], tmp_path / "copy")
    (folder / "modeling_mindllm.py").write_text("raise SystemExit('executed')")
    with pytest.raises(ValueError, match="code of a folder is not executed unseen"):
        check_folder(folder)


def test_an_export_that_computes_something_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = a_run(tmp_path / "run", DESIGNS["llama"])
    right = native_architecture(DESIGNS["llama"])

    def wrong_config(model: Model) -> dict[str, Any]:
        rope = {"rope_parameters": {"rope_type": "default", "rope_theta": 9000.0}, "rope_theta": 9000.0}
        return right.config(model) | rope

    wrong = dataclasses.replace(right, config=wrong_config)
    monkeypatch.setattr(write_weights, "native_architecture", lambda model: wrong)
    # Ours reads the folder of the export too, so the fault has to be in one of the two.
    original = conformance.read_model
    monkeypatch.setattr(
        conformance, "read_model", lambda source: dataclasses.replace(original(source), rope_theta=10_000.0)
    )
    with pytest.raises(ValueError, match="does not compute the same as our decoder"):
        export_run(run, tmp_path / "hf")
    assert not (tmp_path / "hf").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"run"}


def test_what_cannot_be_exported_is_refused_by_name(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run", Model(**SMALL, windows=(8, 16)))
    with pytest.raises(ValueError, match=re.escape("Model.windows = (8, 16) cannot be exported")):
        export_run(run, tmp_path / "hf")
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf/kept").touch()
    with pytest.raises(ValueError, match="exists already"):
        export_run(run, tmp_path / "hf")
    assert [path.name for path in (tmp_path / "hf").iterdir()] == ["kept"]


@pytest.mark.parametrize("exists", [True, False])
def test_a_link_is_followed(exists: bool, tmp_path: Path, own: tuple[Path, Path]) -> None:
    target, link = tmp_path / "far/hf", tmp_path / "link"
    if exists:
        target.mkdir(parents=True)
    link.symlink_to(target)
    export_run(own[0], link)
    assert link.is_symlink() and (target / "config.json").is_file()


def test_a_dtype_that_overflows_is_refused(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run", DESIGNS["llama"])
    values = parameters(run)
    values["embedding"] = values["embedding"] * 1e6
    identity = json.loads((run / "checkpoints/7/run/metadata").read_text())
    _write_checkpoint(run / "checkpoints" / "8", values, identity | {"step": 8})
    with pytest.raises(ValueError, match=r"embed_tokens\.weight holds values .* in float16: set Convert.dtype"):
        export_run(run, tmp_path / "hf", dtype="float16")
