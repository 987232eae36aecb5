"""Compares our model for lm-evaluation-harness with the harness's own class `hf` on the exported weights.

A model is scored twice, by our decoder and by PyTorch on the CPU, both in float32, on the same items of MMLU, CMMLU,
GSM8K, HellaSwag and Flores, drawn with a seed from those whose continuations are shorter than the model's positions.
Continuations are the choices, or the reference of a set that is generated. Columns: the largest difference of a
continuation's log-likelihood in nats, and how far either side is there from `hf` in float64; items whose answer (the
likeliest choice) and continuations whose `greedy` differ; greedy generations whose text equals that of `hf`, those
whose tokens are all the best ones over there and whose text is another, because the library tokenizers decodes bytes
that are no character otherwise, those that leave `hf` at a near-tie (its two best logits differ by less than 1e-4),
and all others.

    python benchmarks/parity.py --eval EVAL --model demo=runs/demo/pretrain --results FILE.json --markdown FILE.md

`--results` keeps the results of each model and set, so that the page can be made in several calls, each of some models
and sets. Needs the extras `eval` and `hf`, and accelerate, which `hf` imports.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from benchmark_items import SETS, Item, read_items
from timed import timed

from mindllm_jax.files import read_json, write_bytes, write_text
from mindllm_jax.reporting.tables import Table

SEED, NEAR_TIE = 0, 1e-4
INTRODUCTION = """# The same scores as lm-evaluation-harness's class `hf`

Rebuilt by `python benchmarks/parity.py`, which documents the columns; the figures of each model and set come from one
call and stand in parity.json, with the seconds of both sides. Two CPU cores that other programs used as well, so the
seconds compare nothing. lm-eval 0.4.13. Rows that are missing were not run.

"""


def main() -> None:
    """Compares each model on each set, prints the table and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--eval", type=Path, required=True, help="folder of benchmarks' raw files")
    parser.add_argument(
        "--model",
        action="append",
        default=[],
        metavar="NAME=RUN[,EXPORT]",
        help="a run and its export, or else it is made",
    )
    parser.add_argument("--gpt_neo", type=Path, metavar="TOKENIZER", help="a random GPT-Neo with this tokenizer too")
    parser.add_argument("--sets", nargs="+", default=SETS, choices=SETS)
    parser.add_argument("--items", type=int, default=200, help="items of each set")
    parser.add_argument("--generate", type=int, default=200, help="prompts of each generated set")
    parser.add_argument("--new_tokens", type=int, default=24)
    parser.add_argument("--shots", type=int, default=0, help="examples before a question of MMLU and CMMLU")
    parser.add_argument("--results", type=Path, help="JSON with the results so far, which are kept")
    parser.add_argument("--markdown", type=Path)
    arguments = parser.parse_args()
    results = read_json(arguments.results) if arguments.results and arguments.results.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        runs: dict[str, list[Path]] = {}
        for model in arguments.model:
            name, _, paths = model.partition("=")
            runs[name] = [Path(path) for path in paths.split(",")]
        if arguments.gpt_neo:
            runs["random GPT-Neo"] = [random_gpt_neo(Path(folder) / "neo", arguments.gpt_neo)]
        for name, (run, *made) in runs.items():
            ours, theirs = both(run, *made or [exported(run, Path(folder) / "exported" / name)])
            for chosen in arguments.sets:
                items = read_items(arguments.eval, chosen, arguments.shots)
                items = draw([item for item in items if fits(ours, item)], arguments.items)
                results.setdefault(name, {})[chosen] = compare(ours, theirs, items, arguments)
                print(name, chosen, results[name][chosen], flush=True)
                if arguments.results:
                    write_text(arguments.results, json.dumps(results, indent=1) + "\n")
    table = table_of(results)
    print(table.markdown())
    if arguments.markdown:
        write_text(arguments.markdown, f"{INTRODUCTION}{table.markdown()}\n")


def fits(ours: Any, item: Item) -> bool:
    """Returns whether all continuations are shorter than the model's positions; `hf` refuses others."""
    return all(len(ids) < ours.decoder.config.max_seq_len for ids in ours.encoder.texts(item.choices))


def draw(items: list[Item], count: int) -> list[Item]:
    """Returns items drawn without replacement, in their order."""
    chosen = np.random.default_rng(SEED).permutation(len(items))[:count]
    return [items[number] for number in sorted(chosen)]


def random_gpt_neo(folder: Path, tokenizer_file: Path) -> Path:
    """Returns a run of random parameters whose architecture is that of transformers' GPT-Neo, 4 layers of width 128."""
    import torch
    from transformers import GPTNeoConfig, GPTNeoForCausalLM

    from mindllm_jax.interop.hugging_face_folder import OUR_TOKENIZER
    from mindllm_jax.interop.import_run import import_run
    from mindllm_jax.tokenization.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(tokenizer_file)
    torch.manual_seed(SEED)
    config = GPTNeoConfig(
        vocab_size=tokenizer.vocab_size, hidden_size=128, num_layers=4, num_heads=4, intermediate_size=512,
        attention_types=[[["global", "local"], 2]], window_size=64, max_position_embeddings=1024,
        initializer_range=0.05,
    )  # fmt: skip
    GPTNeoForCausalLM(config).save_pretrained(folder / "hf")
    (folder / "hf/generation_config.json").unlink()  # ids of another tokenizer
    write_bytes(folder / "hf" / OUR_TOKENIZER, tokenizer.model)
    import_run(folder / "hf", folder / "run", {})
    return folder / "run"


def exported(run: Path, folder: Path) -> Path:
    """Exports a run in float32 and returns the folder."""
    from mindllm_jax.interop.write_weights import export_run

    export_run(run, folder, dtype="float32")
    return folder


def both(run: Path, export: Path) -> tuple[Any, Any]:
    """Returns our model of a run and the harness's class `hf` on its export."""
    import transformers
    from lm_eval.models import huggingface

    import mindllm_jax
    from mindllm_jax.evaluation.harness.model import harness_model

    transformers.logging.set_verbosity_error()
    loaded = mindllm_jax.load(run)
    peer: Any = huggingface.HFLM  # its types are those of another class
    theirs = peer(str(export), trust_remote_code=True, device="cpu", dtype="float32", batch_size=8)
    return harness_model(loaded.decoder, loaded.tokenizer, batch_size=8), theirs


def compare(ours: Any, theirs: Any, items: list[Item], arguments: argparse.Namespace) -> dict[str, Any]:
    """Returns the differences of likelihoods, answers and generations, and the seconds of each side."""
    pairs = [(item.prompt, choice) for item in items for choice in item.choices]
    before = ours.cut, ours.seam_differs
    spent, mine = timed(lambda: ours.loglikelihood(requests("loglikelihood", pairs)))
    theirs_spent, other = timed(lambda: theirs.loglikelihood(requests("loglikelihood", pairs)))
    logs, their_logs = (np.array([log for log, _ in answers]) for answers in (mine, other))
    answers, their_answers = (np.argmax(part.reshape(len(items), -1), 1) for part in (logs, their_logs))
    right = np.array([item.answer for item in items])
    differences = np.abs(logs - their_logs)
    worst = int(differences.argmax())
    exact = in_float64(theirs, pairs[worst])
    result = {
        "items": len(items),
        "shots": arguments.shots,
        "continuations": len(pairs),
        "cut": ours.cut - before[0],
        "seam_differs": ours.seam_differs - before[1],
        "largest_difference": float(differences[worst]),
        "its_log": exact,
        "its_error": float(abs(logs[worst] - exact)),
        "its_error_hf": float(abs(their_logs[worst] - exact)),
        "different_answers": int((answers != their_answers).sum()),
        "different_greedy": sum(a[1] != b[1] for a, b in zip(mine, other, strict=True)),
        "seconds": spent.wall,
        "seconds_hf": theirs_spent.wall,
    }
    if len(items[0].choices) > 1:
        result |= {"accuracy": float((answers == right).mean()), "accuracy_hf": float((their_answers == right).mean())}
    if items[0].until:
        result |= generations(ours, theirs, items[: arguments.generate], arguments.new_tokens)
    return result


def in_float64(theirs: Any, pair: tuple[str, str]) -> float:
    """Returns the log-likelihood of a continuation by `hf` with its parameters and activations in float64."""
    theirs.model.double()
    try:
        ((log, _),) = theirs.loglikelihood(requests("loglikelihood", [pair]))
    finally:
        theirs.model.float()
    return log


def generations(ours: Any, theirs: Any, items: list[Item], new_tokens: int) -> dict[str, int]:
    """Compares greedy generations and returns how many are equal, near-ties, and others."""
    settings = {"until": list(items[0].until), "max_gen_toks": new_tokens, "do_sample": False}
    asked = [(item.prompt, settings) for item in items]
    mine = ours.generate_until(requests("generate_until", asked))
    other = theirs.generate_until(requests("generate_until", asked), disable_tqdm=True)
    # tokenizers decodes each byte that is no character to a mark of its own.
    mine, other = ([re.sub("\ufffd+", "\ufffd", text) for text in texts] for texts in (mine, other))
    different = [item.prompt for item, text, peer in zip(items, mine, other, strict=True) if text != peer]
    gaps = [gap_where_they_part(ours, theirs, prompt, new_tokens) for prompt in different]
    ties = sum(gap is not None and gap < NEAR_TIE for gap in gaps)
    return {
        "generations": len(items),
        "equal": len(items) - len(different),
        "decoded_otherwise": gaps.count(None),
        "near_ties": ties,
        "unequal": len(different) - gaps.count(None) - ties,
    }


def gap_where_they_part(ours: Any, theirs: Any, prompt: str, new_tokens: int) -> float | None:
    """Returns the difference of `hf`'s two best logits at our first token that is not the best one over there.

    None where all are, in a forward pass over prompt and generation: the same tokens, of which the text is another.
    """
    import torch

    from mindllm_jax.generation.engine import generate
    from mindllm_jax.generation.sampling import Sampling

    (ids,) = ours.encoder.prompts([prompt])
    sampling = Sampling(temperature=0.0, top_k=None, max_tokens=new_tokens)
    (completion,) = generate(ours.decoder, ours.tokenizer, [ids], sampling, stop_ids=ours.tokenizer.ends, truncate=True)
    tokens = torch.tensor(completion.tokens)
    with torch.inference_mode():
        logits = theirs.model(torch.tensor([[*ids[completion.cut :], *completion.tokens]])).logits[0]
    best = logits[-len(tokens) - 1 : -1].topk(2)
    parted = torch.nonzero(best.indices[:, 0] != tokens)
    return float(best.values[parted[0, 0]].diff().abs()) if len(parted) else None


def requests(kind: Any, arguments: list[Any]) -> list[Any]:
    """Returns requests of the harness by their arguments."""
    from lm_eval.api.instance import Instance

    return [Instance(kind, {}, given, number) for number, given in enumerate(arguments)]


def table_of(results: dict[str, Any]) -> Table:
    """Tabulates results by model and set."""
    columns = (
        "model", "set", "shots", "items", "prompts cut", "seams differ", "largest difference, nats",
        "from float64, ours / hf", "answers differ", "greedy differ", "accuracy, ours / hf", "generations equal",
        "decoded otherwise", "near-ties", "unequal",
    )  # fmt: skip
    rows: list[list[Any]] = []
    for name, sets in results.items():
        for chosen, result in sets.items():
            accuracy = f"{result['accuracy']:.3f} / {result['accuracy_hf']:.3f}" if "accuracy" in result else None
            errors = (f"{result[name]:.1e}" for name in ("its_error", "its_error_hf") if name in result)
            counts = [result.get(name) for name in ("decoded_otherwise", "near_ties", "unequal")]
            generated = [f"{result['equal']} of {result['generations']}" if "generations" in result else None, *counts]
            rows.append([
                name, chosen, result["shots"], result["items"], f"{result['cut'] / result['continuations']:.0%}",
                f"{result['seam_differs'] / result['continuations']:.0%}", f"{result['largest_difference']:.1e}",
                " / ".join(errors) or None, result["different_answers"], result["different_greedy"], accuracy,
                *generated,
            ])  # fmt: skip
    return Table(columns, rows, "Our model for lm-evaluation-harness and its class hf, float32 on the CPU")


if __name__ == "__main__":
    main()
