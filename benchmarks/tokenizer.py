"""Trains tokenizers on user-supplied text and measures them on its held-out documents.

python benchmarks/tokenizer.py --inputs DIR [DIR …] --train "FILE.gin [SETTING=VALUE …]" [--train …]
    [--held_out FRACTION] [--markdown FILE]

The held-out documents are a fraction --held_out (0.01), the split of PrepareData.

Each --train is one run of launch/train_tokenizer.py in a separate process, with its time and memory. If one extends
GPT-2, GPT-2's vocabulary without the added pieces is measured too. Prints tables.

Bytes per token: of UTF-8, higher is shorter. Coverage: the share of characters that are pieces by themselves. Byte
tokens: the share of tokens that are bytes of a character without a piece.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from mindllm_jax.files import write_text
from mindllm_jax.reporting.tables import Cell, Table
from mindllm_jax.text.documents import Document, read_documents
from mindllm_jax.text.input_files import input_files
from mindllm_jax.tokenization.report import by_source, measure
from mindllm_jax.tokenization.tokenizer import Tokenizer
from mindllm_jax.tokenization.training import TrainTokenizer, sample_documents

ROOT = Path(__file__).parents[1]


class Trained(NamedTuple):
    """A tokenizer, its training report, and the time and memory of training it."""

    tokenizer: Tokenizer
    report: dict[str, Any]
    wall: float
    processor: float
    memory: float


def train(words: str, config: TrainTokenizer, folder: Path) -> Trained:
    """Runs the entry point on the inputs of `config`; processor seconds and GiB are those of its process."""
    file, *settings = shlex.split(words)
    output = folder / "tokenizer.model"
    settings += [f"TrainTokenizer.inputs={config.inputs!r}", f"TrainTokenizer.held_out={config.held_out}"]
    given = [f"--gin.{setting}" for setting in (*settings, f"TrainTokenizer.output={output}")]
    command = [sys.executable, ROOT / "launch/train_tokenizer.py", "--gin", file, *given]
    begin = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=os.environ | {"PYTHONPATH": str(ROOT)})
    _, status, used = os.wait4(process.pid, 0)
    wall = time.perf_counter() - begin
    if status:
        raise SystemExit(f"training by {words} failed; its message is above")
    report = json.loads(output.with_suffix(".json").read_text(encoding="utf-8"))
    memory = used.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 2**30
    return Trained(Tokenizer.load(output), report, wall, used.ru_utime + used.ru_stime, memory)


def gpt2_alone(extended: Tokenizer) -> Tokenizer:
    """Returns the tokenizer without the pieces that were added to GPT-2's."""
    content = json.loads(extended.model)
    symbols = [token for token in content["added_tokens"] if token["special"]]
    first = len(content["model"]["vocab"]) - 1
    content["added_tokens"] = [token | {"id": first + n} for n, token in enumerate(symbols)]
    return Tokenizer(extended.path, json.dumps(content).encode())


def tables(trained: list[list[Cell]], figures: dict[str, dict[str, dict[str, Any]]]) -> list[Table]:
    """Returns a table of the training runs, and one of each figure by source and tokenizer."""
    names = ("tokenizer", "settings", "ids", "sample MB", "seconds", "processor", "GiB", "longest Han pieces")
    made = [Table(names, trained, "Training: wall-clock and processor seconds, and peak memory.")]
    titles = {
        "bytes_per_token": "Bytes per token of held-out documents.",
        "character_coverage": "Coverage.",
        "byte_token_share": "Byte tokens.",
    }
    sources = next(iter(figures.values()))
    for figure, caption in titles.items():
        rows = [[source, *(of[source][figure] for of in figures.values())] for source in sources]
        made.append(Table(("text", *figures), rows, caption))
    return made


def main() -> None:
    """Trains, measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", nargs="+", required=True, metavar="DIR")
    parser.add_argument("--train", action="append", required=True, metavar='"FILE.gin [SETTING=VALUE …]"')
    parser.add_argument("--held_out", type=float, default=0.01, metavar="FRACTION")
    parser.add_argument("--markdown", type=Path, help="a file for the tables")
    arguments = parser.parse_args()

    measured: dict[str, list[Document]] = {}
    config = TrainTokenizer(tuple(arguments.inputs), "not written.model", held_out=arguments.held_out)
    documents = (document for file in input_files(config.inputs) for document in read_documents(file))
    for lang, outside in sample_documents(documents, config).held_out.items():
        measured |= {f"{lang}: {name}": of for name, of in by_source(outside).items()} | {f"all of {lang}": outside}

    trained: list[list[Cell]] = []
    figures: dict[str, dict[str, dict[str, Any]]] = {}
    command = shlex.join(["python", "benchmarks/tokenizer.py", *sys.argv[1:]])
    text = ""
    with tempfile.TemporaryDirectory() as folder:
        for number, words in enumerate(arguments.train, start=1):
            made = train(words, config, Path(folder) / str(number))
            sample = sum(language["trained_bytes"] for language in made.report["languages"].values())
            han = " ".join(made.report["longest_han_pieces"][:3])
            cost = [made.wall, made.processor, made.memory]
            trained.append([number, words, made.tokenizer.vocab_size, sample / 1e6, *cost, han])
            tokenizers = {str(number): made.tokenizer}
            if made.report["settings"]["extend"] == "gpt2":
                tokenizers["GPT-2"] = gpt2_alone(made.tokenizer)
            for name, tokenizer in tokenizers.items():
                figures[name] = {source: measure(tokenizer, of) for source, of in measured.items()}
            text = f"# Tokenizers\n\nRebuilt by `{command}`; its docstring explains the figures.\n\n"
            text += "\n".join(table.markdown() for table in tables(trained, figures))
            if arguments.markdown:
                write_text(arguments.markdown, text)
    print(text)


if __name__ == "__main__":
    main()
