"""The report of the demo: results, a continuation per language and answered questions, as text and as a page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from mindllm_jax.batching.chat_format import encode_prompt
from mindllm_jax.batching.chat_template import Message
from mindllm_jax.evaluation.bits_per_byte import held_out_sources
from mindllm_jax.evaluation.held_out import FIVE_GRAM
from mindllm_jax.evaluation.report import read_result, results_table
from mindllm_jax.files import write_text
from mindllm_jax.generation.engine import generate
from mindllm_jax.generation.sampling import Sampling
from mindllm_jax.instruct.conversations import read_conversations
from mindllm_jax.reporting.page import Page, Paragraph, Part, Sample, Section, write_page
from mindllm_jax.reporting.plots import Line, line_plot
from mindllm_jax.reporting.run import curves, read_metrics, setup
from mindllm_jax.reporting.tables import Table
from mindllm_jax.store.store import TokenStore
from mindllm_jax.training.load_run import LoadedRun, load_decoder

EXPECTATION = (
    "What to expect: a model with a few million parameters, trained on a few million tokens in minutes, spells, "
    "punctuates and continues the kind of text it is given. It has no facts: its answers have only the form of answers."
)
PROMPT_CHARACTERS = {"zh": 40, "en": 120}


def write_report(directory: Path, evaluations: Mapping[str, Path]) -> Path:
    """Prints the results and samples of a demo, and writes `report.html` and `bits_per_byte.svg`.

    Args:
        directory: of the demo.
        evaluations: folders with an `eval.json` by the label of their column.

    Returns the path of the page.
    """
    results = {label: read_result(at / "eval.json") for label, at in evaluations.items()}
    table = results_table(results)
    samples = _samples(directory)
    console = Console(highlight=False)
    console.print(table.terminal())
    for sample in samples:
        label, prompt, text = map(escape, (sample.label, sample.prompt, sample.text))
        console.print(f"\n[bold]{label}[/bold]\n[dim]{prompt}[/dim]{text}")
    console.print(f"\n{EXPECTATION}")
    write_page(directory / "report.html", _page(directory, table, samples))
    # In a picture of its own nothing sets the text colour: grey is seen on light and dark.
    write_text(directory / "bits_per_byte.svg", _curves(directory, results).replace("currentColor", "#777777"))
    console.print(f"report: {directory / 'report.html'}", soft_wrap=True)
    return directory / "report.html"


def _curves(directory: Path, results: Mapping[str, Mapping[str, Any]]) -> str:
    """Plots the bits per byte of held-out text over pre-training, by language, beside the byte 5-gram's."""
    metrics = read_metrics(directory / "pretrain")
    untrained = next(iter(results.values()))["bits_per_byte"]
    baselines = next(result["baselines"] for result in results.values() if "baselines" in result)
    lines: dict[str, Line] = {}
    for language, baseline in baselines.items():
        key = f"bits_per_byte/{language}"
        points = [(0.0, untrained[language]), *((row["step"], row[key]) for row in metrics if key in row)]
        steps, bits = zip(*points, strict=True)
        lines[f"{language}, model"] = steps, bits
        lines[f"{language}, {FIVE_GRAM}"] = (steps[0], steps[-1]), (baseline[FIVE_GRAM],) * 2
    return line_plot(lines, x_label="training step", y_label="bits per byte, held out")


def _samples(directory: Path) -> list[Sample]:
    """Generates continuations by the pre-trained model and answers by the tuned one, from held-out text."""
    pretrained, tuned = load_decoder(directory / "pretrain"), load_decoder(directory / "tune")
    samples = []
    for language, prompt in _beginnings(TokenStore.open(directory / "store")).items():
        text = _generate(pretrained, prompt, max_tokens=80)
        samples.append(Sample(prompt, text, f"continued, {language} (held-out document, pre-trained model)"))
    for language, question in _questions(directory / "corpus" / "instructions" / "held_out").items():
        text = _generate(tuned, encode_prompt(tuned.tokenizer, [Message("user", question)]).tolist(), max_tokens=80)
        samples.append(Sample(f"{question}\n", text, f"answered, {language} (held-out question, tuned model)"))
    return samples


def _generate(run: LoadedRun, prompt: str | list[int], max_tokens: int) -> str:
    sampling = Sampling(temperature=0.7, top_k=40, max_tokens=max_tokens, seed=0)
    return generate(run.decoder, run.tokenizer, [prompt], sampling, truncate=True)[0].text


def _beginnings(store: TokenStore) -> dict[str, str]:
    """Returns the first characters of a held-out document per language."""
    beginnings = {}
    for language, sources in held_out_sources(store).items():
        text = store.tokenizer.decode(store.document(sources[0], "held_out", 0))
        beginnings[language] = text[: PROMPT_CHARACTERS.get(language, 80)]
    return beginnings


def _questions(folder: Path) -> dict[str, str]:
    """Returns the first held-out question per language."""
    questions = {}
    for path in sorted(folder.glob("*.jsonl")):
        questions[path.stem] = next(read_conversations(path)).messages[0].content
    return questions


def _page(directory: Path, table: Table, samples: list[Sample]) -> Page:
    sections = [Section("Results", [table, Paragraph(EXPECTATION)]), Section("Samples", list[Part](samples))]
    for title, run in (("Pre-training", "pretrain"), ("Instruction tuning", "tune")):
        for section in curves(read_metrics(directory / run)):
            sections.append(Section(f"{title}: {section.title.lower()}", section.parts))
    sections += setup(directory / "pretrain")
    return Page("MindLLM demo", "A bilingual model from text to talk, on one small machine.", sections)
