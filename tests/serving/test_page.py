"""The chat page in Chromium, before a mock server: what people do with it, and what must never happen."""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from mock_chat_server import ALTERNATIVES, CHINESE, GLACIER, HTML, MockServer

playwright = pytest.importorskip(
    "playwright.sync_api", reason="playwright, which drives a browser, is not installed (pip install playwright)"
)
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed (on Debian: apt install chromium)"),
]
ARGUMENTS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    " --disable-component-update --disable-sync"
).split()
PHONE = {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "has_touch": True}
expect = playwright.expect

# The least contrast of a text that is shown, with that text. Backgrounds are painted over one another, outermost first.
CONTRAST = """() => {
  const canvas = Object.assign(document.createElement("canvas"), {width: 1, height: 1});
  const context = canvas.getContext("2d", {willReadFrequently: true});
  const luminance = (paints) => {
    for (const paint of paints) { context.fillStyle = paint; context.fillRect(0, 0, 1, 1); }
    const [r, g, b] = [...context.getImageData(0, 0, 1, 1).data].slice(0, 3).map((value) => value / 255)
      .map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  let least = [99, ""];
  for (const element of document.querySelectorAll("body *")) {
    const holds = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if ((!holds && !element.placeholder) || !element.checkVisibility()) continue;
    const behind = [];
    for (let each = element; each; each = each.parentElement) behind.unshift(getComputedStyle(each).backgroundColor);
    const colour = getComputedStyle(element, element.placeholder ? "::placeholder" : null).color;
    const [dark, light] = [luminance(behind), luminance([...behind, colour])].sort((a, b) => a - b);
    const contrast = (light + 0.05) / (dark + 0.05);
    if (contrast < least[0]) least = [contrast, element.textContent || element.placeholder];
  }
  return least;
}"""

FOCUSED = "(({id, name, className, dataset}) => id || name || dataset.mode || className)(document.activeElement)"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)  # its profile is a new folder
        yield browser
        browser.close()


@pytest.fixture
def server() -> Iterator[MockServer]:
    with MockServer() as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.shutdown()


class Problems(list[str]):
    """Messages of the console and requests to other origins; `allowed` matches messages that a test provokes."""

    allowed = r"(?!)"

    def add(self, text: str) -> None:
        if not re.search(self.allowed, text):
            self.append(text)


@pytest.fixture
def problems() -> Iterator[Problems]:
    problems = Problems()
    yield problems
    assert problems == []


Opener = Callable[..., Any]


@pytest.fixture
def open_page(browser: Any, server: MockServer, problems: Problems) -> Iterator[Opener]:
    """Opens the page in a context of its own, which has no storage yet."""
    contexts: list[Any] = []

    def open_page(**options: Any) -> Any:
        contexts.append(browser.new_context(**{"locale": "en-US", **options}))
        page = contexts[-1].new_page()
        page.set_default_timeout(10_000)
        page.on("console", lambda message: problems.add(message.text))
        page.on("pageerror", lambda error: problems.add(str(error)))
        local = (f"{server.address}/", "blob:", "data:")
        page.on("request", lambda request: None if request.url.startswith(local) else problems.add(request.url))
        page.goto(server.address)
        return page

    yield open_page
    for context in contexts:
        context.close()


@pytest.fixture
def page(open_page: Opener) -> Any:
    return open_page()


def send(page: Any, text: str) -> None:
    page.fill("#question", text)
    page.press("#question", "Enter")


def ask(page: Any, text: str) -> None:
    """Sends a question and waits for the end of its answer."""
    turns = page.locator(".turn").count()
    send(page, text)
    expect(page.locator(".turn")).to_have_count(turns + 1)
    expect(page.locator(".turn").last.get_by_role("button", name="edit")).to_be_visible()


def status(page: Any) -> Any:
    return page.locator(".turn .status").last


def test_answer_is_streamed(page: Any, server: MockServer) -> None:
    page.fill("[name=system]", "Be brief.")
    page.fill("[name=seed]", "7")
    page.fill("#question", "slow:")
    page.press("#question", "Shift+Enter")
    page.locator("#question").press_sequentially("what is a glacier?")
    page.press("#question", "Enter")
    content = page.locator(".turn .content")
    expect(content).to_have_text(re.compile("^A glacier is"))
    assert content.inner_text() != GLACIER
    expect(page.locator("#send")).to_have_text("Stop")
    expect(content).to_have_text(GLACIER)
    expect(status(page)).to_have_text(re.compile(r"^20 tokens · \d+\.\d tokens/s · first token after \d\.\d\d s$"))
    rate = float(status(page).inner_text().split(" · ")[1].split()[0])
    assert 3 < rate < 7, "0.15 s per token"
    spoken = [text.strip() for text in page.locator("#spoken p").all_inner_texts()]
    assert spoken == [
        "A glacier is a massive ice sheet that covers vast areas of land.",
        "It moves slowly under its own weight.",
    ]
    (request,) = server.requests
    assert request["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "slow:\nwhat is a glacier?"},
    ]
    assert request["model"] == "smollm2-135m" and request["stream"] is True
    assert [request[name] for name in ("temperature", "top_p", "top_k", "seed")] == [0.8, 1, 40, 7]
    assert "logprobs" not in request and "max_tokens" not in request


def test_stop_keeps_what_came(page: Any, server: MockServer) -> None:
    send(page, "slow, please")
    expect(page.locator(".turn .content")).to_have_text(re.compile("^A glacier"))
    page.click("#send")
    expect(status(page)).to_have_text(re.compile("stopped$"))
    expect(page.locator("#send")).to_have_text("Send")
    page.wait_for_timeout(600)
    assert server.disconnects == 1
    assert GLACIER.startswith(page.locator(".turn .content").inner_text())
    send(page, "slow, again")
    expect(page.locator("#send")).to_have_text("Stop")
    page.press("#question", "Escape")
    expect(page.locator("#send")).to_have_text("Send")


def test_answer_ends_with_its_conversation(page: Any, server: MockServer) -> None:
    for button in (page.get_by_role("button", name="New conversation"), page.locator("[data-mode=continue]")):
        send(page, "slow, please")
        expect(page.locator(".turn .content")).to_have_text(re.compile("^ ?A glacier"))
        button.click()
        expect(page.locator(".turn")).to_have_count(0)
        expect(page.locator("#send")).to_have_text("Send")
    ask(page, "Ice is old.")
    expect(page.locator(".turn .content")).to_have_text([GLACIER])
    page.click("[data-mode=chat]")
    expect(status(page)).to_have_text(re.compile("stopped$"))


def test_regenerated_answer_replaces_the_last(page: Any, server: MockServer, problems: Problems) -> None:
    ask(page, "What is a glacier?")
    page.get_by_role("button", name="Regenerate").click()
    expect(page.get_by_role("button", name="Regenerate")).to_be_visible()
    expect(page.locator(".turn .content")).to_have_text([GLACIER])
    assert server.requests[0] == server.requests[1]
    problems.allowed = "400"
    server.refuse_all = True
    page.get_by_role("button", name="Regenerate").click()
    expect(page.locator(".error")).to_be_visible()
    expect(page.locator(".turn .content")).to_have_text([GLACIER])  # not lost


def test_edited_question_is_answered_from_there(page: Any, server: MockServer) -> None:
    for question in ("first", "second", "third"):
        ask(page, question)
    assert [message["content"] for message in server.requests[2]["messages"]][::2] == ["first", "second", "third"]
    page.get_by_role("button", name="Edit").nth(1).click()
    page.locator(".editor").press_sequentially(" thought")
    page.press(".editor", "Escape")
    expect(page.locator(".question")).to_have_count(3)
    page.get_by_role("button", name="Edit").nth(1).click()
    assert page.locator(".editor").input_value() == "second"
    page.fill(".editor", "changed")
    page.get_by_role("button", name="Answer again from here").click()
    expect(page.locator(".turn")).to_have_count(2)
    expect(page.locator(".question").last).to_contain_text("changed")
    expect(page.locator(".content").last).to_have_text(GLACIER)
    messages = server.requests[3]["messages"]
    assert [message["content"] for message in messages] == ["first", GLACIER, "changed"]


def test_enter_within_chinese_input_does_not_send(page: Any, server: MockServer) -> None:
    keyboard = page.context.new_cdp_session(page)
    page.focus("#question")
    keyboard.send("Input.imeSetComposition", {"text": "bingchuan", "selectionStart": 9, "selectionEnd": 9})
    page.evaluate("addEventListener('keydown', ({isComposing}) => (window.composing = isComposing))")
    # The input method takes the key: no character comes of it.
    keyboard.send("Input.dispatchKeyEvent", {"type": "rawKeyDown", "key": "Enter", "windowsVirtualKeyCode": 13})
    assert page.evaluate("window.composing") is True
    expect(page.locator(".turn")).to_have_count(0)
    keyboard.send("Input.insertText", {"text": "冰川是什么？"})
    page.keyboard.press("Enter")
    expect(page.locator(".turn .content")).to_have_text(CHINESE)
    assert server.requests[0]["messages"] == [{"role": "user", "content": "冰川是什么？"}]


def test_text_is_never_markup(page: Any, problems: Problems) -> None:
    problems.allowed = "400"
    ask(page, f"html {HTML}")
    assert page.locator(".content").inner_text() == HTML
    page.check("[name=probabilities]")
    page.get_by_role("button", name="Regenerate").click()
    expect(page.locator(".token")).to_have_count((len(HTML) + 1) // 2)
    assert page.locator(".content").inner_text() == HTML
    page.hover(".token >> nth=0")
    ask(page, "long")
    expect(page.locator(".error")).to_contain_text("<b>5,000</b>")
    page.click("[data-mode=continue]")
    ask(page, f"html {HTML}")
    page.reload()
    expect(page.locator(".question")).to_contain_text(HTML)
    assert page.locator("main :is(img, script, b)").count() == 0
    assert page.title() == "MindLLM"


def test_code_is_set_apart(page: Any) -> None:
    ask(page, "code")
    assert page.locator("pre").inner_text() == "if a < b:\n    print(a)"
    assert page.locator(".content > div").all_inner_texts() == ["Code:", "It prints *a*.\nThe end."]


def test_probabilities_by_pointer_and_keys(page: Any, server: MockServer) -> None:
    ask(page, "What is a glacier?")
    page.check("[name=probabilities]")
    expect(status(page)).to_contain_text("regenerate it to see them")
    page.get_by_role("button", name="Regenerate").click()
    expect(page.locator(".token")).to_have_count(20)
    assert (server.requests[1]["logprobs"], server.requests[1]["top_logprobs"]) == (True, 5)
    tip = page.get_by_role("tooltip")
    page.hover(".token >> nth=2")
    expect(tip.locator("tr")).to_have_count(5)
    assert tip.locator("tr").first.inner_text().split() == [f"␣{ALTERNATIVES[0].strip()}", "35%"]
    assert tip.locator(".drawn").inner_text().split() == ["␣is", "31%"]
    page.hover("#question")
    expect(tip).to_be_hidden()
    tokens = page.locator(".token")
    assert tokens.nth(3).get_attribute("aria-label") == "␣a, 8.0%"
    assert tokens.evaluate_all("tokens => tokens.filter(({tabIndex}) => tabIndex === 0).length") == 1
    tokens.first.focus()
    page.keyboard.press("ArrowRight")
    expect(tokens.nth(1)).to_be_focused()
    expect(tip).to_contain_text("␣glacier")
    page.keyboard.press("Escape")
    expect(tip).to_be_hidden()
    doubts = tokens.evaluate_all("tokens => tokens.map((token) => getComputedStyle(token).backgroundColor)")
    assert len(set(doubts[:5])) == 5 == len(set(doubts))


@pytest.mark.parametrize("mode", ["chat", "continue"])
def test_tokens_of_half_a_character_are_readable(page: Any, mode: str) -> None:
    page.click(f"[data-mode={mode}]")
    page.check("[name=probabilities]")
    ask(page, "bytes")
    assert page.locator(".token").all_inner_texts()[1:] == list("冰川·是由·积雪")
    assert page.locator(".token").nth(1).get_attribute("aria-label") == "⟨b0e5⟩, 62%"
    page.hover(".token >> nth=1")
    assert page.locator("#alternatives .drawn").inner_text().split() == ["⟨b0e5⟩", "62%"]
    page.uncheck("[name=probabilities]")
    expect(page.locator(".content")).to_have_text(CHINESE[:6])


def test_probabilities_by_touch(open_page: Opener) -> None:
    page = open_page(**PHONE, locale="zh-CN")
    page.get_by_role("button", name="设置").click()
    page.get_by_label("显示词元概率").check()
    page.get_by_role("button", name="设置").click()
    send(page, "冰川是什么？")
    page.get_by_role("button", name="重新生成").wait_for()
    page.locator(".token").last.tap()
    expect(page.get_by_role("tooltip").locator("tr")).to_have_count(5)


def test_text_is_continued(page: Any, server: MockServer) -> None:
    page.click("[data-mode=continue]")
    page.check("[name=probabilities]")
    ask(page, "Ice is old.")
    expect(page.locator(".content")).to_have_text(f" {GLACIER}", use_inner_text=True)
    page.get_by_role("button", name="Continue", exact=True).click()
    expect(page.locator(".token")).to_have_count(40)
    assert [request["prompt"] for request in server.requests] == ["Ice is old.", f"Ice is old. {GLACIER}"]
    assert server.requests[0]["logprobs"] == 5
    page.click("[data-mode=chat]")
    expect(page.locator(".turn")).to_have_count(0)


def test_settings_begin_with_those_of_the_server(open_page: Opener, server: MockServer) -> None:
    server.sampling = {"temperature": 0.123, "top_p": 0.9, "top_k": 0, "max_tokens": None}
    page = open_page()
    expect(page.locator("[name=temperature]")).to_have_value("0.123")
    page.fill("[name=top_p]", "0.5")
    ask(page, "What is a glacier?")
    (request,) = server.requests
    assert [request[name] for name in ("temperature", "top_p", "top_k")] == [0.123, 0.5, 0]
    assert "max_tokens" not in request
    page.reload()
    expect(page.locator("#model")).not_to_have_text("")
    assert page.input_value("[name=top_p]") == "0.5", "what was entered stays"


def test_conversation_is_kept_in_the_tab(page: Any) -> None:
    page.fill("[name=temperature]", "0.3")
    ask(page, "What is a glacier?")
    page.fill("#question", "not yet sent")
    page.reload()
    expect(page.locator(".content")).to_have_text(GLACIER)
    assert page.input_value("[name=temperature]") == "0.3" and page.input_value("#question") == "not yet sent"
    assert page.evaluate("localStorage.length") == 0
    page.get_by_role("button", name="New conversation").click()
    expect(page.locator(".turn")).to_have_count(0)
    page.reload()
    expect(page.locator(".turn")).to_have_count(0)


def test_key_is_asked_for_and_kept_in_the_tab(open_page: Opener, server: MockServer, problems: Problems) -> None:
    problems.allowed = "401"
    server.key = "sesame"
    page = open_page()
    page.fill("#key", "wrong")
    page.keyboard.press("Enter")
    expect(page.locator("#key")).to_have_value("")
    page.fill("#key", "sesame")
    page.get_by_role("button", name="Use this key").click()
    expect(page.locator("#model")).to_have_text("smollm2-135m")
    ask(page, "What is a glacier?")
    expect(page.locator(".content")).to_have_text(GLACIER)
    assert page.evaluate("[sessionStorage.getItem('key'), localStorage.length]") == ["sesame", 0]
    server.key = "another"
    send(page, "And now?")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator(".error")).to_have_text("The server refused the API key.")


def test_busy_server_is_asked_again(page: Any, server: MockServer, problems: Problems) -> None:
    problems.allowed = "429"
    server.busy = 2
    send(page, "busy?")
    expect(status(page)).to_have_text(re.compile("The server is busy. Trying again in 1 s"))
    expect(page.locator(".content")).to_have_text(GLACIER)
    assert len(server.requests) == 3
    server.busy = 2
    send(page, "busy still?")
    expect(status(page)).to_have_text(re.compile("The server is busy"))
    page.click("#send")
    expect(status(page)).to_have_text("stopped")


def test_errors_are_for_people(page: Any, server: MockServer, problems: Problems) -> None:
    problems.allowed = "400|ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED"
    send(page, "long")
    expect(page.locator(".error")).to_have_text(
        "The server refused the request (400): <b>5,000</b> tokens, the model has 2,048 positions"
    )
    page.get_by_role("button", name="New conversation").click()
    send(page, "broken")
    expect(page.locator(".error")).to_have_text("The connection broke before the answer was complete.")
    expect(page.locator(".content")).to_have_text("A glacier is")
    server.shutdown()
    server.server_close()
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(".error")).to_have_text("The server cannot be reached. Is it still running?")
    expect(page.locator(".content")).to_have_text("A glacier is")
    page.get_by_role("button", name="中文").click()
    expect(page.locator(".error")).to_have_text("无法连接服务器。它还在运行吗？")


def test_setting_out_of_range_is_not_sent(page: Any, server: MockServer) -> None:
    page.fill("[name=temperature]", "-1")
    page.get_by_role("button", name="Settings").click()
    send(page, "What is a glacier?")
    expect(page.locator("[name=temperature]")).to_be_focused()
    assert page.input_value("#question") == "What is a glacier?" and not server.requests


@pytest.mark.parametrize("locale", ["en-US", "zh-CN"])
def test_phone_has_no_horizontal_scroll(open_page: Opener, locale: str, problems: Problems) -> None:
    problems.allowed = "400"
    page = open_page(**PHONE, locale=locale)
    sizes = "() => [document.documentElement.scrollWidth, document.getElementById('log').scrollWidth]"
    assert page.evaluate(sizes) == [360, 360]
    page.click("#settings-button")
    page.check("[name=probabilities]")
    for question in ("code", "w" * 300, "long", "冰川是什么？"):
        send(page, question)
        page.locator(".turn").last.locator(".edit").wait_for()
        assert page.evaluate(sizes) == [360, 360], question
    page.click("#settings-button")
    page.locator(".token").last.tap()
    assert page.evaluate(sizes) == [360, 360]
    assert page.evaluate("document.documentElement.scrollHeight") == 740
    expect(page.locator("#send")).to_be_in_viewport(ratio=1)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast(open_page: Opener, scheme: str, problems: Problems) -> None:
    problems.allowed = "400"
    page = open_page(color_scheme=scheme)
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (paper == "rgb(253, 253, 252)") is (scheme == "light")
    least, text = page.evaluate(CONTRAST)
    assert 4.5 <= least < 21, text
    page.check("[name=probabilities]")
    for question in ("What is a glacier?", "code", "long"):
        ask(page, question)
    page.hover(".token >> nth=3")
    least, text = page.evaluate(CONTRAST)
    assert least >= 4.5, text
    page.click("[data-mode=continue]")
    ask(page, "Ice is old.")
    least, text = page.evaluate(CONTRAST)
    assert least >= 4.5, text


def test_language_and_scheme_are_switched_and_remembered(open_page: Opener) -> None:
    page = open_page(locale="zh-CN", color_scheme="light")
    assert page.get_attribute("html", "lang") == "zh-Hans"
    expect(page.locator("#send")).to_have_text("发送")
    page.locator("#language").click()
    expect(page.locator("#send")).to_have_text("Send")
    page.locator("#theme").click()
    for _ in range(2):
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(22, 25, 29)"
        assert page.get_attribute("html", "lang") == "en"
        page.reload()
    page.locator("#theme").click()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(253, 253, 252)"


def test_controls_have_names_and_an_order(page: Any) -> None:
    ask(page, "What is a glacier?")
    roles = page.locator("button:visible, input:visible, textarea:visible")
    for control in roles.all():
        expect(control).to_have_accessible_name(re.compile(r"\w"))
    page.focus("#settings-button")
    order = []
    while len(order) < 30 and (not order or order[-1] != "send"):
        order.append(page.evaluate(FOCUSED))
        page.keyboard.press("Tab")
    fields = ["system", "temperature", "top_p", "top_k", "max_tokens", "seed", "probabilities"]
    assert order[:7] == ["settings-button", "language", "theme", "chat", "continue", "new", fields[0]]
    assert order[6:-5] == fields and order[-5:] == ["log", "regenerate", "edit", "question", "send"]
