"""HTML pages to text."""

import pytest

from mindllm_jax.corpus.filters.webpage import page_text

PARAGRAPHS = (
    "The ferry had crossed the strait twice a day before the tunnel was opened. Nobody had asked the crew.",
    "A harbour lives from what it loads. When the last line left, the cranes were sold, and the café closed.",
    "There are plans for a museum. The town wants to show the engine, which two mechanics still oil every second week.",
    "渡轮停航以后，码头上只剩下几只海鸥。老船长每天早上还是照旧走到岸边，看一看潮水，再慢慢走回家去。",
)
ARTICLE = "".join(f"<p>{paragraph}</p>" for paragraph in PARAGRAPHS)
MENU = "".join(f'<li><a href="/{n}">Section number {n} of the paper</a></li>' for n in range(40))


def assert_article(text: str) -> None:
    for paragraph in PARAGRAPHS:
        assert paragraph in text


def test_density_of_a_page_without_links() -> None:
    assert page_text("<html><body><p>All of it.</p></body></html>")[1] == 1
    assert page_text("<html></html>") == ("", 0)


@pytest.mark.parametrize(
    "page",
    [
        f"<header><ul>{MENU}</ul></header><main>{ARTICLE}</main>",
        f"<nav>{MENU}</nav>{ARTICLE}<footer>{MENU}</footer>",
        f"<div class='top'><ul>{MENU}</ul></div><div id='content'>{ARTICLE}</div><div><ul>{MENU}</ul></div>",
        f"<table><tr><td>{MENU}</td><td>{ARTICLE}</td></tr></table>",
        f"<div class='navheader'>Section number 7</div>{ARTICLE}<div class='navfooter'><hr>Section number 7</div>",
    ],
    ids=["header", "nav", "div", "table", "DocBook"],
)
def test_a_menu_does_not_count_against_an_article(page: str) -> None:
    text, density = page_text(f"<html><body>{page}</body></html>")
    assert_article(text)
    assert "Section number 7" not in text
    assert density > 0.9


def test_density_of_a_front_page() -> None:
    cards = "".join(
        f"<div><h3><a href='/{n}'>Headline number {n} of many</a></h3><p>A teaser.</p></div>" for n in range(30)
    )
    assert page_text(f"<html><body><div>{MENU}</div>{cards}</body></html>")[1] < 0.5


@pytest.mark.parametrize(
    "page",
    [
        f"<form action='Page.aspx'><input type=hidden value=x><div>{ARTICLE}</div></form>",
        f"<div class=site aria-hidden=true>{ARTICLE}</div><div role=dialog>Cookies?</div>",
        f"<nav><ul>{MENU}</ul>{ARTICLE}",
        f"<header><p>Top</p>{ARTICLE}",
        f"<form><nav>{MENU}</nav><header>The Paper</header>{ARTICLE}<footer>Rights</footer></form>",
        f"<aside>{ARTICLE}",
    ],
    ids=["form", "aria-hidden", "unclosed nav", "unclosed header", "nested", "unclosed aside"],
)
def test_a_part_that_holds_the_article_stays(page: str) -> None:
    text, density = page_text(f"<html><body>{page}</body></html>")
    assert_article(text)
    assert "The Paper" not in text and "Rights" not in text and "Cookies" not in text
    assert density > 0.75


@pytest.mark.parametrize(
    ("page", "has_title"),
    [
        (f"<article><header><h1>The last ferry</h1></header>{ARTICLE}</article>", True),
        (f"<main><header><h2>The last ferry</h2></header>{ARTICLE}</main>", True),
        (f"<header><h1>The last ferry</h1><p>Home</p></header>{ARTICLE}", True),
        (f"<h2><button>The last ferry</button></h2>{ARTICLE}", True),
        (f"<div><button><h2>The last ferry</h2></button>{ARTICLE}</div>", True),
        (f"<header><h1><a href='/'>The last ferry</a></h1></header>{ARTICLE}", False),
        (f"<button>The last ferry</button>{ARTICLE}", False),
    ],
)
def test_titles(page: str, has_title: bool) -> None:
    text, _ = page_text(f"<html><body>{page}</body></html>")
    assert_article(text)
    assert ("The last ferry" in text) == has_title
    assert "Home" not in text


@pytest.mark.parametrize(
    "page",
    [
        f"<nav><form>Find</form><button>Go</button><select><option>en</select></nav><aside>More</aside>{ARTICLE}",
        f"<nav>Home</nav><form>Find</form>{ARTICLE}<footer><nav>Home</nav>All rights reserved. See the terms.</footer>",
        f"<header><h1>Ferry <button>Go</button></h1><nav>Home</nav></header><form>Find</form>{ARTICLE}",
    ],
)
def test_parts_inside_of_others(page: str) -> None:
    text, _ = page_text(f"<html><body>{page}</body></html>")
    assert text.replace("Ferry", "").replace("Go", "").split() == "\n".join(PARAGRAPHS).split()
    assert "Go" not in text or "Ferry" in text


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("10<sup>170</sup> and 3 x 10<sup>-9</sup>", "10^170 and 3 x 10^-9"),
        ("5 m<sup>2</sup>, 2<sup>n</sup>, <i>x</i><sup><i>k</i></sup>", "5 m^2, 2^n, x^k"),
        ("(a+b)<sup>2n+1</sup>, Ca<sup>2+</sup>", "(a+b)^(2n+1), Ca^2+"),
        ("面积为 3 km<sup>2</sup>，约 10<sup>4</sup> 人", "面积为 3 km^2，约 10^4 人"),
        ("H<sub>2</sub>O, Na<sub>2</sub>CO<sub>3</sub>, Ca(OH)<sub>2</sub>", "H2O, Na2CO3, Ca(OH)2"),
        ("x<sub>1</sub>, log<sub>2</sub> 8, a<sub>n+1</sub>, E<sub>max</sub>", "x_1, log_2 8, a_(n+1), E_max"),
        ("the 1<sup>st</sup> of May, M<sup>lle</sup> Curie", "the 1st of May, Mlle Curie"),
        ("So it was said.<sup>3</sup> It was[so]<sup>[4]</sup>.", "So it was said. It was[so]."),
        ('As Smith<sup id="r1"><a href="#n1">1</a></sup> says', "As Smith says"),
        ("Small print<sup>with many words in it</sup>", "Small printwith many words in it"),
        ("<sup>2</sup> alone, space <sup>2</sup>, E<sup></sup>", "2 alone, space 2, E"),
    ],
)
def test_superscripts(markup: str, text: str) -> None:
    assert page_text(f"<html><body><p>{markup}</p></body></html>")[0].strip() == text


def test_nothing_is_cut_out_of_the_middle() -> None:
    middle = "<h2>Timetable</h2><pre>08:10  out\n16:40  back</pre><table><tr><td>Crew</td><td>12</td></tr></table>"
    parts = (
        f"<ul>{MENU}</ul><div id=content>{ARTICLE}{middle}<div class='sidebar widget'>{ARTICLE}</div>{ARTICLE}</div>"
    )
    text, _ = page_text(f"<html><body>{parts}</body></html>")
    assert all(words in text for words in ("Timetable", "08:10  out", "Crew"))
    assert all(text.count(paragraph) == 3 for paragraph in PARAGRAPHS)


@pytest.mark.parametrize(
    "piece",
    [
        "<nav>",
        "<nav>a. ",
        "<section><header>",
        "<article><header>x. ",
        "<button><h1>",
        "<sup>",
        "<sup>2</sup>",
        "x<sub>",
        "<a href=x>a</a>",
        "<a href=x><b>",
        "<p>A sentence that is long enough to be prose.",
        "<div role=dialog>b. ",
    ],
)
def test_time_grows_with_the_page(seconds_for_a_megabyte, piece: str) -> None:
    assert seconds_for_a_megabyte(page_text, "<html><body>", piece) < 30  # about 4 on two quiet cores
