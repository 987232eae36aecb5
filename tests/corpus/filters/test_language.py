"""Language detection, and the source of documents in another language than declared."""

import pytest

from mindllm_jax.corpus.filters.language import Language, converted, script_of
from mindllm_jax.corpus.filters.quality import Quality
from mindllm_jax.corpus.settings import QualityRules

FOUND = {
    "simplified": ("zh", "今天上午，北京市召开了新闻发布会，介绍了今年的经济情况。"),
    "traditional": ("zh", "今天上午，臺北市召開了新聞發布會，並說明這個計畫。"),
    "classical": ("zh", "子曰：學而時習之，不亦說乎？有朋自遠方來，不亦樂乎？"),
    "English": ("en", "The committee met on Tuesday and said that it would not change the rules this year."),
    "one word": ("en", "Hello"),
    "one character": ("zh", "好"),
    "technical": ("zh", "使用 Kubernetes 部署服务，通过 kubectl apply 命令创建资源，然后检查其状态，一切正常即可。"),
    "both": ("mixed", "双方各执一份，具有同等法律效力。The contract is made in two copies, and it is in force."),
    "Japanese": ("other", "今日は天気がとても良いので、公園へ散歩に行きました。"),
    "formal Japanese": (
        "other",
        "東京都は二十三日、新型感染症対策本部会議を開催し、営業時間短縮要請期間延長を決定した。",
    ),
    "Korean": ("other", "오늘은 날씨가 매우 좋아서 공원에 산책하러 갔습니다."),
    "Russian": ("other", "Сегодня очень хорошая погода, поэтому мы пошли гулять в парк."),
    "French": (
        "other",
        "Le gouvernement a annoncé mardi que les nouvelles règles entreront en vigueur au début de l'année prochaine,"
        " malgré les critiques de l'opposition et des syndicats.",
    ),
    "German": (
        "other",
        "Die Regierung hat am Dienstag angekündigt, dass die neuen Regeln Anfang nächsten Jahres in Kraft treten"
        " werden, trotz der Kritik der Opposition und der Gewerkschaften im ganzen Land.",
    ),
    "Spanish": (
        "other",
        "El gobierno anunció el martes que las nuevas reglas entrarán en vigor a principios del próximo año, a pesar"
        " de las críticas de la oposición y de los sindicatos del país.",
    ),
    "code": ("other", "def add(a, b):\n    return a + b\n\nprint(add(1, 2))\n" * 8),
    "empty": ("other", ""),
    "numbers": ("other", "123 456 78.9 %"),
    "emoji": ("other", "😀👨‍👩‍👧"),
    "a word of Japanese": ("en", "The word for it is ありがとう, and it is what they say when you help them."),
}


@pytest.mark.parametrize("kind", FOUND)
def test_language(kind: str) -> None:
    expected, text = FOUND[kind]
    step = Language()
    assert step.language(script_of(text)) == expected


@pytest.mark.parametrize(
    ("kind", "declared", "source", "lang"),
    [
        ("simplified", "zh", "s", "zh"),
        ("simplified", None, "s", "zh"),
        ("simplified", "en", "stray_zh_s", "zh"),
        ("English", "zh", "stray_en_s", "en"),
        ("both", "en", "s", "en"),
        ("both", "zh", "s", "zh"),
        ("both", None, "s", "en"),
    ],
)
def test_source_of_one_language(applied, kind: str, declared: str | None, source: str, lang: str) -> None:
    metadata = {} if declared is None else {"lang": declared}
    reason, document = applied(Language(), FOUND[kind][1], **metadata)
    assert (reason, document.metadata["source"], document.metadata["lang"]) == (None, source, lang)
    assert document.metadata.get("mixed", False) == (kind == "both")


def test_code_is_in_no_language(applied) -> None:
    log = "```sql\n" + "SELECT the_price FROM orders; 0x6f726465 ok\n" * 60 + "```"
    chinese = f"这条语句用来查询每个订单的价格，结果按时间排列。\n\n{log}"
    reason, document = applied(Language(), chinese, lang="zh")
    assert (reason, document.metadata["source"], "mixed" in document.metadata) == (None, "s", False)
    addresses = "```\n" + "0xd1ac8b1ef1b69ff51d1d401a476e7e612414f091\n" * 60 + "```"
    assert applied(Language(), f"{FOUND['English'][1]}\n\n{addresses}", lang="en")[0] is None


def test_other_languages_are_dropped(applied) -> None:
    assert applied(Language(), FOUND["Russian"][1], lang="zh")[0] == "other language"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("他在房裡看著電視，想著明天為了工作拜訪眾多客戶。", "他在房里看着电视，想着明天为了工作拜访众多客户。"),
        ("著名的作者著書立說，成績顯著，名著甚多。", "著名的作者著书立说，成绩显著，名著甚多。"),
        ("衞生署説明，綫路在裏面，峯會上羣眾着手研究牀位。", "卫生署说明，线路在里面，峰会上群众着手研究床位。"),
        ("警衞攔截，脱離危險，閲讀，鋭利的鈎，粧容。", "警卫拦截，脱离危险，阅读，锐利的钩，妆容。"),
        ("乾隆皇帝與皇后，頭髮乾枯，發現麵粉與裏面的餘糧。", "乾隆皇帝与皇后，头发干枯，发现面粉与里面的余粮。"),
        ("一元二次方程式與軟體的資訊。", "一元二次方程式与软体的资讯。"),
        ("今天介绍经济情况，著名的看着。", "今天介绍经济情况，著名的看着。"),
    ],
    ids=["Taiwan", "Taiwan's 著", "Hong Kong", "Hong Kong, more", "standard", "words", "simplified"],
)
def test_conversion_of_variants(text: str, expected: str) -> None:
    assert converted(text, "simplified") == expected


def test_script_and_conversion(applied) -> None:
    _, document = applied(Language(), FOUND["traditional"][1])
    assert document.metadata["script"] == "traditional" and document.text == FOUND["traditional"][1]
    _, document = applied(Language(convert="simplified"), FOUND["traditional"][1])
    assert document.metadata["script"] == "simplified" and "新闻发布会，并说明这个计" in document.text
    _, document = applied(Language(convert="traditional"), "头发和发展")
    assert document.text == "頭髮和發展"
    _, document = applied(Language(convert="traditional"), FOUND["English"][1])
    assert "script" not in document.metadata


def test_the_rules_of_its_source_hold_for_a_stray_document(applied) -> None:
    poem = "床前明月光，疑是地上霜。\n举头望明月，低头思故乡。"
    _, document = applied(Language(), poem, lang="en")
    assert document.metadata["source"] == "stray_zh_s"
    short = Quality(QualityRules(short_sources=("s",)))
    assert short.apply(document) is None and Quality(QualityRules()).apply(document) == "too few Han characters"
