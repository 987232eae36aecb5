"""What a folder of checkpoints can suffer: leftovers, damage, odd names, failed saves, checkpoints that are gone."""

from __future__ import annotations

import errno
import json
import shutil
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mindllm_jax.training.checkpoint import Checkpointing, Checkpoints, latest_checkpoint, read_identity, steps_of
from mindllm_jax.training.checksums import CHECKSUMS, compare, write_checksums
from mindllm_jax.training.position import Position
from mindllm_jax.training.state import TrainState

IDENTITY = {"tokenizer_sha256": "0" * 64, "data": {"a": 1}}


def state(step: int) -> TrainState:
    def count() -> jax.Array:
        return jnp.int32(step)

    return TrainState(count(), count(), count(), {"w": jnp.arange(6.0) * step}, {"moment": jnp.ones(3)}, {})  # pyright: ignore[reportArgumentType]


def save(workdir: Path, *steps: int) -> None:
    with Checkpoints(workdir, Checkpointing(), IDENTITY) as checkpoints:
        checkpoints.start()
        for step in steps:
            checkpoints.save(state(step), Position(step, 10 * step), "")
        checkpoints.wait()


def restored(workdir: Path) -> TrainState | None:
    abstract = jax.eval_shape(lambda: state(1))
    place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    abstract = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place), abstract)
    with Checkpoints(workdir, Checkpointing(), IDENTITY) as checkpoints:
        found = checkpoints.restore(abstract)
    return found and found.state


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    workdir = tmp_path_factory.mktemp("saved") / "run"
    save(workdir, 3, 12)
    return workdir


@pytest.fixture
def workdir(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "run"))


def test_state_and_position_come_back(workdir: Path) -> None:
    found = restored(workdir)
    assert found is not None
    jax.tree.map(np.testing.assert_array_equal, found, state(12))
    identity = read_identity(latest_checkpoint(workdir))
    assert Position(**identity["position"]) == Position(12, 120) and identity["step"] == 12


def test_what_a_killed_save_left_is_removed_and_not_hashed(workdir: Path) -> None:
    leftover = workdir / "checkpoints/15.orbax-checkpoint-tmp"
    (leftover / "params").mkdir(parents=True)
    (leftover / "params/data").write_bytes(b"0" * 1000)
    with Checkpoints(workdir, Checkpointing(), IDENTITY) as checkpoints:
        assert checkpoints.latest() == 12
        checkpoints.start()
        other = workdir / "checkpoints/99.orbax-checkpoint-tmp"
        checkpoints.save(state(20), Position(), "")
        assert not leftover.exists()
        (other / "params").mkdir(parents=True)
        checkpoints.wait()
        assert not (other / CHECKSUMS).exists(), "only what was just written is hashed"
    assert latest_checkpoint(workdir).name == "20"


def rewritten(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


DAMAGE = {
    "empty object": lambda path: path.write_text("{}"),
    "emptied": lambda path: path.write_text(""),
    "a list": lambda path: path.write_text("[]"),
    "no files": lambda path: rewritten(path, files={}),
    "an entry left out": lambda path: rewritten(
        path, files=dict(list(json.loads(path.read_text())["files"].items())[1:])
    ),
    "not text": lambda path: path.write_bytes(b"\xff\xfe"),
    "missing": lambda path: path.unlink(),
    "a file beside": lambda path: (path.parent / "params/more").write_text(""),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_checksums_vouch_for_nothing(workdir: Path, damage: str) -> None:
    DAMAGE[damage](latest_checkpoint(workdir) / CHECKSUMS)
    with pytest.raises(
        ValueError, match=r"checksums\.json.*the checkpoint is damaged. Remove .*12 to use an older one"
    ):
        restored(workdir)


def test_a_flipped_bit_in_any_file_is_noticed(workdir: Path) -> None:
    folder = latest_checkpoint(workdir)
    for name in json.loads((folder / CHECKSUMS).read_text())["files"]:
        content = (folder / name).read_bytes()
        if content:
            (folder / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
            with pytest.raises(ValueError, match=f"{name} does not match its checksum"):
                compare(folder)
            (folder / name).write_bytes(content)
    compare(folder)
    compare(folder, ("params", "run"))


def test_processes_together_read_every_file_once(workdir: Path) -> None:
    folder = latest_checkpoint(workdir)
    names = list(json.loads((folder / CHECKSUMS).read_text())["files"])
    for name in names:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content + b"x")
        failed = 0
        for share in range(3):
            try:
                compare(folder, share=share, shares=3)
            except ValueError:
                failed += 1
        assert failed == 1, name
        (folder / name).write_bytes(content)


def test_inference_does_not_read_the_optimizer(workdir: Path) -> None:
    folder = latest_checkpoint(workdir)
    shutil.rmtree(folder / "training")
    compare(folder, ("params", "run"))
    with pytest.raises(ValueError, match=r"training/.* is missing"):
        compare(folder)


def test_a_checkpoint_under_another_number_is_refused(workdir: Path) -> None:
    shutil.copytree(workdir / "checkpoints/12", workdir / "checkpoints/100")
    with pytest.raises(ValueError, match="100 contains the checkpoint of step 12: name it 12, or move it away"):
        restored(workdir)


def test_a_checkpoint_of_another_version_is_refused(workdir: Path) -> None:
    rewritten(latest_checkpoint(workdir) / "run/metadata", position={"row": 3})
    write_checksums(latest_checkpoint(workdir))
    with pytest.raises(ValueError, match=r"metadata: the checkpoint is damaged, or of another version"):
        restored(workdir)


def test_a_number_with_zeros_in_front_is_refused(workdir: Path) -> None:
    (workdir / "checkpoints/12").rename(workdir / "checkpoints/00012")
    with pytest.raises(ValueError, match="00012: a checkpoint of that step is named 12; rename or move it"):
        restored(workdir)


def test_names_that_are_no_numbers_are_left_alone(workdir: Path) -> None:
    (workdir / "checkpoints/12 old").mkdir()
    (workdir / "checkpoints/²").mkdir()
    (workdir / "checkpoints/40").write_text("a file")
    assert latest_checkpoint(workdir).name == "12"


def test_a_save_that_is_refused_is_an_error(workdir: Path) -> None:
    with Checkpoints(workdir, Checkpointing(), IDENTITY) as checkpoints:
        checkpoints.start()
        with pytest.raises(OSError, match=r"Orbax refused to save step 5 after step 12\. The latest .* is step 12"):
            checkpoints.save(state(5), Position(), "")


def test_a_failed_save_is_told_at_once_with_advice_that_fits(workdir: Path) -> None:
    """Orbax would wait five minutes for a folder that its thread could not make."""
    with Checkpoints(workdir, Checkpointing(), IDENTITY) as checkpoints:
        checkpoints.start()
        shutil.rmtree(workdir / "checkpoints")
        (workdir / "checkpoints").write_text("in the way")
        started = time.monotonic()
        with pytest.raises(OSError, match=r"could not be written .* fix the cause and rerun"):
            checkpoints.save(state(20), Position(), "")
    assert time.monotonic() - started < 30


def test_a_full_disk_is_the_reason_to_make_room(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Checkpoints(workdir, Checkpointing(), IDENTITY) as checkpoints:
        checkpoints.start()

        def full(*_: object, **__: object) -> None:
            failed = "a task failed [tensorstore_spec='{...}']\nin a file"
            raise RuntimeError(failed) from OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(checkpoints._manager, "save", full)
        with pytest.raises(OSError, match=r": a task failed\. The latest .* is step 12; free some space and rerun"):
            checkpoints.save(state(20), Position(), "")


def test_a_failed_write_costs_its_own_step_alone_and_two_in_a_row_end_the_run(
    workdir: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def write(folder: Path) -> None:
        if not folder.name.startswith("35."):
            raise OSError(errno.ENOSPC, "No space left on device", str(folder))
        write_checksums(folder)

    monkeypatch.setattr("mindllm_jax.training.checkpoint.write_checksums", write)
    with Checkpoints(workdir, Checkpointing(keep=2), IDENTITY) as checkpoints:
        checkpoints.start()
        checkpoints.save(state(20), Position(), "")
        with pytest.raises(OSError, match="free some space and rerun"):
            checkpoints.save(state(25), Position(), "")
        assert sorted(path.name for path in checkpoints.directory.iterdir()) == ["12", "3"], "no part is left"
        checkpoints.save(state(30), Position(), "")
        checkpoints.save(state(35), Position(), "")
        assert steps_of(workdir) == [12, 35], "on the disk before the return"
    assert "No space left on device" in caplog.text and "; step 35 is written instead" in caplog.text
    assert restored(workdir) is not None


def test_imported_weights_are_no_run_to_resume(tmp_path: Path) -> None:
    (tmp_path / "checkpoints/0").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"holds imported weights, from which no run resumes: .* tune them"):
        restored(tmp_path)


def test_checkpoints_that_are_gone_are_missed(workdir: Path) -> None:
    shutil.rmtree(workdir / "checkpoints")
    with pytest.raises(ValueError, match=r".*checkpoints has none: put it back, or remove .*latest_checkpoint"):
        restored(workdir)
    (workdir / "latest_checkpoint.json").unlink()
    assert restored(workdir) is None


@pytest.mark.parametrize("name", ["[lr=1e-3]", "a]", "back\\slash", "a*", "a?"])
def test_a_path_that_orbax_takes_for_a_pattern_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="which Orbax takes for a pattern"):
        Checkpoints(tmp_path / name / "run", Checkpointing(), IDENTITY)
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize("name", ["a blank", "中文", "#1", "100%", "lr=1e-3,wd={0.1}"])
def test_other_odd_paths_can_be_read_again(tmp_path: Path, name: str) -> None:
    save(tmp_path / name, 1)
    assert restored(tmp_path / name) is not None


def test_a_link_is_a_way_round(tmp_path: Path) -> None:
    (tmp_path / "[x]").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "[x]")
    save(tmp_path / "link", 1)
    assert restored(tmp_path / "link") is not None


def test_what_cannot_be_read_back_is_no_checkpoint(tmp_path: Path) -> None:
    with Checkpoints(tmp_path / "run", Checkpointing(), IDENTITY) as checkpoints:
        checkpoints.directory = tmp_path / "[x]/checkpoints"  # past the check
        checkpoints.start()
        checkpoints.save(state(1), Position(), "")
        with pytest.raises(OSError, match="could not be written"):
            checkpoints.wait()
    assert not (tmp_path / "[x]/checkpoints/1").exists()
