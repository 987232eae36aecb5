"""Makes questions and answers about documents from templates; every answer is from the text.

An instruction's id begins with the id of its document, and it goes to the document's side of the held-out split.
"""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

from mindllm_jax.recipes.demo.statutes import Law
from mindllm_jax.recipes.demo.wikipedia import Article
from mindllm_jax.text.documents import Document
from mindllm_jax.text.sentences import sentences

# Characters of an answer that a small model can learn.
_LONGEST = {"zh": 200, "en": 400}

_RECITE = (
    "请背诵《{law}》{number}。",
    "《{law}》{number}的内容是什么？",
    "《{law}》{number}是怎样规定的？",
    "请写出《{law}》{number}的条文。",
)
_WHICH_ARTICLE = ("下面的规定出自哪部法律的哪一条？\n{text}", "请指出这段条文的出处：\n{text}")
_WHICH_LAW = ("“{text}”这一条属于哪部法律？", "哪部法律规定：“{text}”？")
_INTRODUCE = (
    "Introduce {title} in one sentence.",
    "How would an encyclopaedia begin its article on {title}?",
    "In one sentence: {title}.",
    "Tell me briefly about {title}.",
)
_SECTION = (
    "{title}: what can you tell me about {heading}?",
    "How does the section “{heading}” of an article on {title} begin?",
)
_WHICH_SUBJECT = ("Which subject is this about?\n{text}", "Give a title to an article that begins like this:\n{text}")
_CONTINUE = {
    "zh": ("请接着写下去：\n{text}", "下面这段话的下一句是什么？\n{text}"),
    "en": ("Continue this text:\n{text}", "What comes next?\n{text}"),
}


def from_law(law: Law) -> Iterator[dict[str, Any]]:
    """Yields a question per short numbered article: half ask to recite it, the others for its source."""
    for article in law.articles:
        if not (article.number.startswith("第") and len(article.text) <= _LONGEST["zh"]):
            continue
        id = f"{law.id}#{article.number}"
        known = {"law": law.name, "number": article.number, "text": article.text}
        if _choose(id, (True, False)):
            question, answer = _RECITE, article.text
        elif _choose(id + "?", (True, False)):
            question, answer = _WHICH_ARTICLE, "《{law}》{number}。"
        else:
            known["text"] = sentences(article.text, "zh")[0]
            question, answer = _WHICH_LAW, "《{law}》。"
        yield _conversation(id, "laws_zh", "zh", _choose(id, question).format(**known), answer.format(**known))


def from_article(article: Article) -> Iterator[dict[str, Any]]:
    """Yields questions with the first sentence of an article or section, or with the title, as the answer."""
    for index, section in enumerate(article.sections):
        id = f"{article.id}#{index}"
        text = sentences(section.paragraphs[0], "en")[0]
        if text.startswith("- ") or not text.endswith(".") or len(text) > _LONGEST["en"]:
            continue
        question = _choose(id, _SECTION if section.heading else _INTRODUCE)
        question = question.format(title=article.title, heading=section.heading)
        yield _conversation(id, "wikipedia_en", "en", question, text)
        if not section.heading:
            subject = _choose(id, _WHICH_SUBJECT).format(text=text)
            yield _conversation(f"{id}?", "wikipedia_en", "en", subject, article.title)


def from_document(document: Document) -> Iterator[dict[str, Any]]:
    """Yields conversations about any text: the second sentence of a paragraph answers its first."""
    lang = "zh" if document.lang == "zh" else "en"
    for index, paragraph in enumerate(document.text.splitlines()):
        first, second, *_ = [*map(str.strip, sentences(paragraph.strip(), lang)), "", ""]
        if second and max(len(first), len(second)) <= _LONGEST[lang]:
            id = f"{document.id}#{index}"
            question = _choose(id, _CONTINUE[lang]).format(text=first)
            yield _conversation(id, document.source, document.lang, question, second)


def _choose(id: str, options: Sequence[Any]) -> Any:
    """Selects an option by other bits of the id's hash than `held_out`, so that it does not depend on the split."""
    return options[int.from_bytes(hashlib.sha256(id.encode()).digest()[8:16]) % len(options)]


def _conversation(id: str, source: str, lang: str, question: str, answer: str) -> dict[str, Any]:
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"id": id, "source": source, "lang": lang, "messages": messages}
