"""A run's layout keeps its promises for any settings: proportions, epochs, caps, order, random access."""

import pickle
from collections import Counter
from itertools import groupby
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mindllm_jax.mixture import order
from mindllm_jax.mixture.proportions import apportion
from mindllm_jax.mixture.schedule import Schedule
from mindllm_jax.mixture.settings import Mixture

# Rows in an epoch of each source, by language.
EPOCHS = {"en": {"books": 31, "code": 17, "web": 90}, "zh": {"laws": 12, "poems": 5}}
SOURCES = [source for sources in EPOCHS.values() for source in sources]


def schedule(steps: int = 50, global_batch_size: int = 8, **changes: Any) -> Schedule:
    used = Mixture("", **changes)
    return Schedule(
        used, {name: EPOCHS[name] for name in used.languages()}, steps=steps, global_batch_size=global_batch_size
    )


def by_stage(laid: Schedule, rows: int) -> list[list[tuple[str, int]]]:
    """The (source, its row) of every row of the run, by stage."""
    places = [(laid.sources[source].name, row) for source, row in map(laid.source_row, range(rows))]
    ends = [*(stage.first for stage in laid.stages[1:]), rows]
    return [places[stage.first : end] for stage, end in zip(laid.stages, ends, strict=True)]


source_weights = st.dictionaries(st.sampled_from(SOURCES), st.sampled_from([0.1, 0.5, 1.0, 2.0, 3.25]), max_size=3)
weights = st.fixed_dictionaries({"en": st.integers(1, 5)}, optional={"zh": st.integers(1, 5)})
orders = st.one_of(
    st.just({}),
    st.just({"order": "blocked"}),
    st.just({"order": "blocked", "blocks": (("poems", "web"), ("books",))}),
    st.dictionaries(st.sampled_from(SOURCES), st.integers(1, 40), min_size=1, max_size=3).map(
        lambda x: {"chunk_rows": x}
    ),
)


@st.composite
def mixtures(draw: st.DrawFn) -> dict[str, Any]:
    """Settings that the sources can meet: caps are on two English sources only."""
    count = draw(st.integers(0, 3))
    stages = [
        {"name": f"stage {number}", "share": draw(st.integers(1, 3)), "weights": draw(weights)}
        | draw(st.fixed_dictionaries({}, optional={"source_weights": source_weights}))
        for number in range(count)
    ]
    stages.append({"name": "last", "share": 1, "weights": {"zh": 1, "en": 2}})
    caps = draw(st.dictionaries(st.sampled_from(["books", "code"]), st.sampled_from([0.3, 1.0, 2.5, 4.0])))
    return {"stages": tuple(stages), "source_weights": draw(source_weights), "source_max_epochs": caps}


@given(mixtures(), orders, st.integers(12, 60), st.integers(1, 9))
@settings(max_examples=60, deadline=None)
def test_a_run_keeps_every_promise(
    mixture: dict[str, Any], order: dict[str, Any], steps: int, global_batch_size: int
) -> None:
    rows = steps * global_batch_size
    laid = schedule(steps, global_batch_size, **mixture, **order)
    stages = by_stage(laid, rows)
    assert by_stage(pickle.loads(pickle.dumps(laid)), rows) == stages  # as processes that read rows have it

    # A stage is a range of steps, and has its languages' weights to the row.
    for stage, places, bounds in zip(mixture["stages"], stages, laid.stages, strict=True):
        assert bounds.first % global_batch_size == 0
        languages = sorted(EPOCHS)
        wanted = apportion(len(places), [stage["weights"].get(language, 0) for language in languages])
        counts = Counter(name for name, _ in places)
        assert wanted == [sum(counts[source] for source in EPOCHS[language]) for language in languages]
        assert [counts[source.name] for source in laid.sources] == bounds.counts

    # Each source is read in its own order through all stages, nothing twice and nothing left out; caps hold.
    run = [place for places in stages for place in places]
    totals = Counter(name for name, _ in run)
    for source in laid.sources:
        assert [row for name, row in run if name == source.name] == list(range(totals[source.name]))
        if source.name in mixture["source_max_epochs"]:
            assert totals[source.name] <= source.rows * mixture["source_max_epochs"][source.name]

    # The order changes nothing but the order, and only inside a stage.
    for places, plain in zip(stages, by_stage(schedule(steps, global_batch_size, **mixture), rows), strict=True):
        assert sorted(places) == sorted(plain)

    # Any row can be asked for alone, past the end too, where sources go on counting.
    for row in (rows - 1, 0, rows // 2):
        source, index = laid.source_row(row)
        assert (laid.sources[source].name, index) == run[row]
    for row in range(rows, rows + 20):
        source, index = laid.source_row(row)
        assert index == totals[laid.sources[source].name]
        totals[laid.sources[source].name] += 1


def test_source_weights_multiply_shares() -> None:
    (stage,) = schedule(31 + 68 + 180, 1, weights={"en": 1}, source_weights={"code": 2.0, "books": 0.5}).stages
    assert stage.counts == [31, 68, 180]


def test_a_weight_of_a_tenth_is_a_tenth() -> None:
    (stage,) = schedule(31 + 170 + 900, 1, weights={"en": 1}, source_weights={"books": 0.1}).stages
    assert stage.counts == apportion(1101, [31, 170, 900])


def test_a_source_of_weight_0_waits_for_its_stage() -> None:
    first = {"name": "first", "share": 3, "source_weights": {"books": 0}}
    stages = schedule(weights={"en": 1}, stages=(first, {"name": "cool-down", "share": 1})).stages
    assert stages[0].counts[0] == 0 < stages[1].counts[0]


def test_the_papers_transfer_in_its_own_steps() -> None:
    stages = (
        {"name": "English", "share": 101_100, "weights": {"en": 1}},
        {"name": "mixture", "share": 105_900, "weights": {"zh": 1, "en": 1}},
    )
    english, mixture = schedule(207_000, 768, stages=stages).stages
    assert (english.first, mixture.first) == (0, 101_100 * 768)
    assert sum(english.counts) == sum(english.counts[:3]) == 101_100 * 768
    assert sum(mixture.counts[:3]) == sum(mixture.counts[3:]) == 105_900 * 768 // 2


def test_a_cap_is_reached_to_the_row_and_the_language_keeps_its_share() -> None:
    (free,) = schedule().stages
    (capped,) = schedule(source_max_epochs={"web": 1.5}).stages
    assert capped.counts[2] == 135 < free.counts[2]
    assert sum(capped.counts[:3]) == sum(free.counts[:3]) == 240
    # The others take over in their proportions, and are spread over the whole run.
    assert capped.counts[:2] == apportion(240 - 135, [31, 17])
    middle = Counter(schedule(source_max_epochs={"web": 1.5}).source_row(row)[0] for row in range(200))
    assert middle[2] == pytest.approx(135 / 2, abs=2)


def test_one_cap_for_all_and_another_for_one() -> None:
    (stage,) = schedule(30, 8, max_epochs=2, source_max_epochs={"poems": 30}).stages
    assert stage.counts[3] == 24 and stage.counts[4] == 96 - 24


def test_blocks_come_one_after_the_other_in_their_order() -> None:
    places = by_stage(schedule(order="blocked", blocks=(("poems", "web"), ("books",))), 400)[0]
    blocks = [["poems", "web"], ["books"], ["code"], ["laws"]]
    which = [next(n for n, block in enumerate(blocks) if name in block) for name, _ in places]
    assert which == sorted(which) and set(which) == {0, 1, 2, 3}
    counts = Counter(name for name, _ in places[:100])
    share = Counter(name for name, _ in places)
    assert counts["web"] == pytest.approx(100 * share["web"] / (share["web"] + share["poems"]), abs=1)


def test_without_blocks_each_source_is_one() -> None:
    places = by_stage(schedule(order="blocked"), 400)[0]
    assert [name for name, _ in groupby(name for name, _ in places)] == SOURCES


def test_chunks_have_their_length_and_are_spread_evenly() -> None:
    places = by_stage(schedule(100, 8, chunk_rows={"books": 16, "laws": 7}), 800)[0]
    totals = Counter(name for name, _ in places)
    chunks = [(name, len(list(rows))) for name, rows in groupby(name for name, _ in places)]
    for source, length in (("books", 16), ("laws", 7)):
        own = [rows for name, rows in chunks if name == source]
        # Two chunks of one source may touch; only the last may be shorter.
        assert all(rows % length == 0 for rows in own[:-1]) and sum(own) == totals[source]
    halves = [Counter(name for name, _ in places[begin : begin + 400]) for begin in (0, 400)]
    for source in totals:
        assert abs(halves[0][source] - halves[1][source]) <= 20
    # The others are shuffled between them as they would be alone.
    others = [name for name, _ in places if name not in ("books", "laws")]
    web = totals["web"] / len(others)
    assert all(abs(others[: n + 1].count("web") - web * (n + 1)) <= 2 for n in range(len(others)))


def test_rows_in_order_search_for_their_chunk_by_the_same_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step of a search apportions chunks to all chunked sources, which once took most of the time of a row."""
    calls = []
    monkeypatch.setattr(order, "apportion", lambda *arguments: calls.append(arguments) or apportion(*arguments))
    laid = schedule(1000, 8, chunk_rows={"books": 2, "laws": 3})
    calls.clear()
    for row in range(4000, 5000):
        laid.source_row(row)
    assert len(calls) < 1000


def test_nothing_but_chunks() -> None:
    places = by_stage(schedule(10, 4, weights={"zh": 1}, chunk_rows={"laws": 6, "poems": 2}), 40)[0]
    chunks = [(name, len(list(rows))) for name, rows in groupby(name for name, _ in places)]
    assert sum(rows % {"laws": 6, "poems": 2}[name] > 0 for name, rows in chunks) <= 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"source_weights": {"cod": 2.0}},
            r"source_weights names 'cod', no source of this run \(.*\); did you mean",
        ),
        (
            {"source_max_epochs": {"x": 2.0}},
            r"names 'x', no source of this run \(.*\); it has books, code, laws",
        ),
        ({"chunk_rows": {"poem": 4}}, "Mixture.chunk_rows names 'poem', .*; did you mean 'poems'"),
        ({"order": "blocked", "blocks": (("webb",),)}, "Mixture.blocks names 'webb', .*; did you mean 'web'"),
        (
            {"stages": ({"name": "late", "share": 1, "source_weights": {"lows": 2.0}},)},
            "Mixture.stages: late names 'lows', .*; did you mean 'laws'",
        ),
        (
            {"stages": ({"name": "short", "share": 1}, {"name": "long", "share": 1000})},
            "stage 'short' has 1 of 1001 shares of 50 steps, less than one step; raise its share, or Loop.steps",
        ),
        (
            {"source_weights": {"laws": 0, "poems": 0}},
            "stage 'all': the language 'zh' has a weight, but all its sources have weight 0",
        ),
        (
            # 160 rows in Chinese of 512 tokens, of which 9 epochs of 17 rows give 153.
            {"max_epochs": 9},
            "needs 81,920 tokens of 'zh'; the caps .* allow only 78,336: raise the caps",
        ),
        (
            {"max_epochs": 9, "stages": ({"name": "a", "share": 1, "weights": {"zh": 1}},)},
            r"needs 204,800 tokens of 'zh'; .* allow only 78,336 \(in the stages a\)",
        ),
    ],
)
def test_bad_settings_of_a_run(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        schedule(**changes)
