"""Published weights become runs that compute what transformers computes."""

import hashlib
import json
import pickle
import re
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from interop_models import gpt_neo, llama, saved, torch, transformers
from safetensors.torch import load_file, save_file

import mindllm_jax
from mindllm_jax.generation.sampling import Sampling
from mindllm_jax.interop.architecture import Fields
from mindllm_jax.interop.import_run import import_run
from mindllm_jax.interop.read_weights import read_model
from mindllm_jax.interop.sources import opened
from mindllm_jax.model.decoder import Decoder
from mindllm_jax.tokenization.tokenizer import Tokenizer
from mindllm_jax.training.load_run import read_run

ROPE = {"rope_type": "default", "rope_theta": 5000.0}
MAKERS = {
    "llama": llama,
    "llama tied": partial(llama, tie_word_embeddings=True),
    "llama biases": partial(llama, attention_bias=True, mlp_bias=True),
    "gpt_neo": gpt_neo,
    "gpt_neo untied": partial(gpt_neo, tie_word_embeddings=False),
}


def imported(folder: Path, tmp_path: Path) -> mindllm_jax.Run:
    import_run(folder, tmp_path / "run", {})
    return mindllm_jax.load(tmp_path / "run")


def logits(decoder: Decoder, ids: np.ndarray) -> np.ndarray:
    return np.asarray(nnx.jit(lambda decoder, ids: decoder.logits(decoder(ids)))(decoder, jnp.asarray(ids)))


@pytest.mark.parametrize("name", MAKERS)
def test_logits_are_those_of_transformers(name: str, tmp_path: Path, extended: Tokenizer) -> None:
    """Rows have 1,000 tokens, the windows 8."""
    model = MAKERS[name]()
    run = imported(saved(model, tmp_path / "hf", extended), tmp_path)
    ids = np.random.default_rng(0).integers(0, 700, (2, 1000))
    model.set_attn_implementation("eager")
    with torch.inference_mode():
        theirs = model(torch.from_numpy(ids)).logits.numpy()
    assert theirs.std() > 0.2
    np.testing.assert_allclose(logits(run.decoder, ids.astype(np.int32)), theirs, atol=1e-4, rtol=0)
    assert run.config.tied == model.config.tie_word_embeddings


@pytest.mark.parametrize("name", ["llama", "gpt_neo"])
def test_generation_in_a_batch_is_that_of_transformers(name: str, tmp_path: Path, extended: Tokenizer) -> None:
    """Prompts of two lengths, padded on the left over there."""
    from mindllm_jax.generation.engine import generate

    model = MAKERS[name](vocab_size=extended.vocab_size)
    run = imported(saved(model, tmp_path / "hf", extended), tmp_path)
    draw = np.random.default_rng(0)
    prompts = [draw.integers(0, 400, length) for length in (40, 23)]
    ids = np.stack([np.pad(row, (40 - len(row), 0)) for row in prompts])
    mask = np.stack([np.arange(40) >= 40 - len(row) for row in prompts]).astype(np.int64)
    theirs = model.generate(
        torch.from_numpy(ids), attention_mask=torch.from_numpy(mask), max_new_tokens=24, do_sample=False,
        eos_token_id=None, pad_token_id=0,
    )[:, 40:]  # fmt: skip
    ours = generate(run.decoder, run.tokenizer, prompts, Sampling(temperature=0, max_tokens=24), stop_ids=[])
    assert [completion.tokens for completion in ours] == theirs.tolist()


def test_shards_and_bfloat16(tmp_path: Path, extended: Tokenizer) -> None:
    model = llama().to(torch.bfloat16)
    folder = saved(model, tmp_path / "hf", extended, max_shard_size=40_000)
    assert len(list(folder.glob("*.safetensors"))) > 2
    run = imported(folder, tmp_path)
    source = read_run(tmp_path / "run").identity["source"]
    assert source["dtype"] == "bfloat16" and len(source["files"]) == len(list(folder.glob("*.safetensors")))
    np.testing.assert_array_equal(run.decoder.embedding[...], model.model.embed_tokens.weight.detach().float().numpy())


@pytest.mark.parametrize("form", ["pickle", "safetensors"])
def test_weights_as_the_published_model_has_them(form: str, tmp_path: Path, extended: Tokenizer) -> None:
    """With the buffers of old versions beside the parameters, in bfloat16."""
    model = gpt_neo().to(torch.bfloat16)
    folder = saved(model, tmp_path / "hf", extended)
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    for layer in range(4):
        state[f"transformer.h.{layer}.attn.attention.bias"] = torch.ones(1, 1, 1024, 1024, dtype=torch.bool)
        state[f"transformer.h.{layer}.attn.attention.masked_bias"] = torch.tensor(-1e9)
    state["lm_head.weight"] = state["transformer.wte.weight"]
    if form == "pickle":
        torch.save(state, folder / "pytorch_model.bin")
    else:
        del state["lm_head.weight"]  # safetensors holds no tensor twice
        save_file(state, folder / "model.safetensors")
    run = imported(folder, tmp_path)
    assert read_run(tmp_path / "run").identity["source"]["dtype"] == "bfloat16"
    assert run.config.tied and run.config.windows == (None, 8) and run.config.attention_scale == 1.0
    ids = np.random.default_rng(0).integers(0, 700, (1, 60))
    model = model.float()
    with torch.inference_mode():
        theirs = model(torch.from_numpy(ids)).logits.numpy()
    np.testing.assert_allclose(logits(run.decoder, ids.astype(np.int32)), theirs, atol=1e-4, rtol=0)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before torch 1.6"])
def test_pickled_parameters(zipped: bool, tmp_path: Path, extended: Tokenizer) -> None:
    """Those of a module, which ask for gradients, in both forms of a file."""
    folder = saved(llama(), tmp_path / "hf", extended)
    embedding = load_file(folder / "model.safetensors")["model.embed_tokens.weight"].numpy()
    save = resaved(
        lambda state: {name: torch.nn.Parameter(tensor) for name, tensor in state.items()},
        _use_new_zipfile_serialization=zipped,
    )
    save(folder)
    np.testing.assert_array_equal(imported(folder, tmp_path).decoder.embedding[...], embedding)


def test_a_run_of_published_weights_records_its_source(tmp_path: Path, extended: Tokenizer) -> None:
    folder = saved(llama(), tmp_path / "hf", extended)
    (folder / "README.md").write_text('---\nlicense: "apache-2.0" # as of 2026\n---\n# A model\n')
    imported(folder, tmp_path)
    record = read_run(tmp_path / "run")
    source = record.identity["source"]
    assert (source["format"], source["license"], source["dtype"]) == ("safetensors", "apache-2.0", "float32")
    assert source["architecture"] == "LlamaForCausalLM" and len(source["files"]["model.safetensors"]) == 64
    with pytest.raises(ValueError, match="holds a run at step 0 already"):
        import_run(folder, tmp_path / "run", {})


@pytest.mark.parametrize(
    "stated",
    [
        {"rope_scaling": {"rope_type": "default", "rope_theta": 3.0}},
        {"rope_scaling": {"rope_type": "default", "rope_theta": 3.0}, "rope_theta": 7.0},
        {"rope_scaling": {"rope_type": "default"}, "rope_theta": 7.0},
        {"rope_scaling": {"rope_type": "default", "rope_theta": 3.0}, "rope_parameters": ROPE},
        {"rope_parameters": ROPE, "rope_theta": 7.0},
        {"rope_theta": 7.0},
        {},
    ],
)
def test_the_base_of_rope_is_read_as_transformers_reads_it(stated: dict[str, Any]) -> None:
    theirs = transformers.LlamaConfig.from_dict(json.loads(json.dumps(stated))).rope_parameters["rope_theta"]
    assert Fields(stated).rope_theta() == theirs


def test_no_file_is_hashed_before_the_model_is_known(
    tmp_path: Path, extended: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gigabytes are hashed for half a minute."""
    folder = saved(llama(), tmp_path / "hf", extended)
    monkeypatch.setattr(hashlib, "file_digest", lambda *_: pytest.fail("a file is hashed"))
    with opened(folder) as source:
        read_model(source)
    assert [file.name for file in source.files] == ["model.safetensors"]


class Code:
    def __reduce__(self) -> Any:
        return (print, ("executed",))


def rewritten(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    state = load_file(folder / "model.safetensors")
    change(state)
    save_file(state, folder / "model.safetensors")


def truncated(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def configured(**settings: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | settings))

    return change


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({"lm_head.weight": Code()}, folder / "pytorch_model.bin")


def resaved(change: Callable[[dict[str, Any]], Any], **how: Any) -> Callable[[Path], None]:
    def save(folder: Path) -> None:
        state = load_file(folder / "model.safetensors")
        (folder / "model.safetensors").unlink()
        torch.save(change(state), folder / "pytorch_model.bin", **how)

    return save


def html(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_text("<html>not found</html>")


def bare_pickle(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({NORM: [1.0]}, protocol=4))


def pointer(name: str) -> Callable[[Path], None]:
    def replace(folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        (folder / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")

    return replace


def damaged_pickle(folder: Path) -> None:
    """Reads an entry of the unpickler's memo that was never written."""
    resaved(lambda state: state)(folder)
    path = folder / "pytorch_model.bin"
    with zipfile.ZipFile(path) as before:
        members = {name: before.read(name) for name in before.namelist()}
    with zipfile.ZipFile(path, "w") as after:
        for name, content in members.items():
            after.writestr(name, b"\x80\x02h\xbe." if name.endswith("data.pkl") else content)


def headed(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    """Changes the header of a safetensors file."""

    def rewrite(folder: Path) -> None:
        path = folder / "model.safetensors"
        content = path.read_bytes()
        data = 8 + int.from_bytes(content[:8], "little")
        header = json.loads(content[8:data])
        change(header)
        new = json.dumps(header).encode()
        path.write_bytes(len(new).to_bytes(8, "little") + new + content[data:])

    return rewrite


NORM = "model.norm.weight"
BAD = {
    "missing": (lambda f: rewritten(f, lambda s: s.pop(NORM)), f"{NORM} is missing"),
    "extra": (lambda f: rewritten(f, lambda s: s.update({"model.extra": s[NORM].clone()})), "model.extra is not known"),
    "misshapen": (lambda f: rewritten(f, lambda s: s.update({NORM: torch.ones(47)})), rf"{NORM} has the shape \[47\]"),
    "not finite": (lambda f: rewritten(f, lambda s: s[NORM].fill_(float("nan"))), f"{NORM} holds 48 values"),
    "dtype": (lambda f: rewritten(f, lambda s: s.update({NORM: s[NORM].long()})), f"{NORM} is of the dtype I64"),
    "truncated": (truncated, "model.safetensors: truncated"),
    "not safetensors": (lambda f: (f / "model.safetensors").write_bytes(b"<html>" * 9), "not a safetensors file"),
    "code": (pickled, r"refused: the pickle holds more than tensors.* \((builtins\.)?print\)\. Nothing"),
    "architecture": (configured(architectures=["MistralForCausalLM"]), "MistralForCausalLM.*cannot be read"),
    "activation": (configured(hidden_act="relu"), "hidden_act = 'relu' is not supported"),
    "scaled rope": (configured(rope_parameters={"rope_type": "yarn"}), "'yarn' is not supported"),
    "quantized": (configured(quantization_config={"bits": 4}), "quantization_config"),
    "layers": (configured(num_hidden_layers=3), r"layers\.2.*missing"),
    "shape": (headed(lambda h: h[NORM].update(shape=[48.0])), rf"{NORM} has the shape \[48\.0\]"),
    "sparse": (resaved(lambda s: s | {NORM: s[NORM].to_sparse()}), f"{NORM} is sparse"),
    "meta": (resaved(lambda s: s | {NORM: s[NORM].to("meta")}), f"{NORM} is without values"),
    "not pickled": (html, r"pytorch_model\.bin: damaged, or not a file of torch\.save"),
    "bare pickle": (bare_pickle, r"pytorch_model\.bin: damaged, or not a file of torch\.save: it pickles something"),
    "pointer": (pointer("pytorch_model.bin"), r"pytorch_model\.bin: a pointer of Git LFS and not the weights"),
    "pointer of safetensors": (pointer("model.safetensors"), r"model\.safetensors: a pointer of Git LFS"),
    "damaged pickle": (damaged_pickle, r"pytorch_model\.bin: damaged, or not a file of torch\.save: 190"),
    "no head": (lambda f: rewritten(f, lambda s: s.pop("lm_head.weight")), r"lm_head\.weight is missing"),
    "partial rope": (configured(rope_parameters=ROPE | {"partial_rotary_factor": 0.5}), "partial_rotary_factor = 0.5"),
    "ropes": (
        configured(rope_parameters={"full_attention": ROPE}),
        r"rope_parameters for some layers \(full_attention",
    ),
    "infinite": (configured(rope_parameters=ROPE | {"rope_theta": float("inf")}), "rope_theta = inf: a finite number"),
    "number": (configured(hidden_size="48"), "hidden_size = '48': a whole number"),
    "tokenizer": (configured(vocab_size=8), "misshapen|shape"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_sources_are_refused(
    name: str, tmp_path: Path, extended: Tokenizer, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = saved(llama(), tmp_path / "hf", extended)
    change, message = BAD[name]
    change(folder)
    with pytest.raises(ValueError, match=message) as raised:
        import_run(folder, tmp_path / "run", {})
    assert str(folder) in str(raised.value)
    assert "weights_only" not in str(raised.value) and "safe_globals" not in str(raised.value), "torch's unsafe advice"
    assert not (tmp_path / "run").exists()
    assert "executed" not in capsys.readouterr().out


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path, extended: Tokenizer) -> None:
    folder = saved(llama(vocab_size=300), tmp_path / "hf", extended)
    with pytest.raises(ValueError, match=re.escape(f"{extended.vocab_size} pieces and the model's vocabulary 300")):
        import_run(folder, tmp_path / "run", {})


def test_old_torch_is_refused_by_name(tmp_path: Path, extended: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = saved(llama(), tmp_path / "hf", extended)
    pickled(folder)
    monkeypatch.setattr(torch, "__version__", "2.5.1")
    with pytest.raises(ImportError, match=r"torch 2\.5\.1 may execute code"):
        import_run(folder, tmp_path / "run", {})


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    for name in ("none", "none.whl", "none.gguf"):
        with pytest.raises(FileNotFoundError, match=f"{name}: there is no such folder or file"):
            import_run(tmp_path / name, tmp_path / "run", {})
    (tmp_path / "weights.zip").touch()
    with pytest.raises(ValueError, match="neither a folder of Hugging Face"):
        import_run(tmp_path / "weights.zip", tmp_path / "run", {})
    with pytest.raises(FileNotFoundError, match=r"no config\.json"):
        import_run(tmp_path, tmp_path / "run", {})
