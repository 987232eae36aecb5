// The chat page: what was asked and answered, the buttons, and one answer at a time.
import { answer, modelName } from "./api.js";
import { make, showAlternatives, turnView } from "./view.js";
import { label, say, switchLanguage } from "./words.js";

const $ = (id) => document.getElementById(id);
const [log, settings, question] = ["log", "settings", "question"].map($);

// A turn: question, answer, tokens [{text, p, top}], finish, error, statistics. Both modes have their own list of turns.
const state = { mode: "chat", chat: [], continue: [], settings: {}, draft: "" };
Object.assign(state, JSON.parse(sessionStorage.getItem("state") ?? "{}"));
let model = "";
let live = null; // the turn that is being answered: {turn, controller}
let editing = null;
let views = new Map();

const turns = () => state[state.mode];
const chatting = () => state.mode === "chat";

function save() {
  for (const { name, type, checked, value } of settings.elements) state.settings[name] = type === "checkbox" ? checked : value;
  state.draft = question.value;
  try {
    sessionStorage.setItem("state", JSON.stringify(state));
  } catch { // full: probabilities take the most room
    const bare = (list) => list.map((turn) => ({ ...turn, tokens: [] }));
    const smaller = { ...state, chat: bare(state.chat), continue: bare(state.continue) };
    try {
      sessionStorage.setItem("state", JSON.stringify(smaller));
    } catch { /* The conversation is then in this page alone. */ }
  }
}

// --- drawing ---------------------------------------------------------------------------------------------------------

function actionsOf(turn) {
  if (turn === editing) return { again: () => editAndAsk(turn), cancel: () => edit(null) };
  if (live) return {};
  const last = turn === turns().at(-1);
  return {
    ...(last && turn.error && { retry: () => ask(turn) }),
    ...(last && turn.answer && { regenerate: () => ask(turn) }),
    ...(last && turn.answer && !chatting() && { further: () => ask(turn, true) }),
    edit: () => edit(turn),
  };
}

function draw() {
  const options = { chat: chatting(), probabilities: settings.elements.probabilities.checked };
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

function redraw(turn) {
  const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 60;
  views.get(turn)?.write();
  if (atEnd) toEnd();
}

const fit = (area) => {
  area.style.height = "auto";
  area.style.height = `${area.scrollHeight + 2}px`;
};

// Speaks whole sentences while they come: a screen reader cannot follow single tokens.
function speaker() {
  $("spoken").replaceChildren();
  let said = 0;
  return (text, ended) => {
    const more = ended ? text.slice(said) : (text.slice(said).match(/^[\s\S]*[.!?。！？\n]/)?.[0] ?? "");
    said += more.length;
    if (more.trim()) $("spoken").append(make("p", { textContent: more }));
  };
}

// --- asking ----------------------------------------------------------------------------------------------------------

function valid() {
  if (settings.checkValidity()) return true;
  openSettings(true);
  return settings.reportValidity();
}

function body(turn, further) {
  const fields = ["temperature", "top_p", "top_k", "max_tokens", "seed"].map((name) => [name, settings.elements[name].value]);
  const sampling = Object.fromEntries(fields.filter(([, value]) => value !== "").map(([name, value]) => [name, Number(value)]));
  const probabilities = settings.elements.probabilities.checked;
  if (!chatting()) {
    const prompt = turn.question + (further ? turn.answer : "");
    return { model, prompt, ...sampling, ...(probabilities && { logprobs: 5 }) };
  }
  const system = settings.elements.system.value.trim();
  const before = turns().slice(0, turns().indexOf(turn)).filter((each) => each.answer.trim());
  const messages = [
    ...(system ? [{ role: "system", content: system }] : []),
    ...before.flatMap((each) => [{ role: "user", content: each.question }, { role: "assistant", content: each.answer }]),
    { role: "user", content: turn.question },
  ];
  return { model, messages, ...sampling, ...(probabilities && { logprobs: true, top_logprobs: 5 }) };
}

function askForKey() {
  const dialog = $("key-dialog");
  dialog.returnValue = $("key").value = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.onclose = () => {
      if (dialog.returnValue === "use") sessionStorage.setItem("key", $("key").value);
      resolve(dialog.returnValue === "use");
    };
  });
}

const pause = (seconds, signal) => new Promise((resolve, reject) => {
  setTimeout(resolve, 1000 * seconds);
  signal.addEventListener("abort", () => reject(signal.reason));
});

// The parts of an answer. A busy server is asked again when it says, five times; a missing key is asked for.
async function* patiently(turn, further, signal) {
  const path = chatting() ? "v1/chat/completions" : "v1/completions";
  const request = body(turn, further);
  for (let left = 5; ;) {
    try {
      return yield* answer(path, request, sessionStorage.getItem("key"), signal);
    } catch (error) {
      if (error.word === "denied" && (await askForKey())) continue;
      if (error.word !== "full" || !left--) throw error;
      for (let seconds = Math.min(60, Math.ceil(error.values.seconds)); seconds > 0; seconds--) {
        turn.notice = { word: "busy", values: { seconds } };
        redraw(turn);
        await pause(1, signal);
      }
      turn.notice = { word: "waiting" };
    }
  }
}

// Answers a turn; with `further` its answer grows. An earlier answer stays until the first token of the new one.
async function ask(turn, further = false) {
  if (live || !valid()) return;
  const chat = chatting();
  const controller = new AbortController();
  live = { turn, controller };
  Object.assign(turn, { error: null, notice: { word: "waiting" } });
  draw();
  toEnd();
  $("send").focus({ preventScroll: true });
  const start = turn.answer;
  const speak = speaker();
  const asked = performance.now();
  let [first, latest, count, frame] = [0, 0, 0, 0];
  const text = () => (further ? turn.answer.slice(start.length) : turn.answer);
  try {
    for await (const part of patiently(turn, further, controller.signal)) {
      if (!first && (part.text || part.finish)) {
        first = performance.now();
        Object.assign(turn, { notice: null, finish: null, statistics: null }, further ? {} : { answer: "", tokens: [] });
      }
      if (part.text) [latest, count] = [performance.now(), count + (part.tokens.length || 1)];
      turn.answer += part.text;
      turn.tokens.push(...part.tokens);
      turn.finish = part.finish ?? turn.finish;
      count = part.count ?? count;
      speak(text());
      frame ||= requestAnimationFrame(() => { frame = 0; redraw(turn); });
    }
  } catch (error) {
    if (error.name === "AbortError") turn.finish = first || !turn.answer ? "stopped" : turn.finish;
    else if (error.word) turn.error = { word: error.word, values: error.values };
    else throw error;
  } finally {
    if (first) {
      if (chat) turn.answer = turn.answer.trim();
      const rate = latest > first ? ((1000 * (count - 1)) / (latest - first)).toFixed(1) : "–";
      turn.statistics = { tokens: count, rate, first: ((first - asked) / 1000).toFixed(2) };
      speak(text(), true);
    }
    if (turn.error) $("spoken").append(make("p", { textContent: say(turn.error.word, turn.error.values) }));
    live = null;
    const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 60;
    draw();
    if (atEnd) toEnd();
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

function editAndAsk(turn) {
  const text = log.querySelector(".editor").value;
  if (!text.trim() || !valid()) return;
  editing = null;
  turns().splice(turns().indexOf(turn), Infinity, { question: text, answer: "", tokens: [] });
  ask(turns().at(-1));
}

// --- buttons and keys ------------------------------------------------------------------------------------------------

function stop() {
  live?.controller.abort();
}

function openSettings(open) {
  settings.hidden = !open;
  $("settings-button").ariaExpanded = String(open);
}

$("composer").onsubmit = (event) => {
  event.preventDefault();
  if (live) return stop();
  if (!question.value.trim() || !valid()) return;
  turns().push({ question: question.value, answer: "", tokens: [] });
  question.value = "";
  fit(question);
  editing = null;
  ask(turns().at(-1));
};

// Enter that chooses a Chinese character (an input method composes) sends nothing.
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !event.isComposing) editing ? edit(null) : stop();
  const enter = event.key === "Enter" && !event.shiftKey && !event.isComposing && event.keyCode !== 229;
  if (!enter || (event.target !== question && event.target.className !== "editor")) return;
  event.preventDefault();
  if (event.target !== question) editAndAsk(editing);
  else if (!live) $("composer").requestSubmit();
});
document.addEventListener("input", ({ target }) => target.matches("#question, .editor") && fit(target));

$("modes").onclick = ({ target }) => {
  if (!target.dataset.mode) return;
  stop();
  [state.mode, editing] = [target.dataset.mode, null];
  draw();
  save();
};
$("new").onclick = () => {
  stop();
  [state[state.mode], editing] = [[], null];
  draw();
  save();
  question.focus();
};
$("settings-button").onclick = () => openSettings(settings.hidden);
settings.onsubmit = (event) => event.preventDefault();
settings.onchange = ({ target }) => {
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
    model = await modelName(sessionStorage.getItem("key"));
  } catch (error) {
    if (error.word === "denied" && (await askForKey())) return nameModel();
  }
  $("model").textContent = model;
}

document.documentElement.dataset.theme = localStorage.getItem("theme") ?? "";
for (const [name, value] of Object.entries(state.settings)) {
  const field = settings.elements[name];
  if (field?.type === "checkbox") field.checked = value;
  else if (field) field.value = value;
}
question.value = state.draft;
label();
showAlternatives(log);
openSettings(innerWidth > 800);
draw();
toEnd();
nameModel();
