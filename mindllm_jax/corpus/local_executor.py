"""Runs the tasks of a stage in processes of this machine."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool

from datatrove.executor.local import LocalPipelineExecutor
from datatrove.utils.stats import PipelineStats


class LocalExecutor(LocalPipelineExecutor):
    """datatrove's, but for a worker that is killed: its pool would wait for it for ever."""

    def run(self) -> PipelineStats | None:
        """Runs the tasks that are not finished.

        Raises what a task raises, and ChildProcessError where the kernel kills a worker, as for want of memory.
        """
        import dill

        ranks = self.get_incomplete_ranks()
        if self.workers == 1 or not ranks:
            return super().run()
        self.save_executor_as_json()
        stage, stats = dill.dumps(self), PipelineStats()
        others = multiprocessing.active_children()
        # A fork is not safe after a model has run.
        with ProcessPoolExecutor(self.workers, multiprocessing.get_context("forkserver")) as pool:
            try:
                for task in as_completed([pool.submit(_run, stage, rank) for rank in ranks]):
                    stats += dill.loads(task.result())
            except BrokenProcessPool:
                raise ChildProcessError(
                    "a worker was killed, for want of memory perhaps: set Executor.workers lower, or split the largest"
                    " file, and run the same command again to resume"
                ) from None
            finally:
                pool.shutdown(wait=False, cancel_futures=True)
                # An error or an interruption does not wait for the other tasks.
                for worker in set(multiprocessing.active_children()) - set(others):
                    worker.kill()
        with self.logging_dir.open("stats.json", "wt") as file:
            stats.save_to_disk(file)
        return stats


def _run(stage: bytes, rank: int) -> bytes:
    import dill

    executor = dill.loads(stage)
    try:
        return dill.dumps(executor._run_for_rank(rank, rank % executor.workers))
    except ValueError as error:  # errors of our own may have arguments that do not come back
        raise ValueError(str(error)) from None
