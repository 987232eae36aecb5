import dataclasses
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx

from mindllm_jax.model.config import Model
from mindllm_jax.parallel.mesh import MeshAxes
from mindllm_jax.parallel.sharding import Sharding
from mindllm_jax.tokenization.tokenizer import Tokenizer
from mindllm_jax.training.checkpoint import Checkpointing, Checkpoints
from mindllm_jax.training.checksums import CHECKSUMS, write_checksums
from mindllm_jax.training.load_run import keep_tokenizer, load_decoder, read_run
from mindllm_jax.training.position import Position
from mindllm_jax.training.state import Params, TrainState, abstract_model, initial_params

MODEL = Model(layers=2, width=32, heads=2, head_dim=16, mlp_dim=64, max_seq_len=32, compute_dtype="float32")
FIXTURE = Path(__file__).parents[1] / "fixtures" / "tokenizer.model"


@pytest.fixture(scope="module")
def fresh() -> Params:
    return initial_params(MODEL, abstract_model(MODEL, Sharding(MeshAxes().build(jax.devices()[:1]))), seed=7)


@pytest.fixture(scope="module")
def kept(fresh: Params, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of seed 7; the checkpoint of a step holds the fresh parameters times that step."""
    folder = tmp_path_factory.mktemp("run")
    tokenizer = Tokenizer.load(FIXTURE)
    keep_tokenizer(tokenizer, folder)
    identity = {"model": dataclasses.asdict(MODEL), "seed": 7, "tokenizer_sha256": tokenizer.sha256}
    with Checkpoints(folder, Checkpointing(), identity) as checkpoints:
        checkpoints.start()
        for step in (3, 12):
            counter = jax.numpy.int32(step)
            checkpoints.save(TrainState(counter, counter, counter, times(fresh, step), (counter,), {}), Position(), "")
            checkpoints.wait()
    return folder


def times(params: Params, factor: float) -> Params:
    return jax.tree.map(lambda x: factor * x, params)


@pytest.fixture
def run(kept: Path, tmp_path: Path) -> Path:
    """A copy to be damaged, in another place than it was made."""
    return Path(shutil.copytree(kept, tmp_path / "moved"))


def params_of(decoder: nnx.Module) -> Params:
    return nnx.to_pure_dict(nnx.state(decoder))


def assert_equal(one: Params, other: Params) -> None:
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(one), jax.device_get(other))


def test_newest_parameters_come_back(run: Path, fresh: Params) -> None:
    loaded = load_decoder(run)
    assert loaded.step == 12 and loaded.model == MODEL and loaded.decoder.config == MODEL
    assert loaded.tokenizer.decode(loaded.tokenizer.encode("你好 a")) == "你好 a"
    assert_equal(params_of(loaded.decoder), times(fresh, 12))


def test_it_computes_in_the_dtype_that_is_decided_on(run: Path, fresh: Params) -> None:
    other = dataclasses.replace(MODEL, compute_dtype="bfloat16")
    loaded = load_decoder(run, resolve_model=lambda model: other if model == MODEL else model)
    assert loaded.model == loaded.decoder.config == other
    assert_equal(params_of(loaded.decoder), times(fresh, 12))


def test_a_step_can_be_named(run: Path, fresh: Params) -> None:
    loaded = load_decoder(run, step=3)
    assert loaded.step == 3
    assert_equal(params_of(loaded.decoder), times(fresh, 3))


def test_untrained_is_where_the_run_began(run: Path, fresh: Params) -> None:
    loaded = load_decoder(run, untrained=True)
    assert loaded.step == 0
    assert_equal(params_of(loaded.decoder), fresh)


def test_parameters_go_to_the_given_mesh(run: Path, fresh: Params) -> None:
    sharding = Sharding(MeshAxes(fsdp=2).build())
    loaded = load_decoder(run, sharding=sharding)
    embedding = loaded.decoder.embedding[...]
    assert loaded.decoder.layout.sharding == sharding
    assert len(embedding.sharding.device_set) == 8 and not embedding.sharding.is_fully_replicated
    assert_equal(params_of(loaded.decoder), times(fresh, 12))


def test_a_record_needs_no_arrays(run: Path) -> None:
    for file in (run / "checkpoints/12/params").rglob("*"):
        if file.is_file():
            file.unlink()
    record = read_run(run)
    assert record.folder == run / "checkpoints/12" and record.model == MODEL
    assert record.identity["seed"] == 7


def test_a_missing_run_is_reported(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nothing.* holds no checkpoint"):
        load_decoder(tmp_path / "nothing")


def test_a_missing_step_is_reported(run: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no checkpoint of step 5; there are 3, 12"):
        load_decoder(run, step=5)


def test_a_flipped_bit_is_reported(run: Path) -> None:
    folder = run / "checkpoints/12"
    listed = [
        folder / name for name in json.loads((folder / CHECKSUMS).read_text())["files"] if name.startswith("params/")
    ]
    path = max(listed, key=lambda file: file.stat().st_size)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="does not match its checksum: the checkpoint is damaged"):
        load_decoder(run)


def test_another_tokenizer_is_refused(run: Path) -> None:
    identity = run / "checkpoints/12/run/metadata"
    stored = json.loads(identity.read_text())
    identity.write_text(json.dumps(stored | {"tokenizer_sha256": "0" * 64}))
    write_checksums(run / "checkpoints/12")
    with pytest.raises(ValueError, match=r"tokenizer\.model is not the tokenizer that .*12 was trained with"):
        load_decoder(run)


def test_a_missing_tokenizer_is_reported(run: Path) -> None:
    (run / "tokenizer.model").unlink()
    with pytest.raises(FileNotFoundError, match=r"there is no tokenizer .*tokenizer\.model"):
        load_decoder(run)


def test_a_model_of_another_version_is_refused(run: Path) -> None:
    identity = run / "checkpoints/12/run/metadata"
    stored = json.loads(identity.read_text())
    stored["model"]["experts"] = 8
    identity.write_text(json.dumps(stored))
    write_checksums(run / "checkpoints/12")
    with pytest.raises(ValueError, match=r"Model has no field \['experts'\]; it was written by another version"):
        read_run(run)
