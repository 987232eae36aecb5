"""Measures what runs find of one language in another, on Flores-200: retrieval and translation gain.

python benchmarks/bilingual.py LABEL=RUN … --flores FOLDER [--sentences N] [--untrained] [--markdown FILE]

FOLDER holds `eng_Latn.devtest` and `zho_Hans.devtest`. `mindllm_jax/evaluation/bilingual.py` documents the measures.
`--untrained` adds the first run with fresh parameters. Columns: accuracy of retrieval in per cent, and by counts of
shared pieces alone, without a model; bits per byte of the target without context, after the source of another sentence
and after its own; the two gains in bits per byte; ± is one standard error over sentences; sentences that are too
long for the context.
Prints a table and JSON.
"""

from __future__ import annotations

import argparse
import json
from datetime import date
from pathlib import Path
from typing import Any

LANGUAGES = ("en", "zh")


def main() -> None:
    """Measures each run, prints and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", help="LABEL=RUN, a label and a run's folder")
    parser.add_argument("--flores", type=Path, required=True, help="folder of the aligned sentences")
    parser.add_argument("--sentences", type=int, help="from the beginning; all by default")
    parser.add_argument("--untrained", action="store_true", help="also the first run with fresh parameters")
    parser.add_argument("--markdown", type=Path)
    arguments = parser.parse_args()

    from mindllm_jax.evaluation.bilingual import Bilingual, bilingual, read_pairs
    from mindllm_jax.files import write_text
    from mindllm_jax.reporting.tables import Table
    from mindllm_jax.run_records import git_sha
    from mindllm_jax.training.load_run import load_decoder

    files = (str(arguments.flores / "eng_Latn.devtest"), str(arguments.flores / "zho_Hans.devtest"))
    pairs = read_pairs(Bilingual(files, LANGUAGES, arguments.sentences))
    named = [run.partition("=")[::2] for run in arguments.runs]
    models = [(label, Path(run), False) for label, run in named]
    if arguments.untrained:
        models.insert(0, (f"{models[0][0]}, untrained", models[0][1], True))
    results: dict[str, dict[str, Any]] = {}
    for label, run, untrained in models:
        loaded = load_decoder(run, untrained=untrained)
        results[label] = bilingual(loaded.decoder, loaded.tokenizer, pairs, languages=LANGUAGES, batch_size=4)
        print(json.dumps({label: results[label]}), flush=True)

    rows = [(label, name, *cells(result[name])) for label, result in results.items() for name in ("en-zh", "zh-en")]
    columns = (
        "model",
        "direction",
        "retrieval, %",
        "pieces, %",
        "none",
        "wrong",
        "source",
        "gain over none",
        "over wrong",
        "too long",
    )
    caption = (
        f"{len(pairs)} sentences of Flores-200 devtest; chance of retrieval {100 / len(pairs):.2f} %; digits and names"
        " written alike find the translations under `pieces` without a model."
    )
    table = Table(columns, rows, caption).markdown()
    print(table)
    if arguments.markdown:
        count = f" --sentences {arguments.sentences}" if arguments.sentences else ""
        extra = " --untrained" if arguments.untrained else ""
        command = f"python benchmarks/bilingual.py {' '.join(arguments.runs)} --flores FOLDER{count}{extra}"
        head = (
            f"# Bilingual measure\n\nRebuilt by `{command} --markdown FILE`, which documents the columns; float32 on a"
            f" CPU; {date.today()}, commit {git_sha()}.\n\n"
        )
        write_text(arguments.markdown, head + table)


def cells(values: dict[str, Any]) -> tuple[str | int, ...]:
    """Formats the values of a direction."""
    retrieval = f"{100 * values['retrieval']:.1f} ± {100 * values['retrieval_stderr']:.1f}"
    bits = [f"{values['bits_per_byte'][name]:.3f}" for name in ("none", "wrong", "source")]
    gains = [f"{values[name]:+.4f} ± {values[f'{name}_stderr']:.4f}" for name in ("gain_over_none", "gain_over_wrong")]
    return retrieval, f"{100 * values['pieces']:.1f}", *bits, *gains, values["too_long"]


if __name__ == "__main__":
    main()
