"""Global batches are the same on any devices and processes."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import cast

import grain
import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from process_fixtures import InTwoProcesses

from mindllm_jax.batching.global_batches import GlobalBatches, Loader
from mindllm_jax.mixture.rows import MixtureRows
from mindllm_jax.mixture.settings import Mixture
from mindllm_jax.rows import Batch, TrainingRows
from mindllm_jax.store.rows import SplitRows

ROOT = Path(__file__).parent.parent.parent
MIXTURE = Mixture("", sequence_length=12)


@pytest.fixture
def rows(count_store) -> MixtureRows:
    return MixtureRows(
        MIXTURE, count_store({"a": ("zh", [30, 5, 70]), "b": ("en", [7] * 30)}), steps=100, global_batch_size=8
    )


def sharding(shape: tuple[int, ...] = (1,), spec: PartitionSpec | None = None) -> NamedSharding:
    names = ("data", "context")[: len(shape)]
    devices = jax.devices()[: int(np.prod(shape))]
    mesh = jax.make_mesh(shape, names, devices=devices, axis_types=(AxisType.Auto,) * len(shape))
    return NamedSharding(mesh, PartitionSpec("data") if spec is None else spec)


def first(batches: GlobalBatches, count: int) -> list[Batch]:
    with batches:
        return [next(batches) for _ in range(count)]


@pytest.mark.parametrize(
    ("shape", "spec"),
    [
        ((1,), None),
        ((2,), None),
        ((8,), None),
        ((8,), PartitionSpec()),
        ((2, 4), PartitionSpec("data", "context")),
        ((2, 4), PartitionSpec(("data", "context"))),
        ((2, 4), PartitionSpec(None, "context")),
    ],
)
def test_batches_are_the_rows_whatever_the_devices(rows: MixtureRows, shape, spec) -> None:
    for step, batch in enumerate(first(GlobalBatches(rows, 8, sharding(shape, spec)), 3)):
        for field, wanted in zip(batch, rows.read(np.arange(8 * step, 8 * step + 8)), strict=True):
            assert isinstance(field, jax.Array)
            assert field.sharding == sharding(shape, spec)  # pyright: ignore  as the newest jax types it
            np.testing.assert_array_equal(field, wanted)


def test_a_later_start_gives_the_later_batches(rows: MixtureRows) -> None:
    straight = first(GlobalBatches(rows, 4, sharding()), 5)
    later = first(GlobalBatches(rows, 4, sharding(), first_row=12), 2)
    for one, other in zip(straight[3:], later, strict=True):
        np.testing.assert_array_equal(one.tokens, other.tokens)


def test_finite_rows_end_with_a_batch_filled_up(count_store) -> None:
    store = count_store({"a": ("zh", [30, 5, 70])})
    rows = SplitRows(store, "a", "train", 12)
    with GlobalBatches(rows, 4, sharding((4,))) as batches:
        read = list(batches)
        assert next(batches, None) is None
    assert len(read) == 3
    assert sum(float(np.sum(batch.weights)) for batch in read) == 105
    assert list(GlobalBatches(SplitRows(store, "a", "held_out", 12), 4, sharding())) == []


class Failing(TrainingRows):
    """Rows that end in an error at row 8."""

    def __init__(self, rows: MixtureRows) -> None:
        super().__init__(12, planned_rows=None)
        self._rows = rows

    def places(self, indices: np.ndarray) -> list[tuple[str, int, int]]:
        return self._rows.places(indices)

    def read(self, indices: np.ndarray) -> Batch:
        if indices[0] >= 8:
            raise OSError("the disk is gone")
        return self._rows.read(indices)


def test_an_error_of_the_reader_is_raised_by_the_iteration(rows: MixtureRows) -> None:
    with GlobalBatches(Failing(rows), 4, sharding()) as batches:
        next(batches), next(batches)
        with pytest.raises(OSError, match="the disk is gone"):
            next(batches)
        with pytest.raises(ValueError, match="closed"):
            next(batches)
    assert batches.get_state() == {"next_index": 8}


def test_closing_ends_the_threads(rows: MixtureRows) -> None:
    def running() -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread.name.startswith("grain-prefetch")]

    before = len(running())
    batches = GlobalBatches(rows, 4, sharding())
    next(batches)
    assert len(running()) > before
    batches.close()
    for thread in running()[before:]:
        thread.join(timeout=10)
    assert len(running()) == before
    with pytest.raises(ValueError, match="closed"):
        next(batches)
    batches.close()


def test_the_state_is_the_number_of_rows_read(rows: MixtureRows) -> None:
    with GlobalBatches(rows, 4, sharding(), loader=Loader(prefetch=3, threads=2)) as batches:
        assert batches.get_state() == {"next_index": 0}
        read = [next(batches) for _ in range(3)]
        assert batches.get_state() == {"next_index": 12}
        batches.set_state({"next_index": 4})
        np.testing.assert_array_equal(next(batches).tokens, read[1].tokens)
        assert batches.get_state() == {"next_index": 8}
        with pytest.raises(IndexError, match="next_index = -1"):
            batches.set_state({"next_index": -1})


def test_finite_rows_are_read_when_their_last_batch_is(count_store) -> None:
    rows = SplitRows(count_store({"a": ("zh", [30, 5, 70])}), "a", "train", 12)  # 9 rows
    with GlobalBatches(rows, 4, sharding(), first_row=2) as batches:
        assert [batches.get_state()["next_index"] for _ in batches] == [6, 9]


def test_orbax_stores_the_iterator_as_any_of_grain(rows: MixtureRows, tmp_path: Path) -> None:
    """And another batch size resumes from it."""
    with (
        GlobalBatches(rows, 4, sharding()) as batches,
        ocp.Checkpointer(cast(ocp.CheckpointHandler, grain.checkpoint.CheckpointHandler())) as checkpointer,
    ):
        next(batches)
        checkpointer.save(tmp_path / "rows", args=grain.checkpoint.CheckpointSave(batches))
        with GlobalBatches(rows, 8, sharding()) as resumed:
            checkpointer.restore(tmp_path / "rows", args=grain.checkpoint.CheckpointRestore(resumed))
            assert resumed.get_state() == {"next_index": 4}
            np.testing.assert_array_equal(next(resumed).tokens, rows.read(np.arange(4, 12)).tokens)


@pytest.mark.long
def test_worker_processes_read_the_same_batches(rows: MixtureRows) -> None:
    plain = first(GlobalBatches(rows, 4, sharding(), first_row=8), 5)
    read = first(GlobalBatches(rows, 4, sharding(), first_row=8, loader=Loader(worker_processes=2)), 5)
    for one, other in zip(plain, read, strict=True):
        for field, wanted in zip(other, one, strict=True):
            np.testing.assert_array_equal(field, wanted)


# Reads in a worker process, prints its id, and is killed.
KILLED = """
import multiprocessing, os, signal, sys
from mindllm_jax.batching.global_batches import GlobalBatches, Loader
from mindllm_jax.mixture.rows import MixtureRows
from mindllm_jax.mixture.settings import Mixture
from mindllm_jax.store.store import TokenStore
import jax

if __name__ == "__main__":
    mixture = Mixture(sys.argv[1], sequence_length=12)
    rows = MixtureRows(mixture, TokenStore.open(sys.argv[1]), steps=100, global_batch_size=8)
    place = jax.NamedSharding(jax.make_mesh((1,), ("data",)), jax.P("data"))
    batches = GlobalBatches(rows, 4, place, loader=Loader(worker_processes=1))
    next(batches)
    print(*(child.pid for child in multiprocessing.active_children()), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.long
def test_worker_processes_end_with_a_run_that_is_killed(count_store, tmp_path: Path) -> None:
    store = count_store({"a": ("zh", [30, 5, 70]), "b": ("en", [7] * 30)})
    (tmp_path / "killed.py").write_text(KILLED)
    command = [sys.executable, str(tmp_path / "killed.py"), store.url]
    # The worker holds stdout too: read to its end, the output says that the worker has ended.
    done = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, timeout=120, check=False
    )
    assert done.returncode == -signal.SIGKILL and len(done.stdout.split()) == 1


@pytest.mark.parametrize(
    ("global_batch_size", "shape", "spec"),
    [(6, (4,), None), (8, (1, 8), PartitionSpec("data", "context"))],
)
def test_a_batch_that_devices_cannot_share_evenly(rows: MixtureRows, global_batch_size: int, shape, spec) -> None:
    message = (
        rf"a batch of {global_batch_size} rows of 12 tokens cannot be divided evenly over the mesh .*'data': {shape[0]}"
    )
    with pytest.raises(ValueError, match=message):
        GlobalBatches(rows, global_batch_size, sharding(shape, spec))


def test_bad_settings(rows: MixtureRows) -> None:
    with pytest.raises(ValueError, match="global_batch_size = 0: must be at least 1"):
        GlobalBatches(rows, 0, sharding())
    with pytest.raises(ValueError, match=r"Loader\.prefetch = 0: must be at least 1"):
        Loader(prefetch=0)


# Prints which rows this process read, and the digest of the part of each batch that each of its devices holds.
PROCESS = """
import hashlib, json, sys
from pathlib import Path
import jax, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from mindllm_jax.batching.global_batches import GlobalBatches, Loader
from mindllm_jax.mixture.settings import Mixture
from mindllm_jax.mixture.rows import MixtureRows
from mindllm_jax.store.store import TokenStore
from mindllm_jax.parallel.startup import start

start()
store = TokenStore.open(sys.argv[1] + "/counts")
rows = MixtureRows(Mixture("", sequence_length=12), store, steps=100, global_batch_size=8)
read, plain = [], rows.read
rows.read = lambda indices: (read.append(indices.tolist()), plain(indices))[1]
mesh = jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))
parts = {}
loader = Loader(prefetch=1, threads=1)
with GlobalBatches(rows, 8, NamedSharding(mesh, PartitionSpec("data")), loader=loader) as batches:
    for step in range(3):
        batch = next(batches)
        for name, field in batch._asdict().items():
            for shard in field.addressable_shards:
                digest = hashlib.sha256(np.asarray(shard.data).tobytes()).hexdigest()
                parts[f"{step} {name} {shard.index[0].start or 0}"] = digest
Path(sys.argv[1], f"{jax.process_index()}.json").write_text(json.dumps({"read": read[:3], "parts": parts}))
"""


@pytest.mark.long
def test_two_processes_hold_the_same_batches_and_read_only_their_own(
    rows: MixtureRows, in_two_processes: InTwoProcesses, tmp_path: Path
) -> None:
    in_two_processes(PROCESS, devices=2)
    outputs = [json.loads((tmp_path / f"{process}.json").read_text(encoding="utf-8")) for process in range(2)]
    assert [output["read"] for output in outputs] == [
        [[0, 1, 2, 3], [8, 9, 10, 11], [16, 17, 18, 19]],
        [[4, 5, 6, 7], [12, 13, 14, 15], [20, 21, 22, 23]],
    ]
    wanted = {
        f"{step} {name} {start}": hashlib.sha256(np.asarray(field)[start : start + 2].tobytes()).hexdigest()
        for step in range(3)
        for name, field in rows.read(np.arange(8 * step, 8 * step + 8))._asdict().items()
        for start in range(0, 8, 2)
    }
    assert outputs[0]["parts"] | outputs[1]["parts"] == wanted
