"""Measures time and memory of every pipeline stage, from raw files to documents, with one worker."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

from mindllm_jax.corpus.executors import run_stages
from mindllm_jax.corpus.pipeline import stages
from mindllm_jax.corpus.reading.files import raw_files
from mindllm_jax.corpus.settings import CleanCorpus, Decontamination, Executor
from mindllm_jax.text.documents import document_files
from mindllm_jax.text.json_lines import lines

STATUS = Path("/proc/self/status")


class Measured(NamedTuple):
    """A stage with all of its tasks in one process, one after the other: processor seconds and peak memory in MB."""

    stage: str
    tasks: int
    seconds: float
    megabytes: float


def end_to_end(folders: Iterable[Path], benchmarks: Path | None, output: Path) -> Iterator[Measured]:
    """Runs the pipeline over raw files, each stage in a separate process. Raises OSError on systems without /proc."""
    config = CleanCorpus(
        inputs=tuple(map(str, folders)),
        output=str(output),
        decontamination=Decontamination(str(benchmarks or "")),
        keep_dropped=False,
        executor=Executor(workers=1),
    )
    for number, stage in enumerate(stages(config, raw_files(config.inputs))):
        # Spawned: a forked process has its parent's memory.
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            seconds, megabytes = pool.submit(_run, config, number).result()
        yield Measured(stage.name, stage.tasks, seconds, megabytes)


def joined(folders: Iterable[Path], output: Path) -> list[Path]:
    """Writes a folder per given folder, with all of its files in one shard; returns the new folders."""
    new_folders = []
    for folder in folders:
        shard = output / folder.name / "all.jsonl"
        shard.parent.mkdir(parents=True)
        with open(shard, "wb") as file:
            file.writelines(line.rstrip() + b"\n" for path in document_files(folder) for _, line in lines(path))
        new_folders.append(shard.parent)
    return new_folders


def _run(config: CleanCorpus, number: int) -> tuple[float, float]:
    stage = stages(config, raw_files(config.inputs))[number]
    start = time.process_time()
    run_stages([stage], Path(config.output) / f"logs/{number:02d}", config.executor)
    seconds = time.process_time() - start
    peak = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))
    return seconds, int(peak.split()[1]) * 1024 / 1e6
