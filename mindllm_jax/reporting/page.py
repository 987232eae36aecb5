"""One self-contained HTML page: every report and results page of the project is made here."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mindllm_jax.files import replacing
from mindllm_jax.reporting.tables import Table


@dataclass(frozen=True)
class Paragraph:
    """Plain text."""

    text: str


@dataclass(frozen=True)
class Figure:
    """An inline picture of `reporting.plots`; the caption also stands for it where it cannot be seen."""

    svg: str
    caption: str


@dataclass(frozen=True)
class Sample:
    """Text that a model wrote, with its white space; `prompt` is what it was given."""

    prompt: str
    text: str
    label: str = ""


@dataclass(frozen=True)
class Details:
    """Text that is folded away: a configuration, a log."""

    summary: str
    text: str


Part = Paragraph | Figure | Sample | Details | Table


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it."""

    title: str
    parts: Sequence[Part]


@dataclass(frozen=True)
class Page:
    """A page; `lead` is the line under the title."""

    title: str
    lead: str = ""
    sections: Sequence[Section] = field(default_factory=tuple)


def render(page: Page) -> str:
    """The page as one HTML text without anything outside it: no scripts, no fonts, no pictures to load."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.tests["kind"] = lambda part, name: type(part).__name__ == name
    return environment.get_template("page.html").render(page=page)


def write_page(path: Path, page: Page) -> None:
    """Writes the page whole or not at all."""
    with replacing(path) as file:
        file.write(render(page))
