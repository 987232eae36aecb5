"""Checks of settings; every number and path of the settings has one."""

import dataclasses
import math
import re
import subprocess
import sys
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mindllm_jax.checks import local_path, require_at_least, require_local, require_seed
from mindllm_jax.configuration import schema
from mindllm_jax.configuration.bindings import known_roots

ROOT = Path(__file__).parents[2]
REQUIRED: dict[str, Any] = {
    "inputs": ("a",),
    "output": "a.model",
    "runs": {"a": "a", "b": "b"},
    "prompts": ("a",),
}  # of a setting that cannot be any text
SIGNED = {("Selection", "minimum"), ("Selection", "maximum")}  # bounds of scores, which may be negative
MAY_BE_URLS = {("PrepareData", "store"), ("Mixture", "store"), ("Evaluate", "store"), ("CleanCorpus", "inputs")}
PATHS = {
    *(("TrainTokenizer", name) for name in ("inputs", "output", "gpt2_files")),
    *(("PrepareData", name) for name in ("inputs", "corpus", "tokenizer")),
    *(("CleanCorpus", name) for name in ("output", "lexicon")),
    *(("DemoCorpus", name) for name in ("directory", "text")),
    *(("Convert", name) for name in ("source", "run", "check", "tokenizer", "adapters", "base", "output", "check_on")),
    *(("Instructions", name) for name in ("inputs", "held_out_inputs")),
    *(("Evaluate", name) for name in ("run", "data", "against")),
    *(("SelectInstructions", name) for name in ("run", "inputs", "tuned", "scores")),
    *(("PrepareInstructions", name) for name in ("inputs", "output", "rationales")),
    ("PrepareBenchmarks", "source"),
    ("TaskSuite", "data"),
    *(("Scoring", name) for name in ("run", "output")),
    *(
        ("Decontamination", "benchmarks"),
        ("Tune", "base"),
        ("Classify", "run"),
        ("Labels", "inputs"),
        ("RankAnswers", "runs"),
        ("RankAnswers", "prompts"),
        ("Judge", "run"),
        ("Judge", "file"),
        ("Chat", "run"),
        ("Serve", "run"),
    ),
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """A dataclass like those of the entry points."""

    count: int | None = 1
    seed: int = 0
    folder: str = ""
    files: tuple[str, ...] = ()


def classes() -> dict[str, type]:
    """Returns every dataclass of settings by name."""
    return {name: cls for root in known_roots() for name, cls in schema.classes(root).items()}


def build(cls: type, **changed: Any) -> Any:
    """Builds the dataclass from defaults, stand-ins for required fields, and these fields."""
    hints = schema.hints(cls)
    for field in dataclasses.fields(cls):
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            nested = isinstance(hints[field.name], type) and dataclasses.is_dataclass(hints[field.name])
            changed.setdefault(field.name, build(hints[field.name]) if nested else REQUIRED.get(field.name, "a"))
    if cls.__name__ == "PrepareData" and "corpus" not in changed:
        changed.setdefault("inputs", ("a",))
    if cls.__name__ == "Scoring":
        changed.setdefault("output", "a")
    if cls.__name__ == "Judge":
        changed.setdefault("model", "a")
    return cls(**changed)


def numbers() -> Iterator[tuple[type, str, bool]]:
    """Yields dataclass, field, and whether the field may have a fraction."""
    for cls in classes().values():
        for name, hint in schema.hints(cls).items():
            kinds = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
            if int in kinds or float in kinds:
                yield cls, name, float in kinds


def test_every_number_of_the_settings_has_a_range() -> None:
    takes = []
    for cls, name, fraction in numbers():
        for value in (-5, math.nan) if fraction else (-5,):
            if value == -5 and (cls.__name__, name) in SIGNED:
                continue
            try:
                build(cls, **{name: value})
                takes.append(f"{cls.__name__}.{name} = {value}")
            except ValueError as error:
                assert cls.__name__ in str(error)  # noqa: PT017  the others have to be tried too
    assert not takes


def test_every_seed_has_a_range() -> None:
    seeds = [cls for cls, name, _ in numbers() if name == "seed"]
    assert len(seeds) >= 8
    for cls in seeds:
        with pytest.raises(ValueError, match=rf"{cls.__name__}\.seed = 2147483648: must be at least 0 and below 2\^31"):
            build(cls, seed=2**31)
        build(cls, seed=2**31 - 1)


@pytest.mark.parametrize(("owner", "name"), sorted(PATHS))
def test_url_in_place_of_a_path_is_refused(owner: str, name: str) -> None:
    url: Any = "gs://bucket/t.model"
    if name == "tasks":
        url = {"continuation_zh": url}
    elif name == "runs":
        url = {"a": "here", "b": url}
    elif name in ("inputs", "prompts", "check_on", "held_out_inputs"):
        url = ("here.jsonl", url)
    with pytest.raises(ValueError, match=rf"{owner}\.{name} = gs://bucket/t\.model: must be a path on this machine"):
        build(classes()[owner], **{name: url})


def test_path_settings_are_listed() -> None:
    """Every setting that the library turns into a path is a checked one."""
    names = {name for _, name in PATHS}
    sources = [file.read_text("utf-8") for room in ("mindllm_jax", "launch") for file in (ROOT / room).rglob("*.py")]
    path_settings = re.findall(r"(?:Path|input_files)\((?:config|scoring|self)\.([\w.]+)", "\n".join(sources))
    assert len(path_settings) > 10
    # TokenStore.url is a path here, once it is known to be no URL.
    assert {setting.rpartition(".")[2] for setting in path_settings} - names == {"url"}


@pytest.mark.parametrize("path", ["gs://b/x", "s3://b", "file:///tmp", "hf://a"])
def test_urls(path: str) -> None:
    with pytest.raises(ValueError, match=f"--workdir = {path}: must be a path on this machine, not a URL: mount"):
        local_path("--workdir", path)


@pytest.mark.parametrize("path", ["", " ", "a\0b"])
def test_invalid_paths(path: str) -> None:
    with pytest.raises(ValueError, match=r"--workdir = .*: must be the path of a file or folder"):
        local_path("--workdir", path)


@pytest.mark.parametrize("path", ["runs/x", "中文", "a b", "C:x", "x:/y", "#?%"])
def test_paths(path: str) -> None:
    assert local_path("--workdir", path) == Path(path)


def test_default_may_mean_no_path() -> None:
    require_local(Settings(), "folder", "files")
    with pytest.raises(ValueError, match=r"Settings\.files = '': must be the path"):
        require_local(Settings(files=("a", "")), "folder", "files")


def test_numbers() -> None:
    require_at_least(Settings(count=None), 1, "count")
    with pytest.raises(ValueError, match=r"Settings\.count = 0: must be at least 1"):
        require_at_least(Settings(count=0), 1, "count")
    with pytest.raises(ValueError, match=r"Settings\.seed = -1: must be at least 0"):
        require_seed(Settings(seed=-1), "seed")


def test_path_that_the_locale_cannot_encode_is_refused(tmp_path: Path) -> None:
    """In the locale C bytes above 127 arrive as surrogates, and a path from a file cannot be encoded."""
    (tmp_path / "x.gin").write_text("Tune.base = '中文'\n", encoding="utf-8")
    environment = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONPATH": str(ROOT)}
    script = (
        "from mindllm_jax import configuration as c\nfrom mindllm_jax.checks import local_path\nimport sys\n"
        "try:\n    c.command_line('')\nexcept ValueError as error:\n    print(error)\n"
        "c.run(lambda: local_path('Tune.base', '\\u4e2d'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "--workdir", "中文"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "not text in this locale's encoding; set LC_ALL=C.UTF-8" in done.stdout
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert r"error: Tune.base = '\u4e2d': " in done.stderr and "set LC_ALL=C.UTF-8" in done.stderr
