"""Asynchronous and atomic checkpoints through Orbax, with checksums."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import jax
import orbax.checkpoint as ocp

from mindllm_jax.checks import require_at_least
from mindllm_jax.files import read_json, write_text
from mindllm_jax.parallel.together import from_first, together
from mindllm_jax.training.checksums import verify, write_checksums
from mindllm_jax.training.position import Position, require_same_identity
from mindllm_jax.training.state import Params, TrainState

log = logging.getLogger(__name__)

SAVED = "latest_checkpoint.json"
"""Holds the step of the latest checkpoint, so that a run whose checkpoints were deleted does not start over."""


@dataclass(frozen=True)
class Checkpointing:
    """The interval of checkpoints, and how many are kept."""

    every_steps: int = 200  # another one is written before each evaluation and at the end
    keep: int = 2  # the latest; older ones are removed

    def __post_init__(self) -> None:
        require_at_least(self, 1, "every_steps", "keep")


class Restored(NamedTuple):
    """The contents of the checkpoint from which a run resumes."""

    state: TrainState  # without frozen parameters, which a checkpoint does not hold
    position: Position
    identity: dict[str, Any]  # as `read_identity` returns it
    folder: Path


class Checkpoints:
    """The checkpoints of one run, in `workdir/checkpoints/STEP`.

    `identity` (resolved configuration, seed, tokenizer and data) is stored with each, and compared on restore. A
    checkpoint gets its name when it is complete, checksums included.

    Raises ValueError for a workdir whose path Orbax would take for a pattern.
    """

    def __init__(self, workdir: Path, settings: Checkpointing, identity: dict[str, Any]):
        self.directory = (workdir / "checkpoints").absolute()
        self.identity = identity
        self._workdir, self._settings = workdir, settings
        self._manager: ocp.CheckpointManager | None = None
        self._writing: tuple[int, dict[str, Any]] | None = None  # the step, and the shapes expected on disk
        # Orbax merges the files of its processes through a glob of the unescaped path, and merges none if that fails.
        if odd := sorted(set("*?[]\\").intersection(str(self.directory))):
            raise ValueError(
                f"--workdir {workdir}: the path {self.directory.parent} contains {' '.join(odd)}, which Orbax takes "
                "for a pattern, so that its checkpoints could not be read: use another name, or a link whose path has "
                "none of * ? [ ] \\"
            )

    def latest(self) -> int | None:
        """Returns the step of the latest complete checkpoint, or None."""
        return max(steps_of(self._workdir), default=None)

    def restore(self, abstract: TrainState) -> Restored | None:
        """Returns the latest state with the shapes, dtypes and shardings of `abstract`, or None for a new run.

        Raises ValueError when the checkpoint is damaged, imported, of another model or of other data, and when the
        run's checkpoints are missing.
        """
        # As process 0 sees the folder: on a network file system another host may lag for a moment.
        latest = together(self.latest)
        step = from_first("" if latest is None else str(latest))
        if not step:
            together(self._require_new)
            return None
        folder = self.directory / step
        if step == "0":
            raise ValueError(
                f"{folder} holds imported weights, from which no run resumes: take another --workdir, or tune them "
                f"(Tune.base = '{self._workdir}')"
            )
        verify(folder)
        identity = read_identity(folder)
        require_same_identity(identity, self.identity, str(folder))
        params = restore_params(folder, abstract.params)
        rest = _restore(folder / "training", _without_params(abstract))
        return Restored(
            TrainState(params=params, frozen={}, **rest), Position(**identity["position"]), identity, folder
        )

    def start(self) -> None:
        """Opens Orbax's manager and removes temporary folders of interrupted saves."""
        if jax.process_index() == 0:  # Orbax would remove them later, when a full disk has ended the run
            for left in self.directory.glob("*.orbax-checkpoint-tmp*"):
                shutil.rmtree(left, ignore_errors=True)
        options = ocp.CheckpointManagerOptions(
            max_to_keep=self._settings.keep,
            # A thread would wait five minutes for a folder that cannot be created.
            async_options=ocp.AsyncOptions(
                post_finalization_callback=self._seal, create_directories_asynchronously=False
            ),
        )
        try:
            self._manager = ocp.CheckpointManager(self.directory, options=options)
        except Exception as error:
            raise self._not_saved(error) from error

    def save(self, state: TrainState, position: Position, fingerprint: str) -> None:
        """Starts to write the state; returns once it is copied.

        If the last write failed, that is logged, and this state is on disk before the return. Raises OSError when this
        write cannot begin, or is the second that fails in a row.
        """
        assert self._manager is not None, "start() comes first"
        step = int(state.step)
        record = {**self.identity, "step": step, "position": position._asdict(), "fingerprint": fingerprint}
        items = ocp.args.Composite(
            params=ocp.args.StandardSave(state.params),  # pyright: ignore[reportCallIssue]  a dataclass pyright cannot see
            training=ocp.args.StandardSave(_without_params(state)),  # pyright: ignore[reportCallIssue]
            run=ocp.args.JsonSave(record),  # pyright: ignore[reportCallIssue]
        )
        if failure := self._finish():
            log.warning("a checkpoint could not be written: %s; step %d is written instead", _reason(failure), step)
        self._writing = step, _shapes(state.params)
        try:
            if not self._manager.save(step, args=items):
                raise OSError(f"Orbax refused to save step {step} after step {self._manager.latest_step()}")
        except Exception as error:
            self._discard(step)
            raise self._not_saved(error) from error
        if failure:
            self.wait()

    def wait(self) -> None:
        """Blocks until everything is on disk. Raises OSError when the last write failed."""
        if error := self._finish():
            raise self._not_saved(error) from error

    def _finish(self) -> Exception | None:
        """Blocks until the last write has ended; returns its error, with what it left on the disk removed."""
        assert self._manager is not None, "start() comes first"
        try:
            self._manager.wait_until_finished()
        except Exception as error:
            if self._writing is not None:
                self._discard(self._writing[0])
            self._manager.reload()  # its list no longer has the checkpoint that this one would have replaced
            return error
        if self._writing is not None and jax.process_index() == 0:
            try:
                write_text(self._workdir / SAVED, json.dumps({"step": self._writing[0]}) + "\n")
            except OSError as error:  # the checkpoint itself exists
                log.warning("%s cannot be written: %s", self._workdir / SAVED, error.strerror)
        self._writing = None
        return None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._manager is None:
            return
        # The error that ended the run is raised; one of the last write after it is suppressed.
        with contextlib.suppress(Exception) if error else contextlib.nullcontext():
            self._manager.close()

    def _seal(self) -> None:
        """Runs in Orbax's thread, in process 0, after the data is written and before the folder gets its name."""
        assert self._writing is not None
        step, shapes = self._writing
        folder = self._temporary(step)
        if _stored_shapes(folder / "params") != shapes:
            raise OSError(f"{folder} is incomplete: its shapes are not those of the parameters")
        write_checksums(folder)

    def _discard(self, step: int) -> None:
        """Removes what a failed write left, which may be all that fills the disk."""
        if jax.process_index() == 0:
            shutil.rmtree(self._temporary(step), ignore_errors=True)

    def _temporary(self, step: int) -> Path:
        return self.directory / f"{step}.orbax-checkpoint-tmp"

    def _require_new(self) -> None:
        path = self._workdir / SAVED
        if path.is_file():
            raise ValueError(
                f"{path} records a checkpoint of this run, but {self.directory} has none: put it back, or remove "
                f"{path} to start the run from the beginning"
            )

    def _not_saved(self, error: BaseException) -> OSError:
        kept = None
        with contextlib.suppress(ValueError):  # a folder with an odd name
            kept = self.latest()
        advice = "free some space and rerun" if _is_out_of_space(error) else "fix the cause and rerun"
        return OSError(
            f"the checkpoint could not be written to {self.directory}: {_reason(error)}. "
            f"The latest complete one is {'none' if kept is None else f'step {kept}'}; {advice}"
        )


def steps_of(run: Path) -> list[int]:
    """Returns the steps of a run's complete checkpoints, in order.

    Raises ValueError for a folder of digits that is not named as the checkpoint of its step.
    """
    steps = []
    for path in _folders(run / "checkpoints"):
        if path.name.isascii() and path.name.isdecimal():
            if path.name != str(int(path.name)):
                raise ValueError(f"{path}: a checkpoint of that step is named {int(path.name)}; rename or move it")
            steps.append(int(path.name))
    return sorted(steps)


def _folders(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        yield from (path for path in folder.iterdir() if path.is_dir())


def latest_checkpoint(run: Path) -> Path:
    """Returns the folder of the latest checkpoint of a run. Raises FileNotFoundError when there is none."""
    steps = steps_of(run)
    if not steps:
        raise FileNotFoundError(f"{run} holds no checkpoint; give the --workdir of a finished or interrupted run")
    return (run / "checkpoints" / str(steps[-1])).absolute()


def read_identity(folder: Path) -> dict[str, Any]:
    """Returns the metadata of a checkpoint: settings, seed, tokenizer_sha256, data, step, position, fingerprint.

    Raises ValueError when it is damaged, or when its step is not the folder's name.
    """
    path = folder / "run" / "metadata"
    identity = read_json(path)
    step, position = identity.get("step"), identity.get("position")
    has_position = isinstance(position, dict) and {*position} == {*Position._fields}
    if not has_position or not {"step", "fingerprint"} <= identity.keys():
        raise ValueError(f"{path}: the checkpoint is damaged, or of another version of this program")
    if folder.name != str(step):
        raise ValueError(f"{folder} contains the checkpoint of step {step}: name it {step}, or move it away")
    return identity


def restore_params(folder: Path, abstract: Params) -> Params:
    """Returns the parameters of a checkpoint, sharded as `abstract`. Raises ValueError that names a difference."""
    return _restore(folder / "params", abstract)


def _without_params(state: TrainState) -> dict[str, Any]:
    return {name: value for name, value in state._asdict().items() if name not in ("params", "frozen")}


def _restore(folder: Path, abstract: Any) -> Any:
    stored, requested = _stored_shapes(folder), _shapes(abstract)
    for name in sorted(set(stored) | set(requested)):
        shapes = stored.get(name, "missing"), requested.get(name, "missing")
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"{folder}: the checkpoint is of another model: {name} is {shapes[0]} in it and {shapes[1]} in this "
                "run; use the settings of that run (its operative_config.gin), or another --workdir"
            )
    with ocp.StandardCheckpointer() as reader:
        return reader.restore(folder, abstract)


def _stored_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    handler: Any = ocp.StandardCheckpointHandler()
    return _shapes(handler.metadata(folder).tree)


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): tuple(leaf.shape)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def _reason(error: BaseException) -> str:
    """Returns the first line of an error, without the specification that TensorStore adds."""
    return str(error).partition("\n")[0].partition(" [tensorstore_spec=")[0] or type(error).__name__


def _is_out_of_space(error: BaseException | None) -> bool:
    while error is not None:
        number = error.errno if isinstance(error, OSError) else None
        if number in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error) or "quota" in str(error).lower():
            return True
        error = error.__cause__ or error.__context__
    return False
