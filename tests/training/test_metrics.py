"""metrics.jsonl and TensorBoard's events, and what happens where they cannot be written."""

from __future__ import annotations

import json
import logging
import math
import re
from pathlib import Path

import pytest

from mindllm_jax.training.metrics import MetricsWriter
from mindllm_jax.training.throughput import Throughput


def rows(workdir: Path) -> list[dict[str, float]]:
    def refuse(name: str) -> float:
        raise ValueError(f"{name} is no JSON")

    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line, parse_constant=refuse) for line in lines]


def test_numbers_that_are_not_finite_are_null(tmp_path: Path) -> None:
    with MetricsWriter(tmp_path, 0) as writer:
        writer.write(1, {"loss": math.nan, "norm": math.inf, "rate": 2.5})
    (row,) = rows(tmp_path)
    assert (row["loss"], row["norm"], row["rate"]) == (None, None, 2.5)


def test_lines_after_the_latest_checkpoint_are_written_anew(tmp_path: Path) -> None:
    with MetricsWriter(tmp_path, 0) as writer:
        for step in (1, 2, 3):
            writer.write(step, {"loss": 1.0})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')  # killed here
    with MetricsWriter(tmp_path, 2) as writer:
        writer.write(3, {"loss": 9.0})
    assert [(row["step"], row["loss"]) for row in rows(tmp_path)] == [(1, 1.0), (2, 1.0), (3, 9.0)]


def test_tensorboard_reads_the_events(tmp_path: Path) -> None:
    from tensorboardX.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]

    with MetricsWriter(tmp_path, 4) as writer:
        writer.write(5, {"loss": 0.5})
        (path,) = (tmp_path / "tensorboard").iterdir()
        content, events = path.read_bytes(), []
    while content:  # length (8), its checksum (4), the event, its checksum (4)
        length = int.from_bytes(content[:8], "little")
        events.append(Event.FromString(content[12 : 12 + length]))
        content = content[16 + length :]
    assert [event.step for event in events] == [0, 5, 5]
    assert [(value.tag, value.simple_value) for value in events[2].summary.value] == [("loss", 0.5)]


@pytest.mark.parametrize("name", ["gs:run", "s3:run"])
def test_a_folder_named_like_a_bucket_is_a_folder(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with MetricsWriter(Path(name), 0) as writer:
        writer.write(1, {"loss": 1.0})
    assert len([*(tmp_path / name / "tensorboard").iterdir()]) == 1


def test_tensorboard_s_failures_only_warn(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "tensorboard").write_text("a file in the way")
    with caplog.at_level(logging.WARNING), MetricsWriter(tmp_path, 0) as writer:
        writer.write(1, {"loss": 1.0})
    assert "no more TensorBoard events are written" in caplog.text and len(rows(tmp_path)) == 1


@pytest.mark.parametrize("line", [b'{"loss": 2}', b"[1, {}]", b'{"step": "\xff"}', b'{"step": "3"}'])
def test_a_damaged_line_is_named_before_anything_is_written(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "metrics.jsonl"
    content = b'{"step": 1}\n' + line.removesuffix(b"}") + b"}\n"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(f"{path}, line 2") + ".*: damaged: .*; remove the line"):
        MetricsWriter(tmp_path, 5)
    assert path.read_bytes() == content


def test_the_rate_leaves_out_what_is_between_steps() -> None:
    now = 0.0
    throughput = Throughput(lambda: now)
    for _ in range(4):
        now += 0.5
        throughput.step()
    with throughput.paused():
        assert throughput.rate() == 2.0
        now += 100.0
    now += 0.25
    throughput.step()
    with throughput.paused():
        now += 100.0
    now += 0.25
    throughput.step()
    assert throughput.rate() == 4.0
