"""Tokens per second into batches on the device, beside a plain memory map of the same tokens, which is the limit.

python benchmarks/loader.py [--tokens 50000000] [--seconds 2] [--rounds 3]

A mixture of two sources, 2 : 3. The loader permutes rows, finds documents and checks every block that it reads; the
memory map takes rows at random places and shifts them by one for the targets. `one thread` reads one batch at a time,
`workers` in one process of Grain, `row by row` batches the rows of the dataset by Grain. The figures are medians
of rounds in which all take turns. Prints a table and JSON.
"""

import argparse
import functools
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Generator
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import grain
import jax
import numpy as np
import rich
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from mindllm_jax.batching.global_batches import GlobalBatches, Loader
from mindllm_jax.mixture.rows import MixtureRows
from mindllm_jax.mixture.settings import Mixture
from mindllm_jax.reporting.tables import Table
from mindllm_jax.store.location import open_files
from mindllm_jax.store.store import Manifest, TokenStore
from mindllm_jax.store.tokenized import Tokenized
from mindllm_jax.store.writer import SourceDocuments, write_source

VOCAB, DOC, MEAN_DOCUMENT = 16_384, 2, 800
SHARES = {"zh": 2, "en": 3}
SHAPES = ((32, 512), (32, 2048), (8, 8192))
LOADER, LIMIT = "loader", "memory map"


def write_tokens(folder: Path, count: int) -> None:
    """A store of random tokens in documents of random lengths, and each source as a plain file."""
    random, files, sources = np.random.default_rng(0), open_files(str(folder / "store")), {}
    for language, share in SHARES.items():
        size = count * share // sum(SHARES.values())
        tokens = random.integers(3, VOCAB, size, np.uint16)
        begins = np.flatnonzero(random.random(size) < 1 / MEAN_DOCUMENT)
        begins[0] = 0
        tokens[begins] = DOC
        (folder / language).write_bytes(tokens.tobytes())
        documents = len(begins)
        tokenized = Tokenized(
            tokens=tokens,
            offsets=np.append(begins, size).astype(np.int64),
            bytes=np.zeros(documents, np.int64),
            shuffle_keys=random.integers(0, 2**63, documents, np.uint64),
            held_out=np.zeros(documents, np.bool_),
        )
        sources[language] = write_source(files, SourceDocuments(language, language, {}, list), tokenized)
    manifest = Manifest("", vocab_size=VOCAB, doc_id=DOC, pad_id=0, seed=0, held_out=0.0, sources=sources)
    files.write("manifest.json", manifest.to_json()).result()


def read_by(
    loader: Loader, folder: Path, rows: int, length: int, sharding: NamedSharding
) -> Generator[int, None, None]:
    """Yields the tokens of each batch, through the mixture."""
    mixture = Mixture(str(folder / "store"), weights=SHARES, sequence_length=length)
    reader = MixtureRows(mixture, TokenStore.open(mixture.store), steps=1, global_batch_size=rows)
    with GlobalBatches(reader, rows, sharding, loader=loader) as batches:
        for batch in batches:
            jax.block_until_ready(batch)
            yield batch.tokens.size


def row_by_row(folder: Path, rows: int, length: int, sharding: NamedSharding) -> Generator[int, None, None]:
    """Yields the tokens of each batch, of Grain's own batches of single rows."""
    mixture = Mixture(str(folder / "store"), weights=SHARES, sequence_length=length)
    reader = MixtureRows(mixture, TokenStore.open(mixture.store), steps=1, global_batch_size=rows)
    batches = iter(reader.batch(rows).to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=2)))
    for batch in batches:
        yield jax.block_until_ready(jax.device_put(batch, sharding)).tokens.size


def memory_map(folder: Path, rows: int, length: int, sharding: NamedSharding) -> Generator[int, None, None]:
    """Yields the tokens of each batch, from the plain files."""
    random = np.random.default_rng(0)
    sources = [np.memmap(folder / language, np.uint16, "r") for language in SHARES]
    while True:
        chosen = random.choice(len(sources), rows, p=np.array(list(SHARES.values())) / sum(SHARES.values()))
        windows = np.empty((rows, length + 1), np.int32)
        for row, source in enumerate(chosen):
            start = random.integers(0, len(sources[source]) - length)
            windows[row] = sources[source][start : start + length + 1]
        batch = jax.block_until_ready(jax.device_put((windows[:, :-1], windows[:, 1:]), sharding))
        yield batch[0].size


def rate(batches: Generator[int, None, None], seconds: float) -> float:
    """Returns tokens per second, after the first batches."""
    for _ in range(3):
        next(batches)
    start, tokens = time.perf_counter(), 0
    while (spent := time.perf_counter() - start) < seconds:
        tokens += next(batches)
    batches.close()
    return tokens / spent


READERS = {
    LOADER: functools.partial(read_by, Loader()),
    "one thread": functools.partial(read_by, Loader(threads=1)),
    "workers": functools.partial(read_by, Loader(worker_processes=1)),
    "row by row": row_by_row,
    LIMIT: memory_map,
}


def main() -> None:
    """Measures every shape with every reader."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=50_000_000, help="in the store")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each reader")
    parser.add_argument("--readers", nargs="+", choices=READERS, default=list(READERS))
    arguments = parser.parse_args()
    mesh = jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))
    sharding = NamedSharding(mesh, PartitionSpec("data"))
    results = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_tokens(folder, arguments.tokens)
        for rows, length in SHAPES:
            rates = {reader: [] for reader in arguments.readers}
            for _ in range(arguments.rounds):
                for reader, values in rates.items():
                    values.append(rate(READERS[reader](folder, rows, length, sharding), arguments.seconds))
            medians = {reader: statistics.median(values) for reader, values in rates.items()}
            results.append({"rows": rows, "length": length, "tokens_per_second": medians})
    table = Table(
        ("batch", *(f"{reader}, M tokens/s" for reader in arguments.readers)),
        [
            [f"{r['rows']} x {r['length']}", *(r["tokens_per_second"][reader] / 1e6 for reader in arguments.readers)]
            for r in results
        ],
        f"{arguments.tokens:,} tokens in two sources; devices: {jax.device_count()} {jax.default_backend()}",
    )
    rich.print(table.terminal())
    machine = {"cores": os.cpu_count(), "machine": platform.machine(), "jax": jax.__version__}
    print(json.dumps({"benchmark": "loader", "machine": machine, "tokens": arguments.tokens, "results": results}))


if __name__ == "__main__":
    main()
