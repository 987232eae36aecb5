"""The file of a run's metrics."""

import re
from pathlib import Path

import pytest

from mindllm_jax.training.metrics import MetricsWriter


@pytest.mark.parametrize("line", [b'{"loss": 2}', b"[1, {}]", b'{"step": "\xff"}', b'{"step": "3"}'])
def test_a_damaged_line_is_told_with_its_file_before_anything_is_written(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "metrics.jsonl"
    content = b'{"step": 1}\n' + line.removesuffix(b"}") + b"}\n"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(f"{path}: damaged: ")):
        MetricsWriter(tmp_path, 5)
    assert path.read_bytes() == content
