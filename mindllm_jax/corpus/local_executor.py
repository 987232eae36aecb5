"""Runs the tasks of a stage in processes of this machine."""

from __future__ import annotations

import multiprocessing
import pickle
import signal
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.process import BaseProcess

from datatrove.executor.local import LocalPipelineExecutor
from datatrove.utils.stats import PipelineStats

from mindllm_jax.process import exit_with_parent


class LocalExecutor(LocalPipelineExecutor):
    """datatrove's, but for a worker that is killed: its pool would wait for it for ever."""

    def run(self) -> PipelineStats | None:
        """Runs the tasks that are not finished.

        Raises what a task raises, and ChildProcessError where the kernel kills a worker, as for want of memory, or one
        cannot start.
        """
        import dill

        ranks = self.get_incomplete_ranks()
        if self.workers == 1 or not ranks:
            return super().run()
        self.save_executor_as_json()
        stage, stats = dill.dumps(self), PipelineStats()
        others, workers = set(multiprocessing.active_children()), set[BaseProcess]()
        # A fork is not safe after a model has run.
        context = multiprocessing.get_context("forkserver")
        with ProcessPoolExecutor(self.workers, context, initializer=exit_with_parent) as pool:
            try:
                tasks = [pool.submit(_run, stage, rank) for rank in ranks]
                workers = set(multiprocessing.active_children()) - others
                for task in as_completed(tasks):
                    stats += dill.loads(task.result())
            except BrokenProcessPool:
                raise ChildProcessError(_why_broken(workers)) from None
            finally:
                pool.shutdown(wait=False, cancel_futures=True)
                for worker in workers:
                    worker.kill()  # an error or an interruption does not wait for the other tasks
        with self.logging_dir.open("stats.json", "wt") as file:
            stats.save_to_disk(file)
        return stats


def _why_broken(workers: Iterable[BaseProcess]) -> str:
    ends: list[int] = []
    for worker in workers:
        worker.join(1)
        ends.append(worker.exitcode or 0)
    if any(end < 0 and end != -signal.SIGTERM for end in ends):  # by which the pool ends the others
        return (
            "a worker was killed, for want of memory perhaps: set Executor.workers lower, or split the largest file,"
            " and run the same command again to resume"
        )
    return (
        "a worker could not start: the end of logs/datatrove.log says why. A script of yours needs"
        ' `if __name__ == "__main__":` around its calls'
    )


def _run(stage: bytes, rank: int) -> bytes:
    import dill

    executor = dill.loads(stage)
    try:
        return dill.dumps(executor._run_for_rank(rank, rank % executor.workers))
    except ValueError as error:  # errors of our own may have arguments that do not come back
        raise ValueError(str(error)) from None
    except Exception as error:
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:
            raise RuntimeError(f"{type(error).__name__}: {error}") from None
        raise
