"""Runs the stages of a pipeline on this machine, on Slurm or on Ray, with the same result."""

from __future__ import annotations

import errno
import os
import resource
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from mindllm_jax.corpus.settings import Executor

_OPEN_FILES = 10_240  # where the system states no limit; macOS refuses more


class PipelineStage(NamedTuple):
    """A pipeline of datatrove steps that runs for each of `tasks` shards.

    With `model`, a local task has the machine to itself, and one on Slurm or Ray has `Executor.gpus`.
    """

    name: str
    steps: list[Any]
    tasks: int
    model: bool = False


def run_stages(stages: list[PipelineStage], logs: Path, executor: Executor) -> bool:
    """Runs the stages one after the other, or submits them to Slurm.

    Each writes statistics, logs and marks of finished tasks to `logs/NUMBER_NAME`. The limit on open files of this
    process and its workers becomes the largest that the system allows: a stage may open one per shard or source.

    Returns whether all stages are finished: False if they were submitted.
    """
    _raise_limit_of_open_files()
    if executor.kind == "slurm":
        return _submit(stages, logs, executor)
    import multiprocess

    # datatrove forks a process per stage, and after a model has run no fork is safe.
    multiprocess.set_start_method("forkserver", force=True)  # pyright: ignore[reportAttributeAccessIssue]  made at import
    with _redirect_stderr(logs / "datatrove.log") as console, Progress(
        TextColumn("{task.description:<12}"), BarColumn(), TextColumn("{task.completed}/{task.total}"),
        TimeElapsedColumn(), console=console,
    ) as progress:  # fmt: skip
        for number, stage in enumerate(stages):
            run = _make_executor(stage, stage_folder(logs, number, stage), executor)
            bar = progress.add_task(stage.name, total=stage.tasks)
            with _poll_progress(run, lambda done, bar=bar: progress.update(bar, completed=done)):
                try:
                    run.run()
                except RuntimeError as error:
                    if "No files found" not in str(error):
                        raise
                    raise ValueError(
                        f"no document is left for the stage {stage.name!r}: all were dropped (see"
                        f" {logs.parent}/dropped) or could not be read (see 'left out' in {logs}/datatrove.log)"
                    ) from None
                except OSError as error:
                    if error.errno is None or (error.filename is not None and error.errno != errno.EMFILE):
                        raise
                    remedy = "; join small files, or raise the limit (ulimit -n)" * (error.errno == errno.EMFILE)
                    raise OSError(
                        error.errno,
                        f"{error.strerror}, in the stage {stage.name!r}, which reads and writes below"
                        f" {logs.parent}{remedy}. Run the same command again to resume",
                    ) from error
            # Ray does not raise where tasks failed.
            if failed := run.get_incomplete_ranks(skip_completed=True):
                raise ChildProcessError(
                    f"{len(failed)} of {stage.tasks} tasks of {stage.name!r} failed, the first is {failed[0]};"
                    f" its log is in {stage_folder(logs, number, stage)}/logs. Run the same command again to resume"
                )
    return True


def stage_folder(logs: Path, number: int, stage: PipelineStage) -> Path:
    """Returns the folder of a stage's statistics and marks."""
    return logs / f"{number:02d}_{stage.name.replace(' ', '_')}"


def _make_executor(stage: PipelineStage, folder: Path, executor: Executor) -> Any:
    if executor.kind == "ray":
        from datatrove.executor.ray import RayPipelineExecutor

        return RayPipelineExecutor(
            stage.steps,
            tasks=stage.tasks,
            workers=executor.workers or -1,
            logging_dir=str(folder),
            mem_per_cpu_gb=executor.memory_gb,
            gpus_per_task=executor.gpus if stage.model else 0,
        )
    from mindllm_jax.corpus.local_executor import LocalExecutor

    return LocalExecutor(
        stage.steps,
        tasks=stage.tasks,
        workers=1 if stage.model else min(executor.workers or os.cpu_count() or 1, stage.tasks),
        logging_dir=str(folder),
    )


def _submit(stages: list[PipelineStage], logs: Path, executor: Executor) -> bool:
    from datatrove.executor.slurm import SlurmPipelineExecutor

    last = None
    for number, stage in enumerate(stages):
        last = SlurmPipelineExecutor(
            stage.steps,
            tasks=stage.tasks,
            time=executor.time_limit,
            partition=executor.partition,
            mem_per_cpu_gb=executor.memory_gb,
            gpus_per_task=executor.gpus if stage.model else 0,
            workers=executor.workers or -1,
            job_name=stage.name.replace(" ", "_"),
            qos="",
            env_command=executor.setup_command,
            sbatch_args=dict(executor.sbatch),
            depends=last,
            logging_dir=str(stage_folder(logs, number, stage)),
        )
    if last is None or not unfinished(stages, logs):
        return True
    last.run()
    return False


def unfinished(stages: list[PipelineStage], logs: Path) -> bool:
    """Returns whether a task of these stages has still to run."""
    return any(
        not is_finished(logs, number, stage, rank) for number, stage in enumerate(stages) for rank in range(stage.tasks)
    )


def is_finished(logs: Path, number: int, stage: PipelineStage, rank: int) -> bool:
    """Returns whether a task of the stage of a number is finished."""
    return (stage_folder(logs, number, stage) / f"completions/{rank:05d}").exists()


@contextmanager
def _poll_progress(run: Any, report: Any) -> Iterator[None]:
    """Reports every second how many tasks are done."""
    finished = threading.Event()

    def done() -> int:
        return run.world_size - len(run.get_incomplete_ranks(skip_completed=True))

    def poll() -> None:
        while not finished.wait(1):
            report(done())

    thread = threading.Thread(target=poll, daemon=True)
    thread.start()
    try:
        yield
    finally:
        finished.set()
        thread.join()
        report(done())


@contextmanager
def _redirect_stderr(log: Path) -> Iterator[Console]:
    """Redirects standard error of datatrove's processes to a file; yields a console on the terminal.

    Their loggers are configured anew in each process and always write to standard error.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stderr.flush()
    terminal = os.dup(2)
    with open(log, "ab") as file, os.fdopen(terminal, "w", closefd=False) as stream:
        os.dup2(file.fileno(), 2)
        try:
            yield Console(file=stream)
        finally:
            sys.stderr.flush()
            os.dup2(terminal, 2)
            os.close(terminal)


def _raise_limit_of_open_files() -> None:
    limit, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if most == resource.RLIM_INFINITY else most
    if limit != resource.RLIM_INFINITY and limit < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
