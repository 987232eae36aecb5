"""Makes near-duplicates of stated kinds for `planted.py`."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mindllm_jax.text.documents import Document, document_files, read_documents

RUN = 10
"""Characters in a contiguous edit."""
PARAGRAPH = 60
"""Characters of a moved paragraph at least."""
SHORTEST, LONGEST = 500, 8000
"""Characters of the documents, originals and others."""
ALIKE_BY_NATURE = ("prc_laws", "classical_modern_zh", "finance_news_zh", "license_texts_en", "rust_book")
"""Sources that have versions and copies: all are among the other documents, no original is from them."""
TEMPLATES = ("manpages_en", "manpages_zh", "libreoffice_help_en", "libreoffice_help_zh")
"""Sources of pages of one form with other facts, as of two functions: all are among the other documents."""

Edit = Callable[[str, "Material"], str | None]
"""Makes a copy of a text, or None if the text does not allow it."""


class Material(NamedTuple):
    """The material of edits: a random generator, and a long text of the language."""

    random: np.random.Generator
    pool: str


class Planted(NamedTuple):
    """Shuffled documents of one language.

    Attributes:
        texts, sources: of the documents.
        pairs: by kind, the places of original and copy in `texts`.
        templates: the places of the pages of one form that are in no pair.
    """

    texts: list[str]
    sources: list[str]
    pairs: dict[str, list[tuple[int, int]]]
    templates: list[int]


def scattered(share: float) -> Edit:
    """Substitutes single characters at random places, `share` of all that are not blank, by others of the language."""

    def edit(text: str, material: Material) -> str:
        characters = list(text)
        places = [place for place, character in enumerate(characters) if not character.isspace()]
        for place in material.random.choice(places, round(share * len(places)), replace=False):
            characters[place] = _piece(material, 1)
        return "".join(characters)

    return edit


def contiguous(share: float) -> Edit:
    """Substitutes runs of ten characters, `share` of the text, by runs of other documents of the language."""

    def edit(text: str, material: Material) -> str:
        pieces = [text[start : start + RUN] for start in range(0, len(text), RUN)]
        for place in material.random.choice(len(pieces), round(share * len(pieces)), replace=False):
            pieces[place] = _piece(material, RUN)
        return "".join(pieces)

    return edit


def moved(text: str, material: Material) -> str | None:
    """Moves a paragraph, a line of 60 characters or more but not more than half of the text, to another place."""
    lines = [line for line in text.split("\n") if line.strip()]
    long = [number for number, line in enumerate(lines) if PARAGRAPH <= len(line) <= len(text) / 2]
    if not long or len(lines) < 4:
        return None
    taken = int(material.random.choice(long))
    line = lines.pop(taken)
    lines.insert(int(material.random.choice([place for place in range(len(lines) + 1) if place != taken])), line)
    return "\n".join(lines)


def other_script(text: str, material: Material) -> str:
    """The text in traditional characters (OpenCC, phrase by phrase), or in simplified where it is traditional."""
    from opencc import OpenCC

    converted = OpenCC("s2t").convert(text)
    return converted if converted != text else OpenCC("t2s").convert(text)


KINDS: dict[str, Edit] = {
    "exact": lambda text, material: text,
    "5 % scattered": scattered(0.05),
    "5 % in runs": contiguous(0.05),
    "15 % scattered": scattered(0.15),
    "15 % in runs": contiguous(0.15),
    "paragraph moved": moved,
    "other script": other_script,
}


def documents(folder: Path, languages: tuple[str, ...] = ("zh", "en")) -> Iterator[Document]:
    """Yields the documents of the right length in `folder`, which has a folder per language."""
    for language in languages:
        for file in document_files(folder / language):
            for document in read_documents(file, on_bad="skip"):
                if document.lang == language and SHORTEST <= len(document.text) <= LONGEST:
                    yield document


def plant(candidates: list[Document], each: int, others: int, seed: int) -> Planted:
    """Hides `each` copies of each kind among originals, templates and `others` further documents of one language.

    Exact copies among the candidates are left out.
    """
    random = np.random.default_rng(seed)
    unique = list({document.text: document for document in candidates}.values())
    order = [unique[place] for place in random.permutation(len(unique))]
    alike = [document for document in order if document.source in ALIKE_BY_NATURE]
    plain = [document for document in order if document.source not in ALIKE_BY_NATURE]
    material = Material(random, "".join(document.text[:500] for document in plain[:400]).replace("\n", ""))
    kinds = {name: edit for name, edit in KINDS.items() if candidates[0].lang == "zh" or name != "other script"}
    rows: list[tuple[str, str, Any]] = []
    for kind, edit in kinds.items():
        for number in range(each):
            while (copy := edit(plain[-1].text, material)) is None:
                plain.insert(0, plain.pop())
            original = plain.pop()
            rows += [(original.text, original.source, (kind, number)), (copy, original.source, (kind, number))]
    templates = [document for document in plain if document.source in TEMPLATES]
    plain = [document for document in plain if document.source not in TEMPLATES]
    rows += [(document.text, document.source, "template") for document in templates]
    rows += [(document.text, document.source, None) for document in (*alike, *plain)[:others]]
    rows = [rows[place] for place in random.permutation(len(rows))]
    places: dict[Any, list[int]] = {}
    for place, (_, _, pair) in enumerate(rows):
        places.setdefault(pair, []).append(place)
    pairs = {kind: [(places[kind, n][0], places[kind, n][1]) for n in range(each)] for kind in kinds}
    return Planted([text for text, _, _ in rows], [source for _, source, _ in rows], pairs, places.get("template", []))


def _piece(material: Material, size: int) -> str:
    start = int(material.random.integers(0, len(material.pool) - size))
    return material.pool[start : start + size]
