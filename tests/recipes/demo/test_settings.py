"""Settings of a demo on text of the user's."""

from pathlib import Path

import pytest

from mindllm_jax.recipes.demo.user_text import write_settings

DEMO = Path("configs/demo/demo.gin")


def test_a_folder_of_the_same_name_is_not_taken_for_the_first(tmp_path: Path) -> None:
    """Both would be the demo `demo-text`, of which all stages are done."""
    write_settings(tmp_path / "a/text", tmp_path / "demo-text", DEMO)
    write_settings(tmp_path / "a/text", tmp_path / "demo-text", DEMO)
    written = (tmp_path / "demo-text/demo.gin").read_text(encoding="utf-8")
    assert f"DemoCorpus.text = '{tmp_path}/a/text'" in written
    with pytest.raises(ValueError, match=r"holds the demo of another folder than .*/b/text"):
        write_settings(tmp_path / "b/text", tmp_path / "demo-text", DEMO)
    assert (tmp_path / "demo-text/demo.gin").read_text(encoding="utf-8") == written
