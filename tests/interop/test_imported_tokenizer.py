"""Tokenizers of GGUF files and Hugging Face folders keep their ids, and what is not supported is refused by name."""

import json
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from small_tokenizers import CHATML, GPT2, exported, metadata

from mindllm_jax.interop import hugging_face_folder
from mindllm_jax.interop.imported_tokenizer import from_gguf, from_hugging_face
from mindllm_jax.interop.tokenizer_check import PROBES, compare, lines_of
from mindllm_jax.tokenization.mindllm_format import CHAT_TEMPLATE
from mindllm_jax.tokenization.tokenizer import Tokenizer

tokenizers = pytest.importorskip("tokenizers", reason="tokenizers (the extra `hf`) is not installed")
transformers = pytest.importorskip("transformers", reason="transformers (the extra `hf`) is not installed")

ROOT = Path(__file__).parents[2]
RESEARCH_TEXT = ROOT.parent / "shared/data/pretrain"
TEXTS = [*PROBES, "<|im_end|>", "I'll pay 1234 or ١٢, you'Re 12345678\n\n x", "Ⅷ ①½", "小猫和小狗，🐱", "a<unused>b"]


def test_gguf() -> None:
    values = metadata()
    tokenizer = Tokenizer(Path("t"), from_gguf(values))
    size = len(values["tokenizer.ggml.tokens"])
    end = values["tokenizer.ggml.tokens"].index("<|endoftext|>")
    assert (tokenizer.vocab_size, tokenizer.doc_id) == (size, end)
    assert (tokenizer.pad_id, tokenizer.ends) == (size - 2, (size - 2,))
    assert tokenizer.symbols == {"<|endoftext|>": end, "<|im_start|>": size - 3, "<|im_end|>": size - 2}
    assert tokenizer.special_tokens == {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"}
    assert tokenizer.chat_template == CHATML
    for text in TEXTS:
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        assert not set(ids.tolist()) & set(tokenizer.symbols.values()), "a text makes no symbol"
    assert tokenizer.encode("一只小猫")[-1] == size - 1, "a user-defined piece is matched in texts"


@pytest.mark.parametrize(
    ("pre", "number"),
    [("gpt-2", ["1234"]), ("smollm", list("1234")), ("llama-bpe", ["123", "4"]), ("qwen2", list("1234"))],
)
def test_the_pre_tokenizers_split_numbers(pre: str, number: list[str]) -> None:
    values: dict[str, Any] = metadata() | {"tokenizer.ggml.pre": pre}
    values["tokenizer.ggml.tokens"] += ["12", "123", "1234"]
    values["tokenizer.ggml.token_type"] += [1, 1, 1]
    values["tokenizer.ggml.merges"] += ["1 2", "12 3", "123 4"]
    tokenizer = Tokenizer(Path("t"), from_gguf(values))
    assert [tokenizer.piece(id) for id in tokenizer.encode("1234")] == number


@pytest.mark.parametrize("pre", ["gpt-2", "smollm", "llama-bpe", "qwen2"])
def test_an_imported_tokenizer_goes_out_with_its_ids(pre: str, tmp_path: Path) -> None:
    tokenizer = Tokenizer(Path("t"), from_gguf(metadata() | {"tokenizer.ggml.pre": pre}))
    folder = exported(tokenizer, tmp_path / "out")
    assert compare(tokenizer, folder, TEXTS).lines == len(TEXTS)
    loaded = transformers.AutoTokenizer.from_pretrained(folder)
    assert (loaded.bos_token, loaded.eos_token, loaded.chat_template) == ("<|im_start|>", "<|im_end|>", CHATML)
    again = Tokenizer(Path("again"), from_hugging_face(folder))
    assert again.symbols == tokenizer.symbols and again.ends == tokenizer.ends
    assert again.chat_template == CHATML and again.special_tokens == tokenizer.special_tokens
    assert all(again.encode(text).tolist() == tokenizer.encode(text).tolist() for text in TEXTS)


@pytest.mark.parametrize(("pre", "first"), [("llama-bpe", 1), ("smollm", 0)])
def test_a_gguf_file_that_does_not_say_is_read_as_llama_cpp_reads_it(pre: str, first: int) -> None:
    tokenizer = Tokenizer(Path("t"), from_gguf(metadata() | {"tokenizer.ggml.pre": pre}))
    assert len(tokenizer.first_ids) == first


@pytest.mark.parametrize("stated", [False, True])
def test_what_stands_before_a_text_goes_in_and_out(stated: bool, tmp_path: Path) -> None:
    """As a GGUF file says, and as tokenizer.json has it: transformers reads no add_bos_token beside that."""
    tokenizer = Tokenizer(Path("t"), from_gguf(metadata() | {"tokenizer.ggml.add_bos_token": stated}))
    expected = (tokenizer.symbols["<|im_start|>"],) if stated else ()
    assert tokenizer.first_ids == expected
    folder = exported(tokenizer, tmp_path / "out")
    config = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
    (folder / "tokenizer_config.json").write_text(json.dumps(config | {"add_bos_token": not stated}), "utf-8")
    compare(tokenizer, folder, ["a"])
    assert Tokenizer(Path("again"), from_hugging_face(folder)).first_ids == expected


def test_gpt2_files_that_state_add_bos_token(gpt2_folder: Path) -> None:
    assert Tokenizer(Path("t"), from_hugging_face(gpt2_folder)).first_ids == ()
    config = json.loads((gpt2_folder / "tokenizer_config.json").read_text("utf-8"))
    (gpt2_folder / "tokenizer_config.json").write_text(json.dumps(config | {"add_bos_token": True}), "utf-8")
    tokenizer = Tokenizer(Path("t"), from_hugging_face(gpt2_folder))
    assert tokenizer.first_ids == (tokenizer.doc_id,)
    compare(tokenizer, gpt2_folder, ["a"])


def test_a_folder_of_gpt2_files(gpt2_folder: Path, tmp_path: Path) -> None:
    tokenizer = Tokenizer(Path("t"), from_hugging_face(gpt2_folder))
    end = json.loads((GPT2 / "encoder.json").read_text("utf-8"))["<|endoftext|>"]
    assert (tokenizer.doc_id, tokenizer.pad_id, tokenizer.ends) == (end, end, (end,))
    assert tokenizer.chat_template == CHAT_TEMPLATE and "<user>" not in tokenizer.symbols
    assert compare(tokenizer, gpt2_folder, TEXTS).lines == len(TEXTS)
    assert compare(tokenizer, exported(tokenizer, tmp_path / "out"), TEXTS).lines == len(TEXTS)


def test_settings_of_a_folder(gpt2_folder: Path) -> None:
    (gpt2_folder / "chat_template.jinja").write_text("{{ bos_token }}\n", "utf-8")
    size = len(json.loads((GPT2 / "encoder.json").read_text("utf-8")))
    settings = json.loads((gpt2_folder / "tokenizer_config.json").read_text("utf-8"))
    settings |= {"chat_template": "another", "pad_token": {"content": "小猫", "special": True}}
    (gpt2_folder / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")
    (gpt2_folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [size]}), "utf-8")
    tokenizer = Tokenizer(Path("t"), from_hugging_face(gpt2_folder))
    assert tokenizer.chat_template == "{{ bos_token }}\n", "the file comes before the setting"
    assert tokenizer.pad_id == size and tokenizer.ends == (size, tokenizer.doc_id)


def test_bytes_without_a_piece_are_dropped() -> None:
    values = metadata()
    place = values["tokenizer.ggml.tokens"].index("\u0104")  # the byte 4
    values["tokenizer.ggml.tokens"][place] = "zzzz"
    tokenizer = Tokenizer(Path("t"), from_gguf(values))
    assert tokenizer.missing_bytes == b"\x04"
    assert tokenizer.decode(tokenizer.encode("a\x04b")) == "ab"


WRONG_GGUF: dict[str, tuple[dict[str, Any], str]] = {
    "SentencePiece's": ({"tokenizer.ggml.model": "llama"}, r"tokenizer\.ggml\.model is 'llama'; only 'gpt2'"),
    "another pre-tokenizer": (
        {"tokenizer.ggml.pre": "deepseek-coder"},
        r"pre is 'deepseek-coder'; supported ",
    ),
    "no end": ({"tokenizer.ggml.eos_token_id": None}, "names no piece that ends an answer"),
    "an end outside": ({"tokenizer.ggml.eos_token_id": 99999}, "eos = 99999"),
    "types that do not match": ({"tokenizer.ggml.token_type": [1]}, "but 1 types of pieces"),
    "a character that is no byte": ({"tokenizer.ggml.tokens": ["你", "a"]}, r"你"),
}


@pytest.mark.parametrize("case", WRONG_GGUF)
def test_unsupported_gguf_is_refused_by_name(case: str) -> None:
    changes, message = WRONG_GGUF[case]
    values = metadata() | changes
    if case == "a character that is no byte":
        values["tokenizer.ggml.tokens"] = [*metadata()["tokenizer.ggml.tokens"][:-1], "a"]
        values["tokenizer.ggml.tokens"][5], values["tokenizer.ggml.merges"] = "你", []
    with pytest.raises(ValueError, match=message):
        from_gguf(values)


def test_a_missing_key() -> None:
    with pytest.raises(ValueError, match=r"no tokenizer\.ggml\.merges"):
        from_gguf({key: value for key, value in metadata().items() if key != "tokenizer.ggml.merges"})


def removing(value: dict[str, Any], step: dict[str, Any]) -> None:
    value["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [step | {"invert": False}, value["pre_tokenizer"]]}


WRONG_JSON: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "byte fallback": (lambda value: value["model"].update(byte_fallback=True), "it falls back to bytes, as Llama's"),
    "Unigram": (lambda value: value["model"].update(type="Unigram"), "its model is Unigram"),
    "dropout": (lambda value: value["model"].update(dropout=0.5), "it leaves out merges at random"),
    "a piece that strips": (
        lambda value: [piece.update(lstrip=True) for piece in value["added_tokens"] if not piece["special"]],
        "is found in texts and strips white space",
    ),
    "NFC": (lambda value: value.update(normalizer={"type": "NFC"}), "it normalises texts"),
    "Metaspace": (
        lambda value: value.update(pre_tokenizer={"type": "Metaspace"}),
        "its pre-tokenizer is not ByteLevel",
    ),
    "Split that removes": (
        lambda value: removing(value, {"type": "Split", "pattern": {"String": "BAR"}, "behavior": "Removed"}),
        "its pre-tokenizer removes text",
    ),
    "a delimiter": (
        lambda value: removing(value, {"type": "CharDelimiterSplit", "delimiter": "x"}),
        "its pre-tokenizer removes text",
    ),
    "a space in front": (lambda value: value["pre_tokenizer"].update(add_prefix_space=True), "changes text"),
    "no special token": (lambda value: value.update(added_tokens=[]), "no added token for its bos_token"),
}


@pytest.mark.parametrize("case", WRONG_JSON)
def test_unsupported_tokenizer_json_is_refused_by_name(case: str, tmp_path: Path) -> None:
    change, message = WRONG_JSON[case]
    tokenizer = Tokenizer(Path("t"), from_gguf(metadata() | {"tokenizer.ggml.pre": "gpt-2"}))
    folder = exported(tokenizer, tmp_path / "out")
    value = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    change(value)
    (folder / "tokenizer.json").write_text(json.dumps(value), "utf-8")
    with pytest.raises(ValueError, match=message):
        from_hugging_face(folder)


def test_a_normalizer_without_steps_is_none(tmp_path: Path) -> None:
    path = exported(Tokenizer(Path("t"), from_gguf(metadata())), tmp_path) / "tokenizer.json"
    empty = {"normalizer": {"type": "Sequence", "normalizers": []}}
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | empty), "utf-8")
    tokenizer = Tokenizer(Path("t"), from_hugging_face(tmp_path))
    assert compare(tokenizer, tmp_path, TEXTS).lines == len(TEXTS)


def test_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"has neither tokenizer\.json nor vocab\.json"):
        from_hugging_face(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ends": []}, "ends is empty"),
        ({"pad": "0"}, r"pad must be a JSON int, not '0'"),
        ({"doc": 5}, r"doc = 5 is not the id of a special token"),
        ({"special_tokens": {"bos_token": "x"}}, r"special_tokens\.bos_token = 'x' is not a special token"),
        ({"format": "mindllm imported tokenizer 2"}, "this version reads 'mindllm imported tokenizer 1'"),
    ],
)
def test_a_wrong_field_of_the_file(change: dict[str, Any], message: str) -> None:
    content = json.loads(from_gguf(metadata())) | change
    with pytest.raises(ValueError, match=message):
        Tokenizer(Path("t"), json.dumps(content).encode())


def added(entry: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda content: content.update(added_tokens=entry)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (added(None), r"tokenizer\.json: added_tokens must be a list of objects"),
        (added(["<doc>"]), r"tokenizer\.json: added_tokens must be a list of objects"),
        (added([{"id": 3}]), r"tokenizer\.json: added_tokens must be a list of objects"),
        (lambda content: content.update(model="BPE"), "its model is None"),
        (lambda content: content.update(pre_tokenizer="ByteLevel"), "its pre-tokenizer is not ByteLevel"),
        (lambda content: content["model"]["vocab"].update(a=4_000_000_000), r"and ids up to 4,000,000,000: it is dama"),
    ],
    ids=["null", "texts", "no content", "model", "pre-tokenizer", "far id"],
)
def test_a_malformed_tokenizer_json(change: Callable[[dict[str, Any]], Any], message: str, tmp_path: Path) -> None:
    path = exported(Tokenizer(Path("t"), from_gguf(metadata())), tmp_path) / "tokenizer.json"
    content = json.loads(path.read_text("utf-8"))
    change(content)
    path.write_text(json.dumps(content), "utf-8")
    with pytest.raises(ValueError, match=message):
        from_hugging_face(tmp_path)


ONE = {"name": "default", "template": CHATML}
TEMPLATE = r"tokenizer_config\.json: chat_template "
WRONG_SETTINGS: dict[str, tuple[dict[str, Any], str]] = {
    "no default": ({"chat_template": [ONE | {"name": "chatml"}]}, TEMPLATE + "has the names chatml, and none is 'def"),
    "a list of texts": ({"chat_template": ["x"]}, TEMPLATE + "must be a text, or a list of objects with name and"),
    "no template": ({"chat_template": [{"name": "default"}]}, TEMPLATE + "must be a text, or a list of objects"),
    "another token": ({"added_tokens_decoder": {"402": {"content": "<tool>"}}}, r"lacks, .* '<tool>' \(id 402\)"),
    "another id": ({"added_tokens_decoder": {"7": {"content": "<|im_end|>"}}}, r"other ids: '<\|im_end\|>' \(id 7\)"),
    "texts by id": ({"added_tokens_decoder": {"402": "<tool>"}}, r"added_tokens_decoder must hold objects with"),
}


@pytest.mark.parametrize("case", WRONG_SETTINGS)
def test_settings_that_would_be_lost_are_refused(case: str, tmp_path: Path) -> None:
    changes, message = WRONG_SETTINGS[case]
    path = exported(Tokenizer(Path("t"), from_gguf(metadata())), tmp_path) / "tokenizer_config.json"
    (tmp_path / "chat_template.jinja").unlink()
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | changes), "utf-8")
    with pytest.raises(ValueError, match=message):
        from_hugging_face(tmp_path)


def test_the_default_of_several_templates_is_taken(tmp_path: Path) -> None:
    tokenizer = Tokenizer(Path("t"), from_gguf(metadata()))
    path = exported(tokenizer, tmp_path) / "tokenizer_config.json"
    (tmp_path / "chat_template.jinja").unlink()
    added = {str(id): {"content": name} for name, id in tokenizer.symbols.items()}
    several = {"chat_template": [{"name": "tool_use", "template": "x"}, ONE], "added_tokens_decoder": added}
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | several), "utf-8")
    assert Tokenizer(Path("t"), from_hugging_face(tmp_path)).chat_template == CHATML


def test_a_template_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    path = exported(Tokenizer(Path("t"), from_gguf(metadata())), tmp_path) / "chat_template.jinja"
    path.write_bytes("你好".encode("gbk"))
    with pytest.raises(ValueError, match=r"chat_template\.jinja: damaged: not UTF-8 text at byte 0"):
        from_hugging_face(tmp_path)


def test_the_end_of_an_answer_may_stand_in_config_json(tmp_path: Path) -> None:
    tokenizer = Tokenizer(Path("t"), from_gguf(metadata()))
    path = exported(tokenizer, tmp_path) / "tokenizer_config.json"
    settings = json.loads(path.read_text("utf-8"))
    del settings["eos_token"]
    path.write_text(json.dumps(settings), "utf-8")
    with pytest.raises(ValueError, match="names no piece that ends an answer: add eos_token"):
        from_hugging_face(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"eos_token_id": tokenizer.ends[0]}))
    path.write_text(json.dumps(settings), "utf-8-sig")  # with a byte order mark
    assert Tokenizer(Path("t"), from_hugging_face(tmp_path)).ends == tokenizer.ends


@pytest.mark.parametrize("size", [40, 5000])
def test_a_file_cut_off(size: int) -> None:
    with pytest.raises(ValueError, match=r"t is not JSON \(or is cut off\)"):
        Tokenizer(Path("t"), from_gguf(metadata())[:size])


@pytest.mark.slow
@pytest.mark.skipif(not RESEARCH_TEXT.exists(), reason="the research text is not beside this checkout")
def test_smollm2_on_ten_thousand_lines(smollm2: Path) -> None:
    """Ids equal those of transformers' GGUF reader with the split at digits that it leaves out."""
    gguf = pytest.importorskip("gguf", reason="gguf is not installed")
    fields = gguf.GGUFReader(smollm2).fields
    tokenizer = Tokenizer(smollm2, from_gguf({key: field.contents() for key, field in fields.items()}))
    theirs = transformers.AutoTokenizer.from_pretrained(smollm2.parent, gguf_file=smollm2.name)
    splits = tokenizers.pre_tokenizers
    theirs.backend_tokenizer.pre_tokenizer = splits.Sequence(
        [splits.Digits(individual_digits=True), splits.ByteLevel(add_prefix_space=False)]
    )
    compared = 0
    for language in ("zh", "en"):
        files = sorted((RESEARCH_TEXT / language).glob("*.gz"))
        lines = [line for file in files for line in islice(lines_of(file), 5000 // len(files) + 1)]
        ids = theirs(lines, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        for line, mine, other in zip(lines, tokenizer.encode_batch(lines), ids, strict=True):
            assert mine.tolist() == other, line
        compared += len(lines)
    assert compared >= 10_000


def test_an_export_that_transformers_saved_again_is_unchanged(tmp_path: Path) -> None:
    tokenizer = Tokenizer(tmp_path / hugging_face_folder.OUR_TOKENIZER, from_gguf(metadata()))
    folder = exported(tokenizer, tmp_path)
    tokenizer.path.write_bytes(tokenizer.model)
    before = (folder / "tokenizer.json").read_text("utf-8")
    transformers.AutoTokenizer.from_pretrained(folder).save_pretrained(folder)
    assert (folder / "tokenizer.json").read_text("utf-8") != before
    assert hugging_face_folder._tokenizer(folder) == tokenizer.model
