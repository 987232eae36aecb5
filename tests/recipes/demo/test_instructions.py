"""Instructions quote their documents word for word."""

from collections import Counter

from mindllm_jax.corpus.filters.wikitext import ArticleSection
from mindllm_jax.recipes.demo import statutes, wikipedia
from mindllm_jax.recipes.demo.instructions import from_article, from_document, from_law
from mindllm_jax.text.documents import Document


def turns(row) -> tuple[str, str]:
    assert [message["role"] for message in row["messages"]] == ["user", "assistant"]
    return row["messages"][0]["content"], row["messages"][1]["content"]


def test_a_law_is_recited_and_recognised():
    articles = [statutes.Article("", "", f"第{n}条", f"这是条文{n}的第一句。这是条文{n}的第二句。") for n in range(200)]
    articles += [statutes.Article("", "", "一、", "不是条。"), statutes.Article("", "", "第九百条", "太长" * 101)]
    rows = list(from_law(statutes.Law("甲法", tuple(articles))))
    assert len(rows) == len({row["id"] for row in rows}) == 200
    kinds = Counter()
    for n, row in enumerate(rows):
        assert (row["source"], row["lang"], row["id"]) == ("laws_zh", "zh", f"laws_zh/甲法#第{n}条")
        question, answer = turns(row)
        if answer == articles[n].text:
            kinds["recite"] += 1
            assert "《甲法》" in question
            assert f"第{n}条" in question
        elif answer == f"《甲法》第{n}条。":
            kinds["article"] += 1
            assert articles[n].text in question
        else:
            kinds["law"] += 1
            assert answer == "《甲法》。"
            assert f"这是条文{n}的第一句。" in question
    assert 80 < kinds["recite"] < 120
    assert min(kinds["article"], kinds["law"]) > 25


def test_an_article_is_introduced_and_named():
    article = wikipedia.Article(
        "Alpha",
        7,
        (
            ArticleSection("", ("Alpha is a letter. It is the first.",)),
            ArticleSection("History", ("It is old. Very.",)),
            ArticleSection("List", ("- An item.",)),
            ArticleSection("Long", ("x" * 400 + ".",)),
        ),
    )
    introduce, name, history = from_article(article)
    assert "Alpha" in turns(introduce)[0]
    assert turns(introduce)[1] == "Alpha is a letter."
    assert "Alpha is a letter." in turns(name)[0]
    assert turns(name)[1] == "Alpha"
    assert "History" in turns(history)[0]
    assert turns(history)[1] == "It is old."
    assert all(row["id"].startswith("wikipedia_en/Alpha@7#") for row in (introduce, name, history))


def test_any_text_is_continued():
    english = Document("A title\n\nOne thing is said. Another follows. A third.\nAlone.", "mine", "en", "d")
    (row,) = from_document(english)
    assert turns(row)[0].endswith("\nOne thing is said.")
    assert turns(row)[1] == "Another follows."
    assert (row["id"], row["source"], row["lang"]) == ("d#2", "mine", "en")
    (row,) = from_document(Document("先说一句。再说一句。", "mine", "zh", "d"))
    assert turns(row) == (turns(row)[0], "再说一句。")
    assert turns(row)[0].endswith("\n先说一句。")
