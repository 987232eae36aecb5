"""Measures items/s of log-likelihoods on 5-shot CMMLU beside lm-evaluation-harness' `hf` class.

python benchmarks/evaluate.py --cmmlu DIR [--subjects 8] [--batch 16] [--rounds 2] [--whole] [--markdown FILE]

--cmmlu is the published folder with `dev` and `test` (github.com/haonan-li/CMMLU). The model has 3.2M random parameters
in the shape of Llama, which transformers computes with a class of its own; both read one folder of weights. The
tokenizer is a SentencePiece model of 8,192 pieces, trained on CMMLU's text. Prompts are the harness's: five examples,
the question, " A" to " D". Both ways get the same token ids and the same batch size, and tokenization is not timed:
`likelihoods` of ours, and `_loglikelihood_tokens` of `lm_eval.models.huggingface.HFLM`, which computes letters of one
question once as well (its logits_cache). Both compute in float32 with all cores. The ways take turns; a first
round, of ours on all and of `hf` on 16 items, does not count. `--whole` also measures all subjects, ours alone, with
the compilation of what the others did not need.

The seconds are the fastest of --rounds, with the seconds of processor time of that round; the caption has the machine's
load. Likelihoods are compared item by item. `hf` needs accelerate, which the project does not: python -m pip install
--target DIR --no-deps accelerate, and PYTHONPATH=DIR:. for the command.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from timed import Spent, timed

from mindllm_jax.evaluation.likelihood import Query, likelihoods
from mindllm_jax.model.config import Model
from mindllm_jax.model.decoder import Decoder
from mindllm_jax.tokenization.tokenizer import Tokenizer

MODEL = Model(
    vocab_size=8192, layers=4, width=192, heads=3, head_dim=64, mlp_dim=512, max_seq_len=2048, tied=True,
    residual="pre_norm", mlp="swiglu", compute_dtype="float32",
)  # fmt: skip
SHOTS = 5
LETTERS = "ABCD"

Way = Callable[[list[Query]], list[float]]


def main() -> None:
    """Measures, prints and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cmmlu", type=Path, required=True, help="folder with dev and test")
    parser.add_argument("--subjects", type=int, default=8, help="the first so many, for the comparison")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--whole", action="store_true")
    parser.add_argument("--markdown", type=Path)
    arguments = parser.parse_args()

    import jax
    import torch
    import transformers

    from mindllm_jax.files import write_text
    from mindllm_jax.reporting.tables import Table
    from mindllm_jax.run_records import git_sha

    prompts = read_prompts(arguments.cmmlu)
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = train(prompts, Path(folder))
        decoder, peer = models(tokenizer, Path(folder), arguments.batch)
    subjects = [encoded(tokenizer, texts) for texts in prompts]
    queries = [query for subject in subjects[: arguments.subjects] for query in subject]
    ways: dict[str, Way] = {
        "ours": lambda queries: [answer.log for answer in likelihoods(decoder, queries, batch_size=arguments.batch)],
        "harness, hf": lambda queries: [log for log, _ in peer._loglikelihood_tokens(requests(queries))],
    }
    rows: list[tuple[Any, ...]] = []
    best: dict[str, tuple[Spent, list[float]]] = {}
    ways["ours"](queries)
    ways["harness, hf"](queries[: 16 * len(LETTERS)])
    for _ in range(arguments.rounds):
        for name, way in ways.items():
            measured = timed(partial(way, queries))
            if name not in best or measured[0].wall < best[name][0].wall:
                best[name] = measured
    (_, logs), (peer_spent, peer_logs) = best["ours"], best["harness, hf"]
    for name, (spent, _) in best.items():
        rows.append(row(name, spent, queries, peer_spent))
    if arguments.whole:
        everything = [query for subject in subjects for query in subject]
        spent, _ = timed(partial(ways["ours"], everything))
        rows.append(row("ours, whole CMMLU", spent, everything, None))
    difference = np.abs(np.subtract(logs, peer_logs)).max()
    lengths = [len(query.context) for query in queries]
    caption = (
        f"{MODEL.layers} layers of {MODEL.width}, vocabulary {MODEL.vocab_size:,}; batches of {arguments.batch}; "
        f"prompts of {np.mean(lengths):.0f} tokens on average, {max(lengths)} at most; {os.cpu_count()} cores, load "
        f"{os.getloadavg()[1]:.1f} over five minutes; largest difference of log-likelihoods {difference:.1e}; jax "
        f"{jax.__version__}, torch {torch.__version__}, transformers {transformers.__version__}; commit {git_sha()}"
    )
    columns = ("way", "items", "seconds", "items/s", "processor seconds", "times hf", "times hf, processor time")
    table = Table(columns, rows, caption)
    print(table.markdown())
    print(json.dumps({"lines": [dict(zip(columns, line, strict=True)) for line in rows]}))
    if arguments.markdown:
        write_text(arguments.markdown, table.markdown() + "\n")


def read_prompts(folder: Path) -> list[list[str]]:
    """Returns the prompts of every subject, in the harness's format."""

    def items(file: Path) -> list[tuple[str, str]]:
        with file.open(encoding="utf-8", newline="") as lines:
            return [
                (
                    "\n".join([line["Question"].strip(), *(f"{x}. {line[x]}" for x in LETTERS), "答案："]),
                    line["Answer"],
                )
                for line in csv.DictReader(lines)
            ]

    def prompts(test: Path) -> list[str]:
        examples = items(folder / "dev" / test.name)[:SHOTS]
        shots = "".join(f"{question} {answer}\n\n" for question, answer in examples)
        return [shots + question for question, _ in items(test)]

    files = sorted((folder / "test").glob("*.csv"))
    if not files:
        raise FileNotFoundError(f"{folder / 'test'} has no .csv file: give the folder of CMMLU that holds dev and test")
    return [prompts(file) for file in files]


def train(prompts: Sequence[Sequence[str]], folder: Path) -> Tokenizer:
    """Trains the tokenizer on the prompts of every subject, the examples once."""
    from mindllm_jax.tokenization.sentencepiece_training import train_model

    texts = ["\n".join([texts[0], *(text.rpartition("\n\n")[2] for text in texts[1:])]) for texts in prompts]
    file = folder / "tokenizer.model"
    file.write_bytes(train_model(texts, vocab_size=MODEL.vocab_size, character_share=0.5, han_run=8))
    return Tokenizer.load(file)


def models(tokenizer: Tokenizer, folder: Path, batch: int) -> tuple[Decoder, Any]:
    """Writes random weights for transformers; returns the decoder and the harness's `hf` class that read them."""
    import torch
    import transformers
    from lm_eval.models.huggingface import HFLM
    from safetensors.numpy import save_file

    from mindllm_jax.interop.hugging_face_folder import OUR_TOKENIZER
    from mindllm_jax.interop.import_run import import_run
    from mindllm_jax.interop.llama import LLAMA
    from mindllm_jax.interop.tokenizer import hugging_face_files
    from mindllm_jax.training.load_run import load_decoder

    hf, draw = folder / "hf", np.random.default_rng(0)
    hf.mkdir()

    def tensor(shape: tuple[int, ...]) -> np.ndarray:
        # Norms are ones; the matrices give activations of about one.
        scale = shape[-1] ** -0.5
        return np.ones(shape, np.float32) if len(shape) == 1 else draw.standard_normal(shape, np.float32) * scale

    weights = {part.name: tensor(part.shape) for part in LLAMA.counterparts(MODEL)}
    save_file(weights, hf / "model.safetensors", metadata={"format": "pt"})
    config = LLAMA.config(MODEL) | {"tie_word_embeddings": True, "dtype": "float32"}
    (hf / "config.json").write_text(json.dumps(config))
    (hf / OUR_TOKENIZER).write_bytes(tokenizer.model)
    for name, content in hugging_face_files(tokenizer, model_max_length=MODEL.max_seq_len).items():
        (hf / name).write_text(content, encoding="utf-8")
    import_run(hf, folder / "run", {})
    torch.set_num_threads(os.cpu_count() or 1)
    peer = transformers.AutoModelForCausalLM.from_pretrained(hf, dtype=torch.float32)
    read = transformers.AutoTokenizer.from_pretrained(hf)
    hf_class: Any = HFLM  # whose base class hides its arguments from type checkers
    return load_decoder(folder / "run").decoder, hf_class(pretrained=peer.eval(), tokenizer=read, batch_size=batch)


def encoded(tokenizer: Tokenizer, prompts: Sequence[str]) -> list[Query]:
    """Returns a query for each prompt and letter."""
    letters = [tokenizer.encode(f" {letter}").tolist() for letter in LETTERS]
    contexts = ([tokenizer.doc_id, *ids.tolist()] for ids in tokenizer.encode_batch(prompts))
    return [Query(context, letter) for context in contexts for letter in letters]


def requests(queries: Sequence[Query]) -> list[tuple[tuple[str, str], Sequence[int], Sequence[int]]]:
    """Returns the queries as the harness has them: the texts, which it only stores, and ids."""
    return [(("", ""), query.context, query.continuation) for query in queries]


def row(name: str, spent: Spent, queries: Sequence[Query], peer: Spent | None) -> tuple[Any, ...]:
    """Returns a line of the table."""
    items = len(queries) // len(LETTERS)
    times = (peer.wall / spent.wall, peer.processor / spent.processor) if peer else (None, None)
    return (name, items, spent.wall, items / spent.wall, spent.processor, *times)


if __name__ == "__main__":
    main()
