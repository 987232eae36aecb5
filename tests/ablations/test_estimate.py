"""The time that a suite takes, by the first steps of its first run."""

import json
import time
from pathlib import Path

import pytest

from mindllm_jax.ablations.estimate import Speed, speed, told


def rows(first: int, last: int, *, started: float, start: float = 30.0, step: float = 0.5) -> list[dict[str, float]]:
    """Rows of every tenth step, of so many seconds each, after a start."""
    steps = range(first, last + 1, 10)
    return [{"step": n, "time": started + start + (n - first + 10) * step, "loss": 1.0} for n in steps]


@pytest.mark.parametrize("first", [10, 310])
def test_the_start_is_told_from_the_steps(first: int) -> None:
    """Of a fresh run and of one that is resumed, whose earlier rows do not count."""
    earlier = rows(10, 300, started=0.0)
    found = speed(
        [*earlier, {"step": 300, "time": 900.0, "bits_per_byte/zh": 2.0}, *rows(first, first + 20, started=1e4)], 1e4
    )
    assert found == pytest.approx(Speed(30.0, 0.5))
    assert speed([*earlier, *rows(first, first + 10, started=1e4)], 1e4) is None, "ten steps"
    assert Speed(30.0, 0.5).seconds(4, 240) == 4 * 30 + 120


def test_it_is_told_once_while_the_run_goes_on(tmp_path: Path) -> None:
    heard: list[Speed] = []
    with told(tmp_path, heard.append, every=0.01):
        time.sleep(0.05)  # no metrics yet
        lines = rows(10, 60, started=time.time(), start=1.0)
        (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        deadline = time.monotonic() + 10
        while not heard and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.05)
    assert len(heard) == 1 and heard[0].step == pytest.approx(0.5)


def test_a_run_that_ends_before_is_not_told(tmp_path: Path) -> None:
    heard: list[Speed] = []
    with pytest.raises(ValueError, match="diverged"), told(tmp_path, heard.append, every=0.01):
        raise ValueError("diverged")
    assert not heard
