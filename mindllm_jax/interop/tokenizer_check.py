"""Writes a tokenizer for Hugging Face's libraries and compares the ids of both."""

import tempfile
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from mindllm_jax.files import write_text
from mindllm_jax.interop.tokenizer import hugging_face_files
from mindllm_jax.reporting.tables import Table
from mindllm_jax.text.documents import read_documents
from mindllm_jax.text.input_files import input_files
from mindllm_jax.tokenization.tokenizer import Tokenizer

PROBES = (
    *("", " ", "   ", "\t", " \t ", "\r\n", "\r", "\0", "a  b", "  x", "x  ", "\u3000", "\u2028", "\u200b", "\ufeff"),
    *("\n" * n for n in range(1, 10)),
    *("\n \n", "x\n\ny", "\n\tif x:\n\t\treturn  y\n\n\n"),
    *("\u2581", " \u2581 a\u2581b", "\u2585", "\u2047", "\ufffd", "<0x41>", "<unk>", "<s>", "</s>"),
    *("<pad>", "<doc>", "<user>\n你好\n<assistant>\n", "<|endoftext|>", "x<doc> <doc>y"),
    *("1969年7月20日 3.14159", "１２３", "𠮷野家", "龘靐齉", "道可道，非常道。", "naïve e\u0301 ﬁ Ⅷ ①", "Ελλάς"),
    *("😀😀", "👩\u200d🔬👨🏽\u200d🚀", "🇨🇳", "\ue000", "\U0010ffff", "mixed中文and English，夹杂。"),
)
"""Difficult texts: white space, line ends, names of symbols, marks of tokenizers, emoji, rare characters."""


class Compared(NamedTuple):
    """The number of texts with equal ids, and of these ids."""

    lines: int
    tokens: int


def write_tokenizer(
    tokenizer: Tokenizer, output: Path, check_on: Sequence[str] = (), check_lines: int = 10_000
) -> Table:
    """Writes the folder if transformers gives the same ids as `Tokenizer` for every text and decodes them to the text.

    Args:
        tokenizer: of any kind.
        output: the folder; another tokenizer in it is not replaced.
        check_on: document files, or folders of them, whose ids are compared in addition to `PROBES`.
        check_lines: the number of their lines to compare, an equal share per file.

    Returns a table of the comparison.

    Raises:
        OSError: a file of `check_on` is missing, or the folder cannot be written.
        ValueError: the ids of a text differ, or `output` holds another tokenizer; nothing is written.
        ImportError: the libraries are not installed.
    """
    files = hugging_face_files(tokenizer)
    stored = {name: (output / name).read_bytes() for name in files if (output / name).exists()}
    if others := [name for name, content in stored.items() if content != files[name].encode()]:
        raise ValueError(
            f"Convert.output = {output} holds another tokenizer: {', '.join(others)} would be replaced; remove it, or "
            "give another folder"
        )
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            write_text(Path(folder) / name, content)
        compared = compare_all(tokenizer, Path(folder), check_on, check_lines)
    for name, content in files.items():
        write_text(output / name, content)
    rows = [[name, *figures] for name, figures in compared.items()]
    total = [sum(column) for column in zip(*compared.values(), strict=True)]
    return Table(("texts of", "lines", "tokens, all equal"), [*rows, ["all", *total]])


def compare_all(
    tokenizer: Tokenizer, folder: Path, check_on: Sequence[str] = (), check_lines: int = 10_000
) -> dict[str, Compared]:
    """Compares the ids of difficult texts, of every piece, and of lines of documents, by the source of the texts.

    Raises as `compare` does.
    """
    texts = {"difficult texts": [*PROBES, *map(tokenizer.piece, range(tokenizer.vocab_size))]}
    if check_on:
        documents = input_files(check_on)
        share = -(-check_lines // len(documents))
        texts |= {file.name: list(islice(lines_of(file), share)) for file in documents}
    return {name: compare(tokenizer, folder, some) for name, some in texts.items()}


def compare(tokenizer: Tokenizer, folder: Path, texts: Sequence[str]) -> Compared:
    """Encodes the texts with our tokenizer and with transformers' of the folder, and decodes with the latter.

    Raises:
        ValueError: ids differ, those before a text among them, or a round trip changes a text.
        ImportError: transformers is not installed.
    """
    try:
        from transformers import AutoTokenizer
    except ImportError:
        raise ImportError("a conversion is checked with transformers; install mindllm-jax[hf]") from None
    converted = AutoTokenizer.from_pretrained(folder)
    ours = tokenizer.encode_batch(texts)
    # Names of symbols in texts are text.
    settings = {"add_special_tokens": False, "split_special_tokens": True}
    theirs = converted(list(texts), **settings)["input_ids"] if texts else []
    for text, mine, other in zip(texts, ours, theirs, strict=True):
        if mine.tolist() != other:
            place = next((n for n, pair in enumerate(zip(mine, other, strict=False)) if pair[0] != pair[1]), len(other))
            before = tokenizer.decode(mine[:place])
            raise ValueError(
                f"the conversion is wrong, nothing was written: {text[len(before) :][:40]!r} after {before[-40:]!r}"
                f" has the ids {mine[place:][:8].tolist()} and, converted, {other[place:][:8]}"
            )
        if converted.decode(other, skip_special_tokens=True) != text:
            raise ValueError(f"the conversion is wrong, nothing was written: round-trip mismatch for {text[:80]!r}")
    first = converted("a")["input_ids"]
    if first != [*tokenizer.first_ids, *tokenizer.encode("a")]:
        raise ValueError(
            f"the conversion is wrong, nothing was written: before a text stand {list(tokenizer.first_ids)}, but"
            f" converted, 'a' has the ids {first}"
        )
    return Compared(len(texts), sum(map(len, ours)))


def lines_of(file: Path) -> Iterator[str]:
    """Yields the lines of a file's documents, line ends included."""
    for document in read_documents(file):
        yield from document.text.splitlines(keepends=True)
