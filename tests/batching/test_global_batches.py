"""Global batches are the same on any devices and processes."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from mindllm_jax.batching.global_batches import GlobalBatches
from mindllm_jax.mixture.rows import MixtureRows
from mindllm_jax.mixture.settings import Mixture
from mindllm_jax.store.rows import Batch, SplitRows

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


def first(batches: GlobalBatches, count: int) -> list[tuple[int, Batch]]:
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
    for step, batch in first(GlobalBatches(rows, 8, sharding(shape, spec)), 3):
        for field, wanted in zip(batch, rows.read(np.arange(8 * step, 8 * step + 8)), strict=True):
            assert isinstance(field, jax.Array)
            assert field.sharding == sharding(shape, spec)  # pyright: ignore  as the newest jax types it
            np.testing.assert_array_equal(field, wanted)


def test_a_later_start_gives_the_later_batches(rows: MixtureRows) -> None:
    straight = first(GlobalBatches(rows, 4, sharding()), 5)
    later = first(GlobalBatches(rows, 4, sharding(), first_row=12), 2)
    assert [number for number, _ in later] == [0, 1]
    for (_, one), (_, other) in zip(straight[3:], later, strict=True):
        np.testing.assert_array_equal(one.tokens, other.tokens)


def test_finite_rows_end_with_a_batch_filled_up(count_store) -> None:
    store = count_store({"a": ("zh", [30, 5, 70])})
    rows = SplitRows(store, "a", "train", 12)
    with GlobalBatches(rows, 4, sharding((4,))) as batches:
        read = list(batches)
        assert next(batches, None) is None
    assert [step for step, _ in read] == [0, 1, 2]
    assert sum(float(np.sum(batch.weights)) for _, batch in read) == 105
    assert list(GlobalBatches(SplitRows(store, "a", "held_out", 12), 4, sharding())) == []


class Failing:
    """Rows that end in an error at row 8."""

    sequence_length = 12

    def __init__(self, rows: MixtureRows) -> None:
        self._rows = rows

    def read(self, indices: np.ndarray) -> Batch:
        if indices[0] >= 8:
            raise OSError("the disk is gone")
        return self._rows.read(indices)


def test_what_fails_in_the_thread_is_raised_where_batches_are_used(rows: MixtureRows) -> None:
    with GlobalBatches(Failing(rows), 4, sharding()) as batches:
        assert [next(batches)[0], next(batches)[0]] == [0, 1]
        with pytest.raises(OSError, match="the disk is gone"):
            next(batches)
        with pytest.raises(StopIteration):
            next(batches)


def test_closing_ends_the_thread(rows: MixtureRows) -> None:
    def running() -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread.name == "batches"]

    batches = GlobalBatches(rows, 4, sharding(), prefetch=1)
    next(batches)
    assert running()
    batches.close()
    assert not running()
    with pytest.raises(StopIteration):
        next(batches)
    batches.close()


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


@pytest.mark.parametrize("changes", [{"global_batch_size": 0}, {"global_batch_size": 4, "prefetch": 0}])
def test_nothing_to_read(rows: MixtureRows, changes: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="global_batch_size and prefetch must be at least 1"):
        GlobalBatches(rows, sharding=sharding(), **changes)


# Says which rows this process read, and the digest of the part of each batch that each of its devices holds.
PROCESS = """
import hashlib, json, sys
import jax, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from mindllm_jax.batching.global_batches import GlobalBatches
from mindllm_jax.mixture.settings import Mixture
from mindllm_jax.mixture.rows import MixtureRows
from mindllm_jax.store.store import TokenStore
from mindllm_jax.parallel.startup import start

start()
rows = MixtureRows(Mixture("", sequence_length=12), TokenStore.open(sys.argv[1]), steps=100, global_batch_size=8)
read, plain = [], rows.read
rows.read = lambda indices: (read.append(indices.tolist()), plain(indices))[1]
mesh = jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))
parts = {}
with GlobalBatches(rows, 8, NamedSharding(mesh, PartitionSpec("data")), prefetch=1) as batches:
    for _ in range(3):
        step, batch = next(batches)
        for name, field in batch._asdict().items():
            for shard in field.addressable_shards:
                digest = hashlib.sha256(np.asarray(shard.data).tobytes()).hexdigest()
                parts[f"{step} {name} {shard.index[0].start or 0}"] = digest
print(json.dumps({"read": read[:3], "parts": parts}))
"""


@pytest.mark.long
def test_two_processes_hold_the_same_batches_and_read_only_their_own(rows: MixtureRows, tmp_path: Path) -> None:
    command = [sys.executable, "launch/local_cluster.py", "--processes", "2", "--devices", "2", "--"]
    script = tmp_path / "process.py"
    script.write_text(PROCESS, encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*command, sys.executable, str(script), str(tmp_path / "counts")],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    outputs = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert sorted(output["read"] for output in outputs) == [
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
