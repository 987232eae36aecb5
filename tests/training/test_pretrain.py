"""What a pre-training run records of its store, and what it asks of it when it resumes."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest

from mindllm_jax.mixture.settings import Mixture
from mindllm_jax.model.config import Model
from mindllm_jax.store.store import TokenStore
from mindllm_jax.store.writer import SourceDocuments, build_store
from mindllm_jax.text.documents import Document
from mindllm_jax.training.checkpoint import latest_checkpoint, read_identity, steps_of
from mindllm_jax.training.position import require_same_identity
from mindllm_jax.training.pretrain import Pretrain, pretrain
from mindllm_jax.training.run_spec import Loop

MODEL = Model(1000, layers=1, width=16, heads=1, head_dim=16, mlp_dim=32, max_seq_len=32, compute_dtype="float32")


def add_source(store: Path, name: str, language: str) -> None:
    texts = [Document(f"{name} {n}: the river was {n * 3} miles long.\n", name, language, f"{n}") for n in range(40)]
    build_store(
        str(store), [SourceDocuments(name, language, {}, lambda: texts)], TokenStore.open(store).tokenizer, held_out=0.1
    )


def run(store: Path, workdir: Path, steps: int, **mixture: Any) -> None:
    data = Mixture(str(store), {"zh": 1, "en": 1}, sequence_length=32, **mixture)
    pretrain(Pretrain(data, MODEL, loop=Loop(steps=steps, log_every=1)), TokenStore.open(store), workdir)


@pytest.fixture
def grown(store: Path, tmp_path: Path) -> Path:
    """A copy of the store, to add sources to."""
    return Path(shutil.copytree(store, tmp_path / "store"))


def test_a_source_that_the_mixture_does_not_read_may_be_added(grown: Path, tmp_path: Path) -> None:
    workdir = tmp_path / "run"
    run(grown, workdir, 1)
    add_source(grown, "scripts", "code")
    run(grown, workdir, 2)
    assert read_identity(latest_checkpoint(workdir))["data"].keys() == {"laws", "wiki"}
    stages = ({"name": "text", "share": 2}, {"name": "with code", "share": 1, "weights": {"code": 1}})
    run(grown, workdir, 3, stages=stages)
    assert steps_of(workdir) == [2, 3]
    assert read_identity(latest_checkpoint(workdir))["data"].keys() == {"laws", "wiki", "scripts"}


def test_a_source_that_changes_the_rows_read_so_far_is_refused_by_name(grown: Path, tmp_path: Path) -> None:
    workdir = tmp_path / "run"
    run(grown, workdir, 1)
    add_source(grown, "novels", "en")
    with pytest.raises(
        ValueError, match=r"8 rows read so far would have been other rows.*\n  data\.novels: not read before\n"
    ):
        run(grown, workdir, 2)


def test_the_sources_of_the_base_alone_are_compared_by_those_that_both_read() -> None:
    def tuned(*sources: str, lengths: dict[str, Any], other: str = "en") -> dict[str, Any]:
        facts = {name: {"language": other if name == "wiki" else "zh"} for name in sources}
        return {"data": {"lengths": lengths, "replay": {"sources": facts}}, "base": {"data": facts, "seed": 0}}

    before = tuned("wiki", "laws", lengths={})
    require_same_identity(before, tuned("wiki", lengths={}), "step 1")
    require_same_identity(tuned("wiki", lengths={}), before, "step 1")
    for changed in (tuned("wiki", lengths={"chats": [8]}), tuned("wiki", lengths={}, other="zh")):
        for pair in ((before, changed), (changed, before)):
            with pytest.raises(ValueError, match="step 1: the checkpoint does not match this run"):
                require_same_identity(*pair, "step 1")


def test_a_source_with_other_content_is_refused(grown: Path, tmp_path: Path) -> None:
    workdir = tmp_path / "run"
    run(grown, workdir, 1)
    store = TokenStore.open(grown)
    store.manifest.sources["wiki"] = dataclasses.replace(store.sources["wiki"], language="zh")
    with pytest.raises(ValueError, match=r"does not match this run:\n  data\.wiki\.language: was 'en', is now 'zh'\n"):
        pretrain(
            Pretrain(Mixture(str(grown), {"zh": 1}, sequence_length=32), MODEL, loop=Loop(steps=2)), store, workdir
        )
