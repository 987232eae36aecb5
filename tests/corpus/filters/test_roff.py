"""Manual pages: roff goes, words stay."""

from mindllm_jax.corpus.filters.markup import Markup
from mindllm_jax.corpus.filters.roff import is_roff, roff_text

MDOC = r"""
.Dd May 3, 2001
.Dt LAMP 1
.Os
.Sh 名称
.Nm lamp
.Nd 点亮一盏灯
.Sh 总览
.Nm lamp
.Op Fl v
.Op Ar file ...
.Sh 描述
命令
.Nm lamp
点亮
.Ar file
里的灯。
.Pp
参看
.Xr wick 1 ,
.Dq Pa .lamprc
。
.Bl -tag -width x
.It Fl v
显示更多。
.El
"""
MAN = r"""'\" t
.de Sh \" Subsection
.br
.if t .Sp
\\$1
..
.ie n .ds Q "\"
.el .ds Q ``
.TH LAMP 1 "3 May 2001"
.SH NAME
lamp \- light a lamp
.SH "SEE ALSO"
The \fIwick\fP of a lamp is
.B long
and
.BR dry .
.PP
It burns.
"""


def test_mdoc(applied) -> None:
    reason, document = applied(Markup(), MDOC)
    assert reason is None
    assert document.text == (
        "名称\n\nlamp 点亮一盏灯\n\n总览\n\nlamp [-v] [file ...]\n\n描述\n\n命令 lamp 点亮 file 里的灯。\n\n"
        "参看 wick(1), “.lamprc”。\n\n-v\n显示更多。"
    )


def test_man(applied) -> None:
    _, document = applied(Markup(), MAN)
    assert document.text == (
        "NAME\n\nlamp - light a lamp\n\nSEE ALSO\n\nThe wick of a lamp is long and dry.\n\nIt burns."
    )


def test_what_is_left_of_a_macro_between_definitions_is_no_text() -> None:
    page = ".de AP\n.ta 4c\n..\nLamp_Light Lamp_All in/out\n\n.de BS\n.mk ^y\n..\nlamp 3 Lamps\nNAME\n\nlamp - light\n"
    assert roff_text(page) == "lamp 3 Lamps\nNAME\n\nlamp - light"
    page = ".nh\n.PP\nOne.\n.PP\nTwo.\n.de X\n..\nThree.\n.PP\nFour.\n.de Y\n..\nFive."
    assert roff_text(page) == "One.\n\nTwo.\nThree.\n\nFour.\nFive."


def test_tables() -> None:
    page = (
        ".nh\nallbox;\nlbx lb lb\nl l l.\nInterface\tValue\nT{\nlamp (),\nwick ()\nT}\tsafe\tT{\nsince\n2.0\nT}\nSee:\n"
        "tab(:);\nc s\nl l.\nA:B\nNow:\nl l.\n1\tone\nThe c is a l.\nl.\nEnd."
    )
    assert roff_text(page) == (
        "Interface\tValue\nlamp (), wick ()\tsafe\tsince 2.0\nSee:\nA:B\nNow:\n1\tone\nThe c is a l.\nl.\nEnd."
    )


def test_signs_and_entries_of_an_index() -> None:
    page = r"""
.nh
Header "LIGHT"
Write \*(C`lamp\*(C' or \*(L"wick\*(R", \[aq]x\[aq], \(em no \(zz.
\{\
.    rr F
"""
    assert roff_text(page) == r"""Write "lamp" or “wick”, 'x', — no \(zz."""


def test_other_texts_are_not_manual_pages() -> None:
    domains = "\n".join(f".{code} is a domain" for code in ("de", "it", "in", "so", "fi", "br", "nr", "tr", "ne", "pl"))
    assert not is_roff(domains)
    assert not is_roff("Write it so:\n```\n" + MAN + "```")
    assert not is_roff(".NET, .gitignore and .profile\n.bashrc\n.env\n" * 9)


def test_time_grows_with_the_text_alone(seconds_for_a_megabyte) -> None:
    for beginning, piece in (
        ("", ".de x\n"),
        (MDOC, ".Op Fl "),
        (MAN, ".B words \\fIof\\fP\n"),
        ("", ".if t "),
        (MAN, "T{\n"),
        (MAN, "l l\n"),
        (MAN, "l "),
        (MAN, "box, "),
    ):
        assert seconds_for_a_megabyte(lambda text: (is_roff(text), roff_text(text)), beginning, piece) < 5


def test_code_and_quotations_stay() -> None:
    lines = ["'In the evening,' he said.", "'I saw it.'", r'printf("say \"%s\" twice", word);', ".gitignore", "5.1 .5"]
    assert roff_text("\n".join([".nh", ".PP", *lines])) == "\n".join(lines)
