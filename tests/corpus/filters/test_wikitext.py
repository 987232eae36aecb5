"""Wiki markup of any language as prose."""

import pytest

from mindllm_jax.corpus.filters.wikitext import parse_article


def prose(markup: str) -> str:
    return "\n".join(
        line for section in parse_article(markup) for line in (section.heading, *section.paragraphs) if line
    )


SIMPLIFIED = "这里说的是湖边的-{zh-hans:石头;zh-hant:石頭}-。"
TRADITIONAL = "這裡說的是湖邊的-{zh-hans:石头;zh-hant:石頭}-。"


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        (SIMPLIFIED, "这里说的是湖边的石头。"),
        (TRADITIONAL, "這裡說的是湖邊的石頭。"),
        ("用-{zh-cn:打印机; zh-tw:印表機; zh-hk:打印機;}-打出来。", "用打印机打出来。"),
        ("這是-{zh-cn:打印机; zh-tw:印表機; zh-hk:打印機;}-。", "這是印表機。"),
        ("-{范文澜}-和-{A|zh-hans:互联网;zh-hant:網際網路}-的书。", "范文澜和互联网的书。"),
        ("-{T|zh-hans:标题;zh-hant:標題}--{H|zh-cn:甲;zh-tw:乙}-正文在这里。", "正文在这里。"),
        ("这是-{zh-hans:甲-{zh-hans:内;zh-hant:內}-层;zh-hant:乙}-的字。", "这是甲内层的字。"),
        ("The variable x-{{nowrap|y z}}- stays.", "The variable x-y z- stays."),
    ],
)
def test_variants_of_chinese(markup: str, text: str) -> None:
    assert prose(markup) == text


@pytest.mark.parametrize(
    "link",
    [
        "[[分类:湖泊]]",
        "[[分類:湖泊|H]]",
        "[[Category:Lakes]]",
        "[[Kategorie:See]]",
        "[[en:Lake]]",
        "[[zh-min-nan:Ô͘]]",
        "[[ja:湖]]",
        "[[文件:a.jpg|thumb|湖边的[[小木屋]]]]",
        "[[檔案:a.jpg|缩略图]]",
        "[[File:a.jpg|20px]]",
        "[[Datei:a.svg]]",
    ],
)
def test_links_that_are_not_shown(link: str) -> None:
    assert prose(f"湖面{link}很平静。") == "湖面很平静。"
    assert prose(f"湖面很平静。\n\n{link}\n") == "湖面很平静。"


@pytest.mark.parametrize(
    "line",
    [
        "[[Kategorio:Lagoj]]",
        "[[ವರ್ಗ:ಕೆರೆ]] [[Категорія:Озера|Озеро]]",
        "[[Plik:jezioro.jpg|thumb|Jezioro]]",
        " [[Thể loại:Hồ]]",
    ],
)
def test_categories_and_pictures_of_any_language(line: str) -> None:
    assert prose(f"Lago estas profunda.\n{line}\nĜi estas malvarma.") == "Lago estas profunda.\nĜi estas malvarma."


def test_titles_with_a_colon_are_shown_on_their_lines() -> None:
    assert prose("[[Lake: A Story]]\n* [[Wasser:Lied]]") == "Lake: A Story\n- Wasser:Lied"


def test_links_with_a_colon_are_shown() -> None:
    assert prose("见[[:分类:湖泊]]与[[:en:Lake|英文条目]]，[[:fr:Lac]]。") == "见分类:湖泊与英文条目，Lac。"


@pytest.mark.parametrize(
    "heading",
    [
        "參考資料",
        "參考",
        "参考网址",
        "相關網站",
        "相关资讯",
        "参考文献",
        "外部链接",
        "外部連結",
        "参见",
        "參看",
        "注释",
        "註釋與參考資料",
        "延伸阅读",
        "相关条目",
        "脚注",
        "外部リンク",
        "Weblinks",
        "Einzelnachweise",
        "Notes et références",
        "Enlaces externos",
        "Примечания",
        "References",
        "See also",
    ],
)
def test_appendices(heading: str) -> None:
    assert prose(
        f"正文在这里。\n== {heading} ==\n* 某人的书。\n=== 下一级 ===\n还是列表。\n== 历史 ==\n历史很长。"
    ) == ("正文在这里。\n历史\n历史很长。")


@pytest.mark.parametrize("heading", ["网站设计", "参考系", "資訊科學"])
def test_headings_that_begin_as_appendices(heading: str) -> None:
    assert prose(f"== {heading} ==\n这一节讲它的历史。") == f"{heading}\n这一节讲它的历史。"


def test_headings_that_only_resemble_appendices() -> None:
    assert "水源" in prose("== 水源与资料馆 ==\n水源在山里。")


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("莎士比亚（{{lang-en|William Shakespeare}}）是诗人。", "莎士比亚（William Shakespeare）是诗人。"),
        ("他写了《{{lang|fr|Les Plaideurs}}》。", "他写了《Les Plaideurs》。"),
        ("他{{bd|1900年|1月1日|1950年|2月2日}}是画家。", "他（1900年1月1日－1950年2月2日）是画家。"),
        ("她{{bd|1980年|3月4日}}是歌手。", "她（1980年3月4日－）是歌手。"),
        (
            "他于{{birth date|1990|5|4}}出生，{{death date|2020|12|31|1990|5|4}}去世。",
            "他于1990年5月4日出生，2020年12月31日去世。",
        ),
        ("She was born on {{birth date|1990|5|4|df=y}} in Oslo.", "She was born on May 4, 1990 in Oslo."),
        ("它始于{{start date|1987|6}}。", "它始于1987年6月。"),
        ("造价{{US$|500万}}，约合{{RMB|3000万}}。", "造价US$500万，约合¥3000万。"),
        ("It cost {{GBP|5 million}} and {{INR|90}}.", "It cost £5 million and ₹90."),
        ("{{ill|Lake House|de|Seehaus}} and {{ill|de|Old Mill|Alte Mühle}} burnt.", "Lake House and Old Mill burnt."),
        ("人口{{formatnum:1234567}}人。", "人口1234567人。"),
        ("由{{le|某某大学|Some University}}和{{tsl|en|Some School|某某学校}}建立。", "由某某大学和某某学校建立。"),
        ("它很大{{来源请求|date=2010}}，也很深{{NoteTA|1=zh-hans:湖;zh-hant:湖}}。{{某个模板|x}}", "它很大，也很深。"),
        ("{{某地资料\n|名称=湖\n|面积=5\n}}湖在北方。", "湖在北方。"),
        ("湖（{{lang|mis|}}）在北方（；又名甲）。", "湖在北方（又名甲）。"),
        ("它是{{没人知道的模板|甲|乙}}的湖。", ""),
        ("У озера две лодки{{нет ссылки|3|5|2012}} (см. берег).", "У озера две лодки (см. берег)."),
        ("O lago é fundo.{{precisa de fonte|data=maio de 2012}} Ele é frio.", "O lago é fundo. Ele é frio."),
        ("The lake is deep.{{doubted|by fishermen}} It is cold.", "The lake is deep. It is cold."),
        ("The lake lies {{unknown place|north}} of it.", ""),
        ("The lake holds 3{{unknown factor|9}} litres.", ""),
        ("The lake holds 3{{e|9}} litres.", "The lake holds 3×10^9 litres."),
        ("It takes 1{{sfrac|1|4}}, {{frac|2|3|4}} or {{frac|2}} hours.", "It takes 1 1/4, 2 3/4 or 1/2 hours."),
        ("Озеро ({{langi|la|Lacus}}) и {{unicode|ɑ}} здесь.", "Озеро (Lacus) и ɑ здесь."),
    ],
)
def test_templates(markup: str, text: str) -> None:
    assert prose(markup) == text


@pytest.mark.parametrize(
    "markup",
    [
        "Rest (or sleep) comes before work; main() calls f( ) and f( , ) too.",
        "Le lac : une eau froide ; un bateau.",
        "A path,, or so they say, leads (north; ) to it.",
        "Its salt is <10 grams, and 2 < 3.",
    ],
)
def test_punctuation_without_markup_stays(markup: str) -> None:
    assert prose(markup) == markup


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("Lake ({{lang-fr|Lac}}, or Mere) is deep.", "Lake (Mere) is deep."),
        ("Lake (a water; {{audio|a.ogg}}) is deep.", "Lake (a water) is deep."),
        ("Lake ({{audio|a.ogg}}) is deep{{efn|Very.}} , cold, {{audio|b.ogg}}, clear.", "Lake is deep, cold, clear."),
        ("湖（{{audio|a.ogg}}，又名甲；{{audio|b.ogg}}）很深，{{audio|c.ogg}}，也很冷。", "湖（又名甲）很深，也很冷。"),
    ],
)
def test_punctuation_that_dropped_markup_leaves_is_mended(markup: str, text: str) -> None:
    assert prose(markup) == text


@pytest.mark.parametrize(
    "piece",
    [
        *("'", "''", "-{", "-{a}-", "}-", "-{zh:", "（", "{{lang-en|a}}", "[[a:", "\n\n''", "({{audio|a}}"),
        *("{{audio|a}} ,", ",{{audio|a}}", "{{x|1}}", " ", "("),
    ],
)
def test_time_grows_with_the_markup(seconds_for_a_megabyte, piece: str) -> None:
    assert seconds_for_a_megabyte(parse_article, "湖", piece) < 45  # 17 on a busy machine
