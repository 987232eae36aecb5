"""Removes roff requests and macros, the markup of manual pages, and keeps their words."""

import re
import shlex

from mindllm_jax.corpus.filters.roff_tables import without_table_formats

_HEADINGS = frozenset(("Sh", "SH", "Ss", "SS"))
_BREAKS = frozenset(
    "Pp PP LP P TP TQ HP sp Sp RS RE Bl El Bd Ed Vb Ve nf fi EX EE bp Rs Re Bk Ek Dd Dt Os TH br ti".split()
)
_ITEMS = frozenset(("It", "IP"))
# Macros whose arguments are words of the sentence, with what stands around them.
_WORDS = {
    **dict.fromkeys(
        "B I BR RB BI IB IR RI SM SB Nm Nd Ar Ic Cm Pa Ev Em Sy Xr Dv Va Vt Ft Fn Fd Li Dl Tn Pf".split(), "%s"
    ),
    "Op": "[%s]",
    "Dq": "“%s”",
    "Sq": "‘%s’",
    "Ql": "‘%s’",
    "Pq": "(%s)",
    "Fl": "%s",
}
_REMOVED = frozenset(
    "if ie el nr ds ta ev ft mk tr rm ns ll in na ad hy nh so ps vs ne ce pl lt it rr tm Sm Oo Oc".split()
)
_DEFINITIONS = frozenset(("de", "am", "ig"))
_KNOWN = _HEADINGS | _BREAKS | _ITEMS | _DEFINITIONS | _WORDS.keys() | _REMOVED
_REQUEST = re.compile(r"\.[ \t]*([A-Za-z]{1,3})(?![A-Za-z])[ \t]*(.*)")
# A line after an apostrophe is mostly a quotation.
_QUIET_REQUEST = re.compile(r"'[ \t]*(nf|fi|br|bp|ti|in|sp|ne|ds|ft|hy)(?![A-Za-z])[ \t]*([-+\d\\].*|)")
# Lines without words: ends of conditions, comments, and what is left of Perl's `.IX Header "NAME"`.
_BLANK = re.compile(
    r"[.'][ \t]*(?:\\?[{}]|\\\".*|)$|[.'][ \t]*\\[{}]|\\[{}]\\?$|(?:Title|Header|Subsection|Item|Xref) \"[^\"]*\"$"
)
_ESCAPE = re.compile(r"\\f(?:\(..|\[\w*\]|[A-Z0-9])|\\s[+-]?\d|\\[&|^]|(?:^|(?<=\s))\\\"[^\"]*$")
# Signs by their names, and the strings that Perl's manual pages define for quotation marks.
_NAMED = {
    **{"aq": "'", "dq": '"', "oq": "‘", "cq": "’", "lq": "“", "rq": "”", "ga": "`", "ha": "^", "ti": "~"},
    **{"em": "—", "en": "–", "bu": "•", "co": "©", "mu": "×", "hy": "-"},
}
_NAMED |= {"*(C`": '"', "*(C'": '"', '*(L"': "“", '*(R"': "”", "*(--": "—"}
_SIGN = re.compile(r"\\(?:\[(\w\w)\]|\((\w\w)|(\*\((?:C[`']|[LR]\"|--)))")
# Requests that are not the domain of a country (.de, .it, .in, .so), nor the name of a file.
_SURE = re.compile(
    r"^[.'](?:if +[tn!\\]|ie +[n\\]|el +[.\\]|ds +\S|nr \S+ \S|ft(?: [A-Z]|$)|ll [+-]|ig(?: \\|$)|sp(?: [\d.]|$)"
    r"|ta (?:\d|\\)|(?:ns|nf|fi|nh)$"
    r"|(?:S[hHsS]|TH|[PLT]P|Pp|IP|Sp|V[be]|It|N[md]|Op|Fl|Ar|Xr|Bl|El|B[RI]|IR|RI)(?![A-Za-z.]))",
    re.M,
)
_MIN_REQUESTS = 3
_PUNCTUATION = re.compile(r"(?<=\S)[ \t]+(?=[,.;:!?)\]，。；：！？）](?:\s|$))")


def is_roff(text: str) -> bool:
    """Whether a text has so many lines of roff that it is a manual page or what is left of one."""
    head = text[:100_000]
    return "```" not in text and ("\n.nh\n" in head or len(_SURE.findall(head)) >= _MIN_REQUESTS)


def roff_text(text: str) -> str:
    """Returns the text of a manual page: headings and paragraphs, without fonts, definitions and conditions."""
    lines: list[list[str]] = []
    joined = False  # whether the next words belong to the last line
    block = ""  # the line that ends a definition
    defined: int | None = None  # the number of lines at the end of the last definition
    for line in text.split("\n"):
        if block:
            if line.rstrip() in (block, ".."):
                block, defined = "", len(lines)
            continue
        request = _REQUEST.fullmatch(line) or _QUIET_REQUEST.fullmatch(line)
        if request is None or request[1] not in _KNOWN:
            if not _BLANK.match(line):
                _add(lines, _plain(line), joined)
                joined = False
            continue
        name, rest = request[1], request[2]
        if name in _DEFINITIONS:
            end = rest.split()[1:2] if name != "ig" else rest.split()[:1]
            block = f".{end[0]}" if end and not end[0].startswith("\\") else ".."
            # One line between two definitions is no text: it is what is left of a macro, such as `.AS`.
            if defined is not None and sum(map(bool, lines[defined:])) == 1:
                del lines[defined:]
        elif name in _HEADINGS:
            lines += [[], [_words(rest)], []]
        elif name in _ITEMS:
            lines += [[], [_words(rest)]]
        elif name in _BREAKS:
            lines.append([])
        elif name in _WORDS:
            _add(lines, _words(f"{name} {rest}"), True)
        joined = name in _WORDS
    whole = "\n".join(words[0] if len(words) == 1 else _PUNCTUATION.sub("", " ".join(words)) for words in lines)
    return re.sub(r"\n{3,}", "\n\n", without_table_formats(whole)).strip("\n")


def _plain(words: str) -> str:
    """Returns words with their signs in place of roff's escapes."""
    words = _ESCAPE.sub("", words).replace(r"\-", "-")
    return _SIGN.sub(lambda sign: _NAMED.get(sign[1] or sign[2] or sign[3], sign[0]), words)


def _add(lines: list[list[str]], words: str, joined: bool) -> None:
    """Adds words to the last line, or as a line."""
    if joined and words.strip() and lines and lines[-1] and lines[-1][-1].strip():
        lines[-1].append(words.strip())
    else:
        lines.append([words] if words.strip() else [])


def _words(arguments: str) -> str:
    """Returns the words of a macro's arguments, among which may be macros of mdoc: `Op Fl v` is `[-v]`."""
    arguments = _plain(arguments)
    try:
        parts = shlex.split(arguments, posix=True) if '"' in arguments and "'" not in arguments else arguments.split()
    except ValueError:
        parts = arguments.split()
    result, ends, flag = "", "", False
    for part in parts:
        if part in _WORDS:
            before, after = _WORDS[part].split("%s")
            if part == "Xr" and not result:
                return _reference(parts[1:])
            result += before
            ends = after + ends
            flag = part == "Fl"
            continue
        glue = "" if not result or result[-1] in "[(“‘" or part in (",", ".", ";", ":", ")", "]", "。", "，") else " "
        result += glue + ("-" if flag and part.isalnum() else "") + part
    return result + ends


def _reference(parts: list[str]) -> str:
    """Returns a reference to another page, `ls(1)`, and the punctuation after it."""
    name, section, after = (*parts, "", "", "")[:3]
    return f"{name}({section}){after}" if section.isalnum() else f"{name}{section}"
