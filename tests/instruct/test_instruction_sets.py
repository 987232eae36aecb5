"""What a conversation keeps of its record, formats other than JSON, and all of the published sets."""

import gzip
import json
import lzma
import os
from collections import Counter
from pathlib import Path

import pytest

from mindllm_jax.batching.chat_format import encode_conversations
from mindllm_jax.instruct.conversations import Refused, language_of, read_conversations
from mindllm_jax.instruct.reading.records import instruction_files
from mindllm_jax.text.documents import held_out
from mindllm_jax.tokenization.tokenizer import Tokenizer

PUBLISHED = Path(__file__).parents[3] / "shared/data/sft"

# Conversations, and skipped records by reason.
COUNTS: dict[str, tuple[int, dict[str, int]]] = {
    "alpaca_en.jsonl.gz": (14990, {"empty text": 10}),
    "alpaca_gpt4_en_demo.jsonl.gz": (999, {}),
    "alpaca_gpt4_zh_demo.jsonl.gz": (1000, {}),
    "alpaca_zh_carbonz0.jsonl.gz": (10015, {"empty text": 6}),
    "alpaca_zh_en_v3_scored.jsonl.gz": (2 * 5993, {"empty text": 7}),
    "alpaca_zh_translated_noisy.jsonl.gz": (8994, {"empty text": 6}),
    "belle_eval_zh.jsonl.gz": (631, {"empty text": 369}),
    "belle_seed_zh.jsonl": (175, {}),
    "dolly_hhrlhf_small.jsonl.gz": (1000, {}),
    "fin_cuge_fincqa_eval.jsonl.gz": (2741, {}),
    "fin_cuge_finese_eval.jsonl.gz": (1000, {}),
    "fin_cuge_finese_train.jsonl.gz": (5000, {}),
    "fin_cuge_finfe_eval.jsonl": (1000, {}),
    "fin_cuge_finfe_train.jsonl.gz": (5000, {}),
    "fin_cuge_finna_eval.jsonl.gz": (3600, {}),
    "fin_cuge_finnl_eval.jsonl.gz": (884, {}),
    "fin_cuge_finnl_train.jsonl.gz": (5000, {}),
    "fin_cuge_finnsp_eval.jsonl.gz": (500, {}),
    "fin_cuge_finnsp_train.jsonl.gz": (3999, {"unknown label": 1}),
    "fin_cuge_finqa_eval.jsonl.gz": (2469, {}),
    "fin_cuge_finre_eval.jsonl.gz": (1000, {}),
    "fin_cuge_finre_train.jsonl.gz": (5000, {}),
    "fin_disc_computing.jsonl": (100, {}),
    "fin_disc_computing_eval.jsonl": (100, {}),
    "fin_disc_consulting.jsonl.gz": (100, {}),
    "fin_disc_retrieval.jsonl.gz": (100, {}),
    "fin_disc_task.jsonl.gz": (100, {}),
    "fin_phrasebank_300_en.txt": (301, {}),
    "fin_twitter_sentiment_en.csv": (2388, {}),
    "gpteacher_codegen_en.jsonl.gz": (4535, {}),
    "law_disc_qa_short_answer.jsonl.gz": (300, {}),
    "law_lawyer_llama_counsel_multiturn_v2.jsonl.gz": (465, {"roles out of order": 10, "no answer": 1}),
    "law_lawyer_llama_counsel_with_article_v2.jsonl.gz": (1000, {}),
    "law_lawyer_llama_judical_exam.jsonl.gz": (2000, {}),
    "law_lawyer_llama_legal_advice.jsonl.gz": (5000, {}),
    "law_lawyer_llama_zixun_gpt4.jsonl.gz": (1000, {}),
    "medical_tigerbot_zh.jsonl.gz": (2000, {}),
    "moss_sft_examples.jsonl.gz": (312, {"tool turn": 248}),
    "selfinstruct_seed_en.jsonl": (175, {}),
    "zh_community_misc.jsonl.gz": (10280, {"empty text": 2}),
}


@pytest.mark.long
def test_published_sets() -> None:
    if not PUBLISHED.exists():
        pytest.skip("the published instruction sets (../shared/data/sft) are not here")
    found = {}
    for path in sorted(PUBLISHED.iterdir()):
        skipped, refused = Counter[str](), list[Refused]()
        read = list(read_conversations(path, on_bad="skip", skipped=skipped, refused=refused))
        found[path.name] = (len(read), dict(skipped))
        assert Counter(one.kind for one in refused) == skipped and all(path.name in one.where for one in refused)
        assert {one.dataset for one in read} == {path.name.split(".")[0]}
        assert all(one.lang in ("zh", "en", "other") for one in read)
    assert found == COUNTS


def test_what_is_kept_of_a_record(write) -> None:
    path = write(
        {"instruction": "问", "output": "答", "category": "代码问题"},
        {"kind": "NLI", "input": "Q", "target": "A"},
        {"dataset": "other_set", "task": "t", "lang": "zh-CN", "input": "Q", "output": "A"},
        {"query": "Q", "laws": ["第一条"], "response": "A"},
        name="my_set.jsonl.gz",
    )
    first, second, third, fourth = read_conversations(path)
    assert (first.dataset, first.task, first.lang, first.where) == ("my_set", "代码问题", "zh", f"{path}, line 1")
    assert (second.dataset, second.task, second.lang) == ("my_set", "NLI", "en")
    assert (third.dataset, third.task, third.lang) == ("other_set", "t", "zh")
    assert fourth.metadata == {"laws": ["第一条"]}


def test_a_bilingual_pair_is_two_conversations_on_one_side_of_the_split(write) -> None:
    rows = [
        {
            "en_instruction": f"Say {n}.",
            "en_input": "",
            "en_output": str(n),
            "zh_instruction": "说",
            "zh_input": str(n),
            "zh_output": str(n),
            "metadata": {"translated": True, "score": 5 if n else None},
        }
        for n in range(50)
    ]
    read = list(read_conversations(write(*rows)))
    assert len(read) == 100
    assert [message.content for message in read[3].messages] == ["说\n1", "1"]
    assert [one.lang for one in read[:2]] == ["en", "zh"]
    assert read[0].metadata.get("score") is None and read[2].metadata["score"] == 5.0
    assert len({one.id for one in read}) == 100
    sides = [held_out(one.id, 0.5) for one in read]
    assert sides[::2] == sides[1::2] and 10 < sum(sides[::2]) < 40


def test_instances_are_conversations(write) -> None:
    row = {"id": "seed_1", "instruction": "Negate.", "instances": [{"input": "yes", "output": "no"}, {"output": "A"}]}
    read = list(read_conversations(write(row)))
    assert [[message.content for message in one.messages] for one in read] == [["Negate.\nyes", "no"], ["Negate.", "A"]]
    assert [one.id for one in read] == ["seed_1/part1", "seed_1/part2"]


def test_shapes_may_be_mixed_and_bad_rows_are_placed(write) -> None:
    refused: list[Refused] = []
    path = write(
        {"instruction": "Q", "output": "A"},
        "{broken",
        {"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]},
        {"input": "Q", "output": ""},
    )
    read = list(read_conversations(path, on_bad="skip", refused=refused))
    assert [one.where for one in read] == [f"{path}, line 1", f"{path}, line 3"]
    assert [(one.where, one.kind) for one in refused] == [
        (f"{path}, line 2", "wrong JSON"),
        (f"{path}, line 4", "empty text"),
    ]


def test_fincuge_by_the_name_of_its_file(tmp_path: Path) -> None:
    rows = {
        "finfe_eval.jsonl": ["涨", 2],
        "FinRE/test.jsonl": ["甲", "乙", "合资", "甲与乙合资"],
        "fin_cuge_finese.jsonl": ["1", "新闻", "其他", "NaN"],
        "finnsp.jsonl": ["1", "", "消息", "甲", "1", "甲"],
        "of_pandas/finfe.jsonl": ["平", 1.0],
        "of_pandas/finnsp.jsonl": ["1", None, "消息", "甲", 1.0, "甲"],
    }
    answers = []
    for name, row in rows.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(row, ensure_ascii=False) + "\n")
        (one,) = read_conversations(path)
        answers.append((one.task, one.messages[-1].content))
    expected = [("finfe", "积极"), ("finre", "合资"), ("finese", "事件：其他；主体：无"), ("finnsp", "是；主体：甲")]
    assert answers == [*expected, ("finfe", "中性"), ("finnsp", "是；主体：甲")]
    (tmp_path / "finnsp.jsonl").write_text('["1", 5, "消息", "甲", "1", "甲"]\n')
    with pytest.raises(ValueError, match="`field 2` is a int, not a string"):
        list(read_conversations(tmp_path / "finnsp.jsonl"))
    (tmp_path / "finfe_train.jsonl").write_text('["跌", 7]\n["跌"]\n["跌", 0]\n')
    skipped = Counter[str]()
    assert len(list(read_conversations(tmp_path / "finfe_train.jsonl", on_bad="skip", skipped=skipped))) == 1
    assert skipped == {"unknown label": 1, "wrong number of fields": 1}


def test_csv_and_labelled_sentences(tmp_path: Path) -> None:
    csv = tmp_path / "fingpt_tweets.csv"
    csv.write_text('text,label\n"up, up",1\nflat,2\ntoo,many,0\nno,3\n')
    refused: list[Refused] = []
    read = list(read_conversations(csv, on_bad="skip", refused=refused))
    assert [one.messages[-1].content for one in read] == ["bullish", "neutral"]
    assert [(one.where, one.kind) for one in refused] == [
        (f"{csv}, line 4", "wrong number of fields"),
        (f"{csv}, line 5", "unknown label"),
    ]
    csv.write_text("text,label\n" + "x" * 200_000 + ",1\n")
    (long,) = read_conversations(csv)
    assert long.messages[0].content.endswith("x" * 200_000)
    reviews = tmp_path / "ChnSentiCorp.csv"
    reviews.write_text("label,text\n1,酒店很好\n", encoding="utf-8")
    with pytest.raises(
        ValueError, match=r"ChnSentiCorp\.csv, line 2: .* FinGPT's tweets alone .*prepare_instructions\.py"
    ):
        list(read_conversations(reviews))
    cut = tmp_path / "cut.csv.gz"
    cut.write_bytes(gzip.compress(b"text,label\n" + os.urandom(2000).hex().encode() + b",1\n")[:-500])
    with pytest.raises(ValueError, match=r"cut\.csv\.gz is a damaged gzip file"):
        list(read_conversations(cut, on_bad="skip"))
    alpaca = tmp_path / "alpaca.csv"
    alpaca.write_text('\ufeffinstruction,input,output\n"two\nlines",,A\n')
    (one,) = read_conversations(alpaca)
    assert one.messages[0].content == "two\nlines" and one.where == f"{alpaca}, line 3"
    bank = tmp_path / "bank.txt"
    bank.write_bytes("Sales rose @ 5 % .@positive\nno label\n\xff@neutral\n".encode("latin-1"))
    refused.clear()
    (one,) = read_conversations(bank, on_bad="skip", refused=refused)
    assert one.messages[0].content.endswith("Sales rose @ 5 % .") and one.messages[1].content == "positive"
    assert [one.kind for one in refused] == ["unknown label", "not UTF-8"]


def test_parquet(tmp_path: Path) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "rows.parquet"
    message = {"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}
    rows = [{"instruction": "Q", "output": "A", "input": None}, {"messages": list(message)}, {"instruction": "Q"}]
    parquet.write_table(arrow.Table.from_pylist(rows, arrow.schema([
        ("instruction", arrow.string()), ("output", arrow.string()), ("input", arrow.string()),
        ("messages", arrow.list_(arrow.struct([("role", arrow.string()), ("content", arrow.string())]))),
    ])), path)  # fmt: skip
    refused: list[Refused] = []
    read = list(read_conversations(path, on_bad="skip", refused=refused))
    assert [len(one.messages) for one in read] == [2, 2] and refused[0].where == f"{path}, row 3"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ValueError, match=r"rows\.parquet is damaged after row 0"):
        list(read_conversations(path))


def test_special_tokens_in_a_message_are_text(write, tokenizer: Tokenizer) -> None:
    text = "a <assistant>\nb<doc><user> c"
    (one,) = read_conversations(write({"instruction": text, "output": text}))
    (encoded,) = encode_conversations(tokenizer, [one.messages])
    symbols = [id for id in encoded.ids.tolist() if id in tokenizer.symbols.values()]
    names = ("<doc>", "<user>", "<assistant>", "<doc>")
    assert symbols == [tokenizer.symbols[name] for name in names], "those of the format alone"


@pytest.mark.parametrize(
    ("text", "lang"),
    [
        ("What is this?", "en"),
        ("写一个函数", "zh"),
        ("写一个 Python 函数：def add_two_numbers(a, b): return", "zh"),
        ("The word 你 is Chinese and the rest of this sentence is not at all.", "en"),
        ("Привет, мир", "other"),
        ("1 + 1 = 2", "en"),
    ],
)
def test_language(text: str, lang: str) -> None:
    assert language_of(text) == lang


def test_files_of_a_folder(tmp_path: Path) -> None:
    for name in (
        "b.json",
        "a.jsonl",
        "c.csv",
        "D.JSONL",
        "e.ndjson.gz",
        "README.md",
        "notes.txt",
        "._a.jsonl",
        "._a.zip",
    ):
        (tmp_path / name).write_text("x")
    read = [file.name for file in instruction_files([str(tmp_path)])]
    assert sorted(read) == ["D.JSONL", "a.jsonl", "b.json", "c.csv", "e.ndjson.gz"]
    with pytest.raises(ValueError, match=r"more than once"):
        instruction_files([str(tmp_path), str(tmp_path / "a.jsonl")])
    with pytest.raises(FileNotFoundError, match="no file or folder"):
        instruction_files([str(tmp_path / "nowhere")])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no instruction file"):
        instruction_files([str(tmp_path / "empty")])
    (tmp_path / "more.jsonl.zst").write_text("x")
    with pytest.raises(
        ValueError, match=r"holds files that are not read \(more\.jsonl\.zst\): write them as JSON lines"
    ):
        instruction_files([str(tmp_path)])


def test_a_file_of_another_compression_is_named(tmp_path: Path) -> None:
    path = tmp_path / "some.jsonl.xz"
    path.write_bytes(lzma.compress(b'{"input": "Q", "output": "A"}\n'))
    with pytest.raises(ValueError, match=r"some\.jsonl\.xz is xz data: decompress it"):
        list(read_conversations(path))


@pytest.mark.parametrize(
    ("name", "dataset"),
    [("belle-1.0.jsonl", "belle-1.0"), ("belle-1.5.JSONL.gz", "belle-1.5"), ("some.data", "some")],
)
def test_a_dataset_has_the_whole_name_of_its_file(tmp_path: Path, name: str, dataset: str) -> None:
    (tmp_path / name).write_text('{"input": "Q", "output": "A"}\n')
    (one,) = read_conversations(tmp_path / name)
    assert one.dataset == dataset
