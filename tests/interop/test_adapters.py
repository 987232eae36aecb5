"""Adapters in PEFT's format: their names and shapes, and equal logits through PEFT's own loader."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from interop_models import a_run, transformers
from safetensors.numpy import load_file, save_file

from mindllm_jax.interop import adapters
from mindllm_jax.interop.adapters import CONFIG, WEIGHTS, export_adapters, write_adapters
from mindllm_jax.interop.architecture import flat
from mindllm_jax.interop.architectures import native_architecture
from mindllm_jax.interop.convert import Convert
from mindllm_jax.interop.import_run import _write_checkpoint
from mindllm_jax.interop.write_weights import export_run
from mindllm_jax.model.config import Model
from mindllm_jax.model.lora import Lora
from mindllm_jax.parallel.mesh import MeshAxes
from mindllm_jax.parallel.sharding import Sharding
from mindllm_jax.training.adapters import AdaptedBase
from mindllm_jax.training.checkpoint import latest_checkpoint
from mindllm_jax.training.load_run import keep_tokenizer, read_run
from mindllm_jax.training.state import abstract_model, placed

SMALL: dict[str, Any] = {"layers": 2, "width": 32, "heads": 4, "head_dim": 8, "mlp_dim": 48, "max_seq_len": 64}
GPT: dict[str, Any] = {"positions": "learned", "norm": "layernorm", "residual": "pre_norm", "mlp": "gelu"}
DESIGNS = {
    "llama": Model(**SMALL, kv_heads=2, residual="pre_norm", mlp="swiglu"),
    "gpt_neo": Model(**SMALL, **GPT, attention_scale=1.0, biases=("attention_out", "mlp"), windows=(None, 16)),
    "mindllm": Model(**SMALL),
}
LORA = Lora(rank=3, alpha=6.0)


def an_adapted_run(folder: Path, base: Path, lora: Lora = LORA) -> Path:
    """A run of random adapters on a base."""
    import jax

    record = read_run(base)
    abstract = abstract_model(record.model, Sharding(MeshAxes().build(jax.devices()[:1])), lora)
    draw = np.random.default_rng(1)
    shapes = flat(placed(abstract.params, abstract.shardings))
    parameters = {path: draw.normal(scale=0.2, size=leaf.shape).astype(np.float32) for path, leaf in shapes}
    identity = {
        "model": dataclasses.asdict(record.model), "seed": 0, "tokenizer_sha256": record.tokenizer.sha256, "data": {},
        "adapters": AdaptedBase.of(lora, record.folder, folder).to_json(),
        "step": 3, "position": {"rows": 4, "tokens": 512}, "fingerprint": "",
    }  # fmt: skip
    keep_tokenizer(record.tokenizer, folder)
    (folder / "checkpoints").mkdir()
    _write_checkpoint(folder / "checkpoints" / "3", parameters, identity)
    return folder


@pytest.fixture(params=DESIGNS)
def runs(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path]:
    base = a_run(tmp_path / "base", DESIGNS[request.param])
    return base, an_adapted_run(tmp_path / "lora", base)


def test_every_tensor_belongs_to_a_module(runs: tuple[Path, Path], tmp_path: Path) -> None:
    _, run = runs
    record = read_run(run)
    architecture = native_architecture(record.model)
    (tmp_path / "peft").mkdir()
    write_adapters(tmp_path / "peft", record, architecture, LORA, tmp_path / "hf")
    assert len({path.stat().st_mode for path in (tmp_path / "peft").iterdir()}) == 1
    tensors = load_file(tmp_path / "peft" / WEIGHTS)
    shapes = {row.name: row.shape for row in architecture.counterparts(record.model)}
    for name, tensor in tensors.items():
        module, kind, _ = name.removeprefix("base_model.model.").rsplit(".", 2)
        outputs, inputs = shapes[f"{module}.weight"]
        assert tensor.shape == {"lora_A": (3, inputs), "lora_B": (outputs, 3)}[kind]
    matrices = 7 if record.model.mlp != "gelu" else 6
    assert len(tensors) == 2 * matrices * record.model.layers
    config = json.loads((tmp_path / "peft" / CONFIG).read_text())
    assert len(config["target_modules"]) == matrices and config["lora_alpha"] == 6.0


@pytest.mark.long
def test_peft_computes_the_same(runs: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("peft", reason="peft (the extra `peft`) is not installed")
    base, run = runs
    export_run(base, tmp_path / "hf")
    table = export_adapters(run, tmp_path / "peft", tmp_path / "hf")
    difference, change = (float(str(figure)) for _, figure in table.rows)
    assert difference < 1e-4 and change > 0.1, "and the adapters are not void"

    def renamed(folder: Path, *args: Any) -> None:
        write_adapters(folder, *args)
        tensors = load_file(folder / WEIGHTS)
        save_file({name.replace("lora_B", "lora_b"): tensor for name, tensor in tensors.items()}, folder / WEIGHTS)

    monkeypatch.setattr(adapters, "write_adapters", renamed)
    with pytest.raises(ValueError, match="PEFT does not take the adapters as they are"):
        export_adapters(run, tmp_path / "void", tmp_path / "hf")
    assert not (tmp_path / "void").exists()
    monkeypatch.undo()
    other = a_run(tmp_path / "other", read_run(base).model, noise=0.3)
    export_run(other, tmp_path / "other_hf")
    with pytest.raises(ValueError, match="give the exported folder of the adapters' base"):
        export_adapters(run, tmp_path / "wrong", tmp_path / "other_hf")


def test_the_merged_model_goes_out_as_any_run(tmp_path: Path) -> None:
    base = a_run(tmp_path / "base", DESIGNS["llama"])
    run = an_adapted_run(tmp_path / "lora", base)
    export_run(run, tmp_path / "hf")
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "hf")
    query = model.model.layers[1].self_attn.q_proj.weight.detach().numpy()
    assert latest_checkpoint(run).name == "3" and query.shape == (32, 32)


def test_a_run_without_adapters(tmp_path: Path) -> None:
    base = a_run(tmp_path / "base", DESIGNS["llama"])
    with pytest.raises(ValueError, match=r"base has no adapters: Convert\.run exports its parameters"):
        export_adapters(base, tmp_path / "peft", tmp_path / "hf")


def test_adapters_of_a_base_in_four_bits_go_out_merged_alone(tmp_path: Path) -> None:
    whole_blocks = {**SMALL, "width": 64, "heads": 1, "head_dim": 64, "mlp_dim": 64}
    base = a_run(tmp_path / "base", Model(**whole_blocks, residual="pre_norm", mlp="swiglu"))
    run = an_adapted_run(tmp_path / "qlora", base, Lora(rank=3, alpha=6.0, base="nf4"))
    with pytest.raises(ValueError, match=r"qlora has adapters of a base in nf4, .* Convert\.run exports the model"):
        export_adapters(run, tmp_path / "peft", tmp_path / "hf")


def test_adapters_and_their_base_are_set_together() -> None:
    with pytest.raises(ValueError, match=r"Convert\.adapters needs Convert\.base"):
        Convert(adapters="lora", output="out")
    with pytest.raises(ValueError, match=r"Convert\.run does not use Convert\.base"):
        Convert(run="run", base="hf", output="out")
    with pytest.raises(ValueError, match=r"Convert\.adapters needs Convert\.output"):
        Convert(adapters="lora", base="hf")
