"""Checkpoints through Orbax, with checksums of our own: Orbax does not notice a flipped bit in a data file."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import jax
import orbax.checkpoint as ocp

from mindllm_jax.checks import require_at_least
from mindllm_jax.files import write_text
from mindllm_jax.training.step import Params, TrainState

CHECKSUMS = "checksums.json"


@dataclass(frozen=True)
class Checkpointing:
    """When checkpoints are written and how many are kept."""

    every_steps: int = 200
    keep: int = 2  # the newest; older ones are removed

    def __post_init__(self) -> None:
        require_at_least(self, 1, "every_steps", "keep")


class Checkpoints:
    """The checkpoints of one run, in `workdir/checkpoints/STEP`, written in the background.

    `identity` is stored with each (resolved configuration, seed, tokenizer and data) and held against the stored one on
    restore. A checkpoint appears under its name only when it is complete, checksums included.
    """

    def __init__(self, workdir: Path, settings: Checkpointing, identity: dict[str, Any]):
        self.directory = (workdir / "checkpoints").resolve()
        self.identity = identity
        options = ocp.CheckpointManagerOptions(
            max_to_keep=settings.keep,
            async_options=ocp.AsyncOptions(post_finalization_callback=self._write_checksums),
        )
        self._manager = ocp.CheckpointManager(self.directory, options=options)

    def latest(self) -> int | None:
        """The newest complete step, or None."""
        return self._manager.latest_step()

    def save(self, state: TrainState, step: int) -> None:
        """Starts to write the state; returns once it was copied. Raises OSError when this or the last write failed."""
        if step == self.latest():
            return
        rest = {"step": state.step, "skipped": state.skipped, "optimizer": state.optimizer}
        items = ocp.args.Composite(
            params=ocp.args.StandardSave(state.params),  # pyright: ignore[reportCallIssue]  a dataclass pyright cannot see
            training=ocp.args.StandardSave(rest),  # pyright: ignore[reportCallIssue]
            run=ocp.args.JsonSave(self.identity),  # pyright: ignore[reportCallIssue]
        )
        try:
            self._manager.save(step, args=items)
        except Exception as error:
            raise self._not_saved(error) from error

    def wait(self) -> None:
        """Blocks until everything is on disk. Raises OSError when a write failed."""
        try:
            self._manager.wait_until_finished()
        except Exception as error:
            raise self._not_saved(error) from error

    def restore(self, abstract: TrainState) -> TrainState | None:
        """The newest state placed as `abstract` says (shapes, dtypes, shardings), or None for a new run.

        Raises ValueError when the checkpoint is damaged, of another model, or of other data.
        """
        step = self.latest()
        if step is None:
            return None
        verify(self.directory / str(step))
        stored = read_identity(self.directory / str(step))
        for key in ("tokenizer_sha256", "data"):
            if stored.get(key) != self.identity.get(key):
                raise ValueError(
                    f"checkpoint {self.directory / str(step)}: {key} was {stored.get(key)} and is now "
                    f"{self.identity.get(key)}; use the data and tokenizer of that run, or another --workdir"
                )
        params = restore_params(self.directory / str(step), abstract.params)
        rest = {"step": abstract.step, "skipped": abstract.skipped, "optimizer": abstract.optimizer}
        rest = _restore(self.directory / str(step) / "training", rest)
        return TrainState(rest["step"], rest["skipped"], params, rest["optimizer"])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._manager.close()

    def _write_checksums(self) -> None:
        """Runs in Orbax's thread after the data was written and before the folder takes its final name."""
        if jax.process_index() == 0:
            for folder in self.directory.glob("*.orbax-checkpoint-tmp"):
                write_text(folder / CHECKSUMS, json.dumps(_checksums(folder), indent=1) + "\n")

    def _not_saved(self, error: Exception) -> OSError:
        kept = self.latest()
        return OSError(
            f"the checkpoint could not be written to {self.directory}: {str(error).splitlines()[0]}. "
            f"The newest complete one is {'none' if kept is None else f'step {kept}'}; make room and run it again"
        )


def _checksums(folder: Path) -> dict[str, str]:
    """sha256 of every data file, by its path inside the checkpoint."""
    files = sorted(p for item in ("params", "training", "run") for p in (folder / item).rglob("*") if p.is_file())
    named = ((str(path.relative_to(folder)), path) for path in files if path.name != "commit_success.txt")
    return {name: _sha256(path) for name, path in named}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify(folder: Path) -> None:
    """Holds the files of a checkpoint against its checksums. Raises ValueError that names a damaged or missing file."""
    try:
        expected: dict[str, str] = json.loads((folder / CHECKSUMS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise ValueError(
            f"{folder / CHECKSUMS} is missing or unreadable: the checkpoint was not written whole"
        ) from None
    for name, digest in expected.items():
        path = folder / name
        if not path.is_file() or _sha256(path) != digest:
            what = "is missing" if not path.is_file() else "does not match its checksum"
            raise ValueError(f"{path} {what}: the checkpoint is damaged. Remove {folder} to go on from an older one")


def newest(workdir: Path) -> Path:
    """Folder of the newest checkpoint of a run. Raises FileNotFoundError when there is none."""
    steps = [p for p in (workdir / "checkpoints").glob("*") if p.name.isdigit()]
    if not steps:
        raise FileNotFoundError(f"{workdir} holds no checkpoint; give the --workdir of a finished or interrupted run")
    return max(steps, key=lambda p: int(p.name)).resolve()


def read_identity(folder: Path) -> dict[str, Any]:
    """What was stored beside the arrays: config, seed, tokenizer_sha256, data, step."""
    return json.loads((folder / "run" / "metadata").read_text(encoding="utf-8"))


def restore_params(folder: Path, abstract: Params) -> Params:
    """Parameters of a checkpoint, placed as `abstract` says. Raises ValueError that names one that differs."""
    return _restore(folder / "params", abstract)


def _restore(folder: Path, abstract: Any) -> Any:
    handler: Any = ocp.StandardCheckpointHandler()
    tree = handler.metadata(folder).tree
    stored = {_name(path): leaf.shape for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
    wanted = {_name(path): leaf.shape for path, leaf in jax.tree_util.tree_leaves_with_path(abstract)}
    for name in sorted(set(stored) | set(wanted)):
        there, here = stored.get(name, "nothing"), wanted.get(name, "nothing")
        if there != here:
            raise ValueError(
                f"{folder}: the checkpoint is of another model: {name} is {there} there and {here} here; "
                "give the settings of that run (its operative_config.gin), or another --workdir"
            )
    with ocp.StandardCheckpointer() as reader:
        return reader.restore(folder, abstract)


def _name(path: tuple[Any, ...]) -> str:
    return "/".join(str(getattr(part, "key", getattr(part, "name", getattr(part, "idx", part)))) for part in path)
