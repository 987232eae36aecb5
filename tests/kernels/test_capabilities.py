"""Choice of an implementation from its table."""

import pytest

from mindllm_jax.kernels.capabilities import Capabilities, choose

TABLE = {
    "fast": Capabilities(frozenset(["tpu"]), frozenset(["bfloat16"]), frozenset(["window"])),
    "small": Capabilities(None, frozenset(["bfloat16", "float32"]), frozenset()),
    "plain": Capabilities(None, frozenset(["bfloat16", "float32"]), frozenset(["window", "logit_cap"])),
}


@pytest.mark.parametrize(
    ("platform", "dtype", "features", "expected"),
    [
        ("tpu", "bfloat16", ["window"], "fast"),
        ("cpu", "bfloat16", ["window"], "plain"),
        ("tpu", "float32", [], "small"),
        ("tpu", "bfloat16", ["window", "logit_cap"], "plain"),
    ],
)
def test_first_that_can(platform: str, dtype: str, features: list[str], expected: str) -> None:
    assert choose(TABLE, None, platform=platform, dtype=dtype, features=frozenset(features)) == expected


def test_versions_that_are_not_tested_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    anything = frozenset(["bfloat16"])
    table = {"new": Capabilities(None, anything, frozenset(), requires=("json", "x"), versions=("1",)), **TABLE}
    for version, chosen in (("1", "new"), ("2", "small")):
        monkeypatch.setattr("importlib.metadata.version", lambda _, version=version: version)
        assert choose(table, None, platform="gpu", dtype="bfloat16", features=frozenset()) == chosen
    with pytest.raises(
        ValueError, match=r"'new' is tested with json 1; 2 is installed\. For this call plain, small can"
    ):
        choose(table, "new", platform="gpu", dtype="bfloat16", features=frozenset())


def test_requested() -> None:
    assert choose(TABLE, "plain", platform="tpu", dtype="bfloat16", features=frozenset()) == "plain"


@pytest.mark.parametrize(
    ("requested", "dtype", "features", "message"),
    [
        ("quick", "float32", [], r"implementation='quick' is unknown; known are fast, plain, small"),
        (
            "fast",
            "float32",
            ["window"],
            r"'fast' runs on tpu, not on cpu; takes bfloat16, not float32. For this call plain can",
        ),
        ("small", "float32", ["window", "logit_cap"], r"'small' does not support logit_cap, window. .* plain can"),
        ("fast", "float16", [], r"'fast' runs on tpu.* For this call none can"),
        (
            None,
            "float16",
            [],
            r"no implementation supports this call. fast runs on .* small takes .*float32, not",
        ),
    ],
)
def test_refusals_name_what_can(requested: str | None, dtype: str, features: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        choose(TABLE, requested, platform="cpu", dtype=dtype, features=frozenset(features))
