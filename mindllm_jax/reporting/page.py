"""Self-contained HTML pages, from parts: paragraphs, figures, samples, tables."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mindllm_jax.files import replacing
from mindllm_jax.reporting.tables import Table

_TEMPLATE = Path(__file__).with_name("page.html")


@dataclass(frozen=True)
class Paragraph:
    """A paragraph of plain text."""

    text: str


@dataclass(frozen=True)
class Figure:
    """An inline SVG of `reporting.plots`; the caption is also its alternative text."""

    svg: str
    caption: str


@dataclass(frozen=True)
class Sample:
    """Text that a model generated, white space included, with its prompt."""

    prompt: str
    text: str
    label: str = ""


@dataclass(frozen=True)
class Details:
    """Collapsed text: a configuration, a log."""

    summary: str
    text: str


Part = Paragraph | Figure | Sample | Details | Table


@dataclass(frozen=True)
class Section:
    """A heading and the parts under it; other kinds than `Part` need a template that shows them."""

    title: str
    parts: Sequence[Part | Any]


@dataclass(frozen=True)
class Page:
    """A page of sections; `lead` is the line under the title."""

    title: str
    lead: str = ""
    sections: Sequence[Section] = field(default_factory=tuple)


def render(page: Page, template: Path = _TEMPLATE) -> str:
    """Returns the page as one HTML text that loads nothing: no scripts, fonts or pictures.

    template: one that extends page.html, with the blocks `style`, `other`, which shows parts of other kinds, and
    `script`, for one inside the page.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([template.parent, _TEMPLATE.parent]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.tests["kind"] = lambda part, name: type(part).__name__ == name
    return environment.get_template(template.name).render(page=page)


def write_page(path: Path, page: Page, template: Path = _TEMPLATE) -> None:
    """Writes the page atomically; `template` as in `render`."""
    with replacing(path) as file:
        file.write(render(page, template))
