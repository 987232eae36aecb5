"""Settings of a demo on user-supplied text, in place of those of configs/demo/demo.gin."""

from pathlib import Path
from typing import Any

from mindllm_jax.files import write_text
from mindllm_jax.recipes.demo.corpus import CONTINUATIONS, read_manifest

_WEIGHTS = {"zh": 2, "en": 3}


def write_settings(text: Path, run: Path, demo: Path) -> None:
    """Writes `demo.gin` into the folder of a demo: the gin file `demo` with other folders and languages.

    Raises ValueError where the folder holds the demo of another text.
    """
    path = run / "demo.gin"
    if path.exists() and f"= {str(text)!r}\n" not in path.read_text(encoding="utf-8"):
        raise ValueError(f"{run} holds the demo of another folder than {text}: give that one a name of its own")
    lines = (f"{name} = {value!r}\n" for name, value in user_text_settings(text, run).items())
    write_text(path, f"include '{demo}'\n{''.join(lines)}")


def user_text_settings(text: Path, run: Path) -> dict[str, Any]:
    """Returns the macros and settings that differ, by name.

    Args:
        text: folder of the text.
        run: folder of the demo; once its corpus is built, mixture and tasks follow the languages of the corpus.
    """
    corpus = run / "corpus"
    paths = {
        "corpus": corpus,
        "benchmarks": corpus / "benchmarks",
        "documents": corpus / "documents",
        "instructions": corpus / "instructions/train",
        "held_out_instructions": corpus / "instructions/held_out",
        "tokenizer": run / "tokenizer.model",
        "store": run / "store",
        "pretrain": run / "pretrain",
        "DemoCorpus.text": text,
    }
    settings: dict[str, Any] = {name: str(path) for name, path in paths.items()}
    if (corpus / "manifest.json").exists():
        sources = read_manifest(corpus)["documents"].values()
        settings["Mixture.weights"] = {lang: _WEIGHTS.get(lang, 1) for lang in sorted({s["lang"] for s in sources})}
        made = [lang for lang in _WEIGHTS if (corpus / CONTINUATIONS / lang).exists()]
        settings["Evaluate.tasks"] = tuple(f"continuation_{lang}" for lang in made)
    return settings
