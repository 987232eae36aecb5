"""Instruction files into packed rows: the split, what is too long, and rows that were packed before."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mindllm_jax.instruct.instructions import (
    Instructions,
    PackedInstructions,
    instructions_table,
    keep_instructions,
    pack_instructions,
)
from mindllm_jax.text.documents import held_out
from mindllm_jax.tokenization.tokenizer import Tokenizer

ROWS = [{"id": f"n{i}", "instruction": f"Count to {i}.", "output": f"{i} is 你好 {i}"} for i in range(200)]


def answers(packed: PackedInstructions, tokenizer: Tokenizer, side: str = "train") -> list[str]:
    """Everything that is said on one side, sorted."""
    (rows,) = getattr(packed, side).values()
    loss_mask = rows.ids[rows.loss_mask]
    return sorted(map(tokenizer.decode, np.split(loss_mask, np.flatnonzero(loss_mask == tokenizer.doc_id) + 1)[:-1]))


@pytest.fixture
def config(write) -> Instructions:
    return Instructions((str(write(*ROWS, name="rows.jsonl")),), sequence_length=64, held_out=0.2)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "run/instructions.npz"


def test_the_split_follows_the_ids(config: Instructions, tokenizer: Tokenizer, store: Path) -> None:
    packed = pack_instructions(config, tokenizer, store)
    sides: dict[bool, list[str]] = {False: [], True: []}
    for row in ROWS:
        sides[held_out(row["id"], 0.2)].append(row["output"])
    assert answers(packed, tokenizer) == sorted(sides[False])
    assert answers(packed, tokenizer, "held_out") == sorted(sides[True])
    assert 20 < len(sides[True]) < 60


def test_held_out_files_of_their_own(config: Instructions, write, tokenizer: Tokenizer, store: Path) -> None:
    own = write({"input": "Q", "output": "A"}, name="own.jsonl.gz")
    packed = pack_instructions(replace(config, held_out_inputs=(str(own),)), tokenizer, store)
    assert answers(packed, tokenizer) == sorted(row["output"] for row in ROWS)
    assert answers(packed, tokenizer, "held_out") == ["A"]


def test_long_conversations_are_cut_or_dropped(write, tokenizer: Tokenizer, store: Path) -> None:
    text = "".join(chr(0x4E00 + 37 * i) for i in range(100))  # rare characters: several byte pieces each
    long, hopeless = {"input": "Q", "output": text}, {"input": text, "output": "A"}
    config = Instructions((str(write(ROWS[0], long, hopeless)),), sequence_length=64, held_out=0.0)
    cut = pack_instructions(config, tokenizer, store)
    assert cut.counts == {"conversations cut": 1, "conversations left out (too long)": 1}
    rows = cut.train["some"]
    assert len(rows) == 2
    (whole,) = (ids for ids in np.split(rows.ids, rows.conversations[1:-1]) if len(ids) == 65)
    assert text.startswith(tokenizer.decode(whole).split("\n")[-1].rstrip("\ufffd"))
    dropped = pack_instructions(replace(config, on_long="drop"), tokenizer, store)
    assert dropped.counts == {"conversations left out (too long)": 2}
    assert answers(dropped, tokenizer) == [ROWS[0]["output"]]


def test_bad_lines_are_counted(write, tokenizer: Tokenizer, store: Path) -> None:
    path = write(*ROWS[:5], {"instruction": "Q", "output": ""}, "{")
    config = Instructions((str(path),), sequence_length=64, held_out=0.0, on_bad="skip")
    packed = pack_instructions(config, tokenizer, store)
    assert packed.counts == {"lines left out (empty text)": 1, "lines left out (wrong JSON)": 1}
    table = instructions_table(packed, 2, {})
    assert "1 lines left out (wrong JSON)" in table.caption and "an epoch is" in table.caption
    assert [row[:3] for row in table.rows] == [["train", "some", 5]]


def test_a_question_that_is_measured_is_not_trained_on(write, tokenizer: Tokenizer, store: Path) -> None:
    """As where a folder of inputs holds the file of held-out conversations."""
    train, measured = write(*ROWS[:40], name="train.jsonl"), write(*ROWS[:10], name="eval.jsonl")
    config = Instructions((str(train), str(measured)), (str(measured),), sequence_length=64)
    packed = pack_instructions(config, tokenizer, store)
    assert packed.counts == {"conversations left out (their question is held out)": 20}
    assert sorted(packed.train) == ["train"] and len(packed.held_out["eval"].conversations) == 11


def test_a_question_that_is_held_out_by_another_id_is_not_trained_on(write, tokenizer: Tokenizer, store: Path) -> None:
    """Whatever ids, answers and system prompts its records have."""
    rows = [{"id": f"r{i}", "system": f"S{i}", "input": f"Q{i % 5}", "output": f"A{i}"} for i in range(50)]
    config = Instructions((str(write(*rows)),), sequence_length=64, held_out=0.05)
    packed = pack_instructions(config, tokenizer, store)
    measured = {row["input"] for row in rows if held_out(row["id"], 0.05)}
    assert 0 < len(measured) < 5
    assert answers(packed, tokenizer) == sorted(row["output"] for row in rows if row["input"] not in measured)
    kept = len(answers(packed, tokenizer)) + len(answers(packed, tokenizer, "held_out"))
    assert packed.counts == {"conversations left out (their question is held out)": len(rows) - kept}


def test_a_question_of_prepared_records_is_held_out_in_any_set_up(write, tokenizer: Tokenizer, store: Path) -> None:
    """By its id, which has to be a hash: numbers of two files are not the same question."""
    train = write(
        {"id": "0123456789abcdef", "input": "Q\nThink first.", "output": "A"},
        {"id": "1", "input": "Other", "output": "B"},
        name="train.jsonl",
    )
    measured = write(
        {"id": "0123456789abcdef", "input": "Q", "output": "A"},
        {"id": "1", "input": "Q1", "output": "A"},
        name="eval.jsonl",
    )
    config = Instructions((str(train),), (str(measured),), sequence_length=64)
    assert answers(pack_instructions(config, tokenizer, store), tokenizer) == ["B"]


def test_an_epoch_is_of_the_datasets_that_are_read(write, tokenizer: Tokenizer, store: Path) -> None:
    inputs = (str(write(*ROWS[:40], name="a.jsonl")), str(write(*ROWS[40:50], name="b.jsonl")))
    packed = pack_instructions(Instructions(inputs, sequence_length=64, held_out=0.0), tokenizer, store)
    rows = {name: len(packed_rows) for name, packed_rows in packed.train.items()}
    assert f"an epoch is {rows['b']:.1f} steps" in instructions_table(packed, 1, {"a": 0.0}).caption


def test_datasets_are_apart_and_kept_by_their_lengths(write, tokenizer: Tokenizer, store: Path) -> None:
    legal = [row | {"output": "是" * (1 + i % 9)} for i, row in enumerate(ROWS[:40])]
    general, law = write(*ROWS, name="general.jsonl"), write(*legal, name="law.jsonl.gz")
    config = Instructions((str(general), str(law)), sequence_length=64, held_out=0.0)
    whole = pack_instructions(config, tokenizer, store)
    assert list(whole.train) == ["general", "law"] and not whole.held_out
    sizes = np.diff(whole.train["law"].conversations)
    most = int(np.median(sizes))
    some = pack_instructions(replace(config, lengths={"law": (0, most)}), tokenizer, store)
    assert np.diff(some.train["law"].conversations).max() <= most
    assert np.array_equal(some.train["general"].ids, whole.train["general"].ids)
    left_out = int((sizes > most).sum())
    assert left_out and some.counts == {"conversations left out (outside Instructions.lengths)": left_out}
    apart = replace(config, held_out=0.5)
    short = pack_instructions(replace(apart, lengths={"law": (0, most)}), tokenizer, store)
    assert np.array_equal(short.held_out["law"].ids, pack_instructions(apart, tokenizer, store).held_out["law"].ids)
    with pytest.raises(ValueError, match=r"Instructions\.weights names 'lwa', which is no dataset of the inputs.*law"):
        pack_instructions(replace(config, weights={"lwa": 2.0}), tokenizer, store)
    with pytest.raises(ValueError, match="no conversation to train on: all are held out"):
        pack_instructions(replace(config, weights={"law": 0.0, "general": 0.0}), tokenizer, store)


def test_rows_are_packed_once(config: Instructions, tokenizer: Tokenizer, store: Path) -> None:
    first = pack_instructions(config, tokenizer, store)
    assert not store.exists(), "nothing is written before the run is found to fit"
    keep_instructions(first, store)
    written = store.stat().st_mtime_ns
    again = pack_instructions(config, tokenizer, store)
    keep_instructions(again, store)
    assert store.stat().st_mtime_ns == written
    assert (again.key, again.counts) == (first.key, first.counts)
    for side in ("train", "held_out"):
        before, after = (getattr(packed, side)["rows"].read(np.arange(3)) for packed in (first, again))
        for one, other in zip(before, after, strict=True):
            assert np.array_equal(one, other) and one.dtype == other.dtype


CHANGES: dict[str, dict[str, Any]] = {
    "seed": {"seed": 1},
    "length": {"sequence_length": 65},
    "split": {"held_out": 0.1},
    "too long": {"on_long": "drop"},
    "lengths": {"lengths": {"rows": (0, 1000)}},
    "weights": {"weights": {"rows": 2.0}},
}


@pytest.mark.parametrize("change", [*CHANGES, "file", "damage", "not an archive"])
def test_rows_are_packed_again_when_something_changed(
    config: Instructions, tokenizer: Tokenizer, store: Path, change: str
) -> None:
    first = pack_instructions(config, tokenizer, store)
    keep_instructions(first, store)
    if change in CHANGES:
        config = replace(config, **CHANGES[change])
    elif change == "file":
        path = Path(config.inputs[0])
        path.write_text(path.read_text().replace("Count", "Reckon"))
    elif change == "damage":
        content = bytearray(store.read_bytes())
        content[len(content) // 2] ^= 1
        store.write_bytes(content)
    else:
        store.write_bytes(b"")
    written = store.stat().st_mtime_ns
    again = pack_instructions(config, tokenizer, store)
    keep_instructions(again, store)
    assert store.stat().st_mtime_ns != written
    assert (again.key == first.key) == (change in ("damage", "not an archive"))


def test_nothing_to_train_on(write, tokenizer: Tokenizer, store: Path) -> None:
    config = Instructions((str(write(ROWS[0])),), sequence_length=64, held_out=0.999)
    with pytest.raises(ValueError, match=r"inputs leave no conversation to train on: all are held out"):
        pack_instructions(config, tokenizer, store)
    short = replace(config, sequence_length=4, held_out=0.0)
    with pytest.raises(ValueError, match=r"no conversation to train on: 1 conversations left out \(too long\)"):
        pack_instructions(short, tokenizer, store)
    with pytest.raises(ValueError, match=r"empty\.jsonl holds no conversation: the file is empty"):
        pack_instructions(replace(config, inputs=(str(write(name="empty.jsonl")),)), tokenizer, store)
    with pytest.raises(FileNotFoundError, match="there is no file or folder nowhere"):
        pack_instructions(replace(config, inputs=("nowhere",)), tokenizer, store)
    assert not store.exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"held_out": 1.0}, r"Instructions\.held_out must be"),
        ({"sequence_length": 1}, r"Instructions\.sequence_length"),
        ({"lengths": {"law": (300, 200)}}, r"Instructions\.lengths\['law'\] = \(300, 200\)"),
        ({"weights": {"law": -1.0}}, r"Instructions\.weights\['law'\] = -1\.0"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Instructions(("x",), **settings)
