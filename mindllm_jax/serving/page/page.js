// The chat page: what was asked and answered, the buttons, and one answer at a time.
import { servedModel } from "./api.js";
import * as asking from "./asking.js";
import * as settings from "./settings.js";
import { hideAlternatives, make, showAlternatives, turnView } from "./view.js";
import { label, say, switchLanguage } from "./words.js";

const $ = (id) => document.getElementById(id);
const [log, question, spoken] = ["log", "question", "spoken"].map($);

// A turn: question, answer, tokens [{text, name, p, top}], finish, error, statistics. Each mode has its own turns.
const state = { mode: "chat", chat: [], continue: [], settings: {}, draft: "" };
Object.assign(state, JSON.parse(sessionStorage.getItem("state") ?? "{}"));
let model = "";
let live = null; // the turn that is being answered: {turn, controller}
let editing = null;
let views = new Map();

const turns = () => state[state.mode];
const chatting = () => state.mode === "chat";

// Probabilities take the most room: they are left out when the storage is full.
function save() {
  Object.assign(state, { settings: settings.values(), draft: question.value });
  const bare = (list) => list.map((turn) => ({ ...turn, tokens: [] }));
  for (const kept of [state, { ...state, chat: bare(state.chat), continue: bare(state.continue) }]) {
    try {
      return sessionStorage.setItem("state", JSON.stringify(kept));
    } catch { /* The next one is smaller. */ }
  }
}

// --- drawing ---------------------------------------------------------------------------------------------------------

function actionsOf(turn) {
  if (turn === editing) return { again: () => editAndAsk(turn), cancel: () => edit(null) };
  if (live) return {};
  const last = turn === turns().at(-1);
  return {
    ...(last && (turn.error || !turn.answer) && { retry: () => ask(turn) }),
    ...(last && turn.answer && { regenerate: () => ask(turn) }),
    ...(last && turn.answer && !chatting() && { further: () => ask(turn, true) }),
    edit: () => edit(turn),
  };
}

function draw() {
  hideAlternatives();
  const options = { chat: chatting(), probabilities: settings.probabilities() };
  views = new Map(turns().map((turn) =>
    [turn, turnView(turn, { ...options, live: turn === live?.turn, editing: turn === editing }, actionsOf(turn))]));
  const empty = make("div", { className: "empty" }, make("h2", { textContent: say(`empty${state.mode}`) }),
    make("p", { className: "note", textContent: say("caution") }));
  log.replaceChildren(...(views.size ? [...views.values()].map(({ element }) => element) : [empty]));
  document.body.className = state.mode;
  for (const button of $("modes").children) button.ariaPressed = String(button.dataset.mode === state.mode);
  $("send").textContent = say(live ? "stop" : "send");
  question.placeholder = question.ariaLabel = say(chatting() ? "ask" : "begin");
}

function toEnd() {
  log.scrollTop = log.scrollHeight;
}

// Whoever reads further up is not moved.
function keepingTheEnd(change) {
  const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 60;
  change();
  if (atEnd) toEnd();
}

const redraw = (turn) => keepingTheEnd(() => views.get(turn)?.write());

function fit(area) {
  area.style.height = "auto";
  area.style.height = `${area.scrollHeight + 2}px`;
}

// Speaks whole sentences while they come: a screen reader cannot follow single tokens.
function speaker() {
  spoken.replaceChildren();
  let said = 0;
  return (text, ended) => {
    const more = ended ? text.slice(said) : (text.slice(said).match(/^[\s\S]*[.!?。！？\n]/)?.[0] ?? "");
    said += more.length;
    if (more.trim()) spoken.append(make("p", { textContent: more }));
  };
}

// --- asking ----------------------------------------------------------------------------------------------------------

function requestOf(turn, further) {
  const common = { model, ...settings.sampling() };
  const measured = settings.probabilities();
  if (!chatting()) {
    const prompt = turn.question + (further ? turn.answer : "");
    const enough = 100; // without it this API gives 16 tokens
    return { max_tokens: enough, ...common, prompt, ...(measured && { logprobs: 5 }) };
  }
  const system = settings.systemPrompt();
  const user = (content) => ({ role: "user", content });
  const before = turns().slice(0, turns().indexOf(turn)).filter(({ answer }) => answer.trim());
  const messages = [
    ...(system ? [{ role: "system", content: system }] : []),
    ...before.flatMap(({ question, answer }) => [user(question), { role: "assistant", content: answer }]),
    user(turn.question),
  ];
  return { ...common, messages, ...(measured && { logprobs: true, top_logprobs: 5 }) };
}

// Answers a turn; with `further` its answer grows. An earlier answer stays until the first token of the new one.
async function ask(turn, further = false) {
  if (live || !settings.valid()) return;
  const chat = chatting();
  const controller = new AbortController();
  live = { turn, controller };
  Object.assign(turn, { error: null, notice: { word: "waiting" } });
  draw();
  toEnd();
  if (document.activeElement === document.body) $("send").focus();
  const start = further ? turn.answer.length : 0;
  const speak = speaker();
  const asked = performance.now();
  let [first, latest, count, frame] = [0, 0, 0, 0];
  const wait = (seconds) => {
    turn.notice = { word: "busy", values: { seconds } };
    redraw(turn);
  };
  try {
    if (!model) await nameModel();
    const path = chat ? "v1/chat/completions" : "v1/completions";
    for await (const part of asking.ask(path, requestOf(turn, further), controller.signal, wait)) {
      if (!first && (part.text || part.tokens.length || part.finish)) {
        first = performance.now();
        Object.assign(turn, { notice: null, finish: null, statistics: null }, further ? {} : { answer: "", tokens: [] });
      }
      if (part.text) [latest, count] = [performance.now(), count + (part.tokens.length || 1)];
      turn.answer += part.text;
      turn.tokens.push(...part.tokens);
      turn.finish = part.finish ?? turn.finish;
      count = part.count ?? count;
      speak(turn.answer.slice(start));
      frame ||= requestAnimationFrame(() => {
        frame = 0;
        redraw(turn);
      });
    }
  } catch (error) {
    if (error.name === "AbortError") turn.finish = first || !turn.answer ? "stopped" : turn.finish;
    else if (error.word) turn.error = { word: error.word, values: error.values };
    else throw error;
    if (error.values?.status === 404) model = ""; // the server may have another by now
  } finally {
    if (first) {
      const rate = latest > first ? ((1000 * (count - 1)) / (latest - first)).toFixed(1) : "–";
      turn.statistics = { tokens: count, rate, first: ((first - asked) / 1000).toFixed(2) };
      speak(turn.answer.slice(start), true);
      if (chat) turn.answer = turn.answer.trim();
    }
    if (turn.error) spoken.append(make("p", { textContent: say(turn.error.word, turn.error.values) }));
    live = null;
    keepingTheEnd(draw);
    save();
  }
}

function edit(turn) {
  editing = turn;
  draw();
  const editor = log.querySelector(".editor");
  if (editor) fit(editor);
  (editor ?? question).focus();
}

function askAnew(list, text) {
  editing = null;
  state[state.mode] = [...list, { question: text, answer: "", tokens: [] }];
  ask(turns().at(-1));
}

function editAndAsk(turn) {
  const text = log.querySelector(".editor").value;
  if (text.trim() && settings.valid()) askAnew(turns().slice(0, turns().indexOf(turn)), text);
}

// --- buttons and keys ------------------------------------------------------------------------------------------------

const stop = () => live?.controller.abort();

$("composer").onsubmit = (event) => {
  event.preventDefault();
  const text = question.value;
  if (live) return stop();
  if (!text.trim() || !settings.valid()) return;
  question.value = "";
  fit(question);
  askAnew(turns(), text);
};

// Enter that chooses a Chinese character (an input method composes) sends nothing.
document.addEventListener("keydown", (event) => {
  if (event.isComposing || event.keyCode === 229) return;
  if (event.key === "Escape") editing ? edit(null) : stop();
  if (event.key !== "Enter" || event.shiftKey || !event.target.matches("#question, .editor")) return;
  event.preventDefault();
  if (event.target !== question) editAndAsk(editing);
  else if (!live) $("composer").requestSubmit();
});
document.addEventListener("input", ({ target }) => target.matches("#question, .editor") && fit(target));

function show(mode, list) {
  stop();
  editing = null;
  Object.assign(state, { mode, [mode]: list });
  draw();
  save();
}

$("modes").onclick = ({ target: { dataset: { mode } } }) => mode && mode !== state.mode && show(mode, state[mode]);
$("new").onclick = () => {
  show(state.mode, []);
  question.focus();
};
$("settings").onchange = ({ target }) => {
  if (target.name === "probabilities") draw();
  save();
};
$("language").onclick = () => {
  switchLanguage();
  draw();
};
$("theme").onclick = () => {
  const chosen = localStorage.getItem("theme");
  const dark = chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  localStorage.setItem("theme", (document.documentElement.dataset.theme = dark ? "light" : "dark"));
};
addEventListener("pagehide", save);

async function nameModel() {
  try {
    const { id, sampling } = await servedModel(asking.key());
    $("model").textContent = model = id;
    settings.begin(sampling);
  } catch (error) {
    if (error.word !== "denied" || !(await asking.askForKey())) throw error;
    await nameModel();
  }
}

document.documentElement.dataset.theme = localStorage.getItem("theme") ?? "";
settings.restore(state.settings);
settings.open(innerWidth > 800);
question.value = state.draft;
label();
showAlternatives(log);
draw();
toEnd();
nameModel().catch(() => {}); // a question tries again, and shows why it failed
