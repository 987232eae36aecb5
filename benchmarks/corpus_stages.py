"""Every stage of the pipeline that cleans text, from raw files to documents: its time and memory with one worker."""

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
    """A stage, all of its tasks one after the other in one process: seconds of it, and its peak memory in MB."""

    stage: str
    tasks: int
    seconds: float
    megabytes: float


def end_to_end(folders: Iterable[Path], benchmarks: Path | None, output: Path) -> Iterator[Measured]:
    """Runs the pipeline over raw files, each stage in a process of its own. Raises OSError where there is no /proc."""
    config = CleanCorpus(
        inputs=tuple(map(str, folders)),
        output=str(output),
        decontamination=Decontamination(str(benchmarks or "")),
        keep_dropped=False,
        executor=Executor(workers=1),
    )
    for number, stage in enumerate(stages(config, raw_files(config.inputs))):
        # A process started anew: one that is forked has its parent's memory.
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            seconds, megabytes = pool.submit(_run, config, number).result()
        yield Measured(stage.name, stage.tasks, seconds, megabytes)


def joined(folders: Iterable[Path], output: Path) -> list[Path]:
    """A folder for each of those given, with one shard of all of its files."""
    made = []
    for folder in folders:
        shard = output / folder.name / "all.jsonl"
        shard.parent.mkdir(parents=True)
        with open(shard, "wb") as file:
            file.writelines(line.rstrip() + b"\n" for path in document_files(folder) for _, line in lines(path))
        made.append(shard.parent)
    return made


def _run(config: CleanCorpus, number: int) -> tuple[float, float]:
    stage = stages(config, raw_files(config.inputs))[number]
    start = time.process_time()
    run_stages([stage], Path(config.output) / f"logs/{number:02d}", config.executor)
    seconds = time.process_time() - start
    peak = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))
    return seconds, int(peak.split()[1]) * 1024 / 1e6
