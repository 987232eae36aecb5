"""Names of sources and codes of languages."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mindllm_jax.text.names import is_source_name, language_code, require_source_names, source_name


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("news|sina", "news|sina"),
        ("法律", "法律"),
        ("Evening Post", "Evening_Post"),
        ("common-crawl/2019\\07", "common-crawl_2019_07"),
        ("../../etc", "_.._etc"),
        (".hidden", "hidden"),
        (" a\tb\n\0c\ud800 ", "a_b_c"),
        ("e\u0301", "é"),
        ("", "unnamed"),
        ("..", "unnamed"),
    ],
)
def test_names(given: str, name: str) -> None:
    assert source_name(given) == name
    assert is_source_name(given) == (given == name)


def test_long_names_stay_different() -> None:
    names = [source_name("名" * 90 + end) for end in ("a", "b")]
    assert names[0] != names[1] and all(len(name.encode()) <= 160 for name in names)


@given(st.text())
def test_a_name_is_a_name_of_a_source(given: str) -> None:
    assert is_source_name(name := source_name(given))
    assert "/" not in name and not name.startswith(".") and not any(map(str.isspace, name))


@pytest.mark.parametrize(
    ("code", "tags"),
    [
        (
            "zh",
            ("zh", "zh-CN", "zh_Hans", "ZH-hant-TW", "cmn", "zho_Hans", "chi", "Chinese", "中文", "lzh", "zh_CN.UTF-8"),
        ),
        ("en", ("en", "en-US", "eng", "EN_GB", "English", "eng_Latn")),
        ("fr", ("fr", "fr-CA")),
        (None, ("und", "unknown", "", " ", "../zh", "12", 3, None, ["zh"])),
    ],
)
def test_languages(code: str | None, tags: tuple[object, ...]) -> None:
    assert {language_code(tag) for tag in tags} == {code}


def test_settings_name_sources_as_documents_have_them() -> None:
    require_source_names("Repeats.keep_sources", ("a", "news|sina"))
    with pytest.raises(ValueError, match=r"Repeats\.keep_sources: 'Evening Post' .* documents have 'Evening_Post'"):
        require_source_names("Repeats.keep_sources", ("a", "Evening Post"))
