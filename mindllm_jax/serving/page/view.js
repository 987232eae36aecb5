// A turn of the conversation as elements. All text becomes text nodes: what a model writes is never markup.
import { say } from "./words.js";

export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

const percent = (p) => `${(100 * p).toFixed(p < 0.0995 ? 1 : 0)}%`;
const visible = (text) => text.replaceAll("\n", "↵").replaceAll("\t", "⇥").replaceAll(" ", "␣");

// Code between fences is set apart; an open fence reaches to the end.
function paragraphs(text) {
  return text.split(/^```/m).map((part, i) => {
    if (i % 2 === 0) return make("div", { textContent: part.trim() });
    const [, name, code] = part.match(/^([^\n]*)\n?([\s\S]*)$/);
    return make("pre", { tabIndex: 0, title: name.trim() }, make("code", { textContent: code.trimEnd() }));
  }).filter((element) => element.textContent);
}

function tokenElement({ text, name, p, top }, first) {
  const element = make("span", { className: "token", textContent: text, tabIndex: first ? 0 : -1, role: "button" });
  element.classList.toggle("newline", text.startsWith("\n"));
  element.ariaLabel = say("token", { text: visible(name), percent: percent(p) });
  element.setAttribute("aria-describedby", "alternatives");
  element.style.setProperty("--doubt", `${Math.round(100 * (1 - p))}%`);
  element.name = name;
  element.alternatives = top.some(([other]) => other === name) ? top : [...top, [name, p]];
  return element;
}

// Writes the answer. Tokens that are written already stay: a long answer costs no more per token than a short one.
function writeAnswer(box, turn, { chat, probabilities }) {
  const tokens = probabilities ? turn.tokens : [];
  box.classList.toggle("tokens", tokens.length > 0);
  box.ariaLabel = tokens.length ? say("tokens") : null;
  box.role = tokens.length ? "group" : null;
  if (!tokens.length) {
    const text = make("span", { textContent: turn.answer });
    box.replaceChildren(...(chat ? paragraphs(turn.answer) : [text]));
    return;
  }
  if (!box.firstChild?.alternatives || box.childNodes.length > tokens.length) box.replaceChildren();
  for (const token of tokens.slice(box.childNodes.length)) box.append(tokenElement(token, !box.firstChild));
}

function writeStatus(box, turn, { live, probabilities }) {
  const { statistics, finish, answer, tokens, notice } = turn;
  const parts = [];
  if (live && notice) parts.push(say(notice.word, notice.values));
  if (!live && statistics) parts.push(say("statistics", statistics));
  if (!live && ["stopped", "length"].includes(finish)) parts.push(say(finish));
  if (!live && probabilities && answer && !tokens.length) parts.push(say("unmeasured"));
  box.textContent = parts.join(" · ");
}

// `options`: chat, probabilities, live (the answer is coming), editing; `actions`: functions by entry of words.js.
// Returns the element and a function that writes what has changed.
export function turnView(turn, options, actions) {
  const heading = (word) => make("span", { className: "hidden", textContent: `${say(word)}: ` });
  const question = options.editing
    ? make("textarea", { className: "editor", value: turn.question, ariaLabel: say("edit") })
    : make("div", { className: "question" }, heading(options.chat ? "you" : "text"), turn.question);
  const box = make("div", { className: "content" });
  const status = make("p", { className: "note status" });
  const problem = turn.error && make("p", { className: "error", textContent: say(turn.error.word, turn.error.values) });
  const buttons = Object.entries(actions).map(([word, onclick]) =>
    make("button", { type: "button", className: word, textContent: say(word), onclick }));
  const element = make("article", { className: "turn" }, question,
    make("div", { className: "answer" }, heading("model"), box), ...(problem ? [problem] : []), status,
    make("div", { className: "actions" }, ...buttons));
  const write = () => {
    writeAnswer(box, turn, options);
    writeStatus(status, turn, options);
  };
  write();
  return { element, write };
}

// --- the alternatives of the token that is pointed at, tapped or focused ---------------------------------------------

const tip = document.getElementById("alternatives");
let shown = null; // the token whose alternatives are shown

export function hideAlternatives() {
  shown = null;
  tip.hidden = true;
}

function show(token) {
  shown = token;
  const row = ([name, p]) => make("tr", { className: name === token.name ? "drawn" : "" },
    make("td", { textContent: visible(name) }), make("td", { textContent: percent(p) }));
  tip.replaceChildren(make("table", {}, ...token.alternatives.map(row)));
  tip.hidden = false;
  const { left, top, bottom } = token.getBoundingClientRect();
  const below = bottom + tip.offsetHeight + 8 < innerHeight;
  tip.style.left = `${Math.max(8, Math.min(left, innerWidth - tip.offsetWidth - 8))}px`;
  tip.style.top = `${below ? bottom + 2 : top - tip.offsetHeight - 2}px`;
}

// The token that has the focus keeps its alternatives: a tap ends with the pointer's leaving.
function showFocused() {
  document.activeElement.alternatives ? show(document.activeElement) : hideAlternatives();
}

// Listens to the tokens inside `log`, of which Tab reaches one per answer.
export function showAlternatives(log) {
  for (const kind of ["mouseover", "focusin"])
    log.addEventListener(kind, ({ target }) => (target.alternatives ? show(target) : showFocused()));
  log.addEventListener("mouseleave", showFocused);
  log.addEventListener("focusout", hideAlternatives);
  log.addEventListener("scroll", () => shown && show(shown));
  log.addEventListener("keydown", (event) => {
    if (event.key === "Escape") hideAlternatives();
    const { target } = event;
    const next = { ArrowRight: target.nextSibling, ArrowLeft: target.previousSibling }[event.key];
    if (!target.alternatives || !next) return;
    event.preventDefault();
    target.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  });
}
