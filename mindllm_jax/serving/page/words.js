// The texts of the page in English and Chinese.
const WORDS = {
  mode: ["Mode", "模式"],
  chat: ["Chat", "对话"],
  continue: ["Continue a text", "续写文本"],
  new: ["New", "新对话"],
  newLabel: ["New conversation", "新对话"],
  settings: ["Settings", "设置"],
  otherLanguage: ["中文", "English"],
  switchLanguage: ["中文: switch to Chinese", "English：切换到英文"],
  switchTheme: ["Dark or light", "深色或浅色"],
  system: ["System prompt", "系统提示"],
  systemHint: ["How the model should answer", "希望模型怎样回答"],
  temperature: ["Temperature", "温度"],
  topP: ["Top-p", "Top-p"],
  topK: ["Top-k (0: all)", "Top-k（0：全部）"],
  maxTokens: ["Max tokens", "最大词元数"],
  seed: ["Seed", "随机种子"],
  auto: ["auto", "自动"],
  random: ["random each time", "每次随机"],
  probabilities: ["Show token probabilities", "显示词元概率"],
  likely: ["likely", "概率高"],
  unlikely: ["unlikely", "概率低"],
  probabilitiesNote: ["At temperature 1. Point at a token, tap it, or use the arrow keys to see the alternatives.",
    "按温度 1 计算。指向、点按词元，或用方向键，可查看其他候选。"],
  conversation: ["Conversation", "对话内容"],
  keys: ["Enter sends, Shift+Enter starts a new line, Esc stops", "Enter 发送，Shift+Enter 换行，Esc 停止"],
  keyTitle: ["This server asks for an API key", "此服务器需要 API 密钥"],
  keyLabel: ["API key", "API 密钥"],
  keyNote: ["Kept in this tab alone, until it is closed.", "仅保存在当前标签页中，关闭后即清除。"],
  use: ["Use this key", "使用此密钥"],
  cancel: ["Cancel", "取消"],
  send: ["Send", "发送"],
  stop: ["Stop", "停止"],
  ask: ["Ask the model", "向模型提问"],
  begin: ["A text to continue", "要续写的文本"],
  emptychat: ["Ask something", "开始提问"],
  emptycontinue: ["Begin a text, and the model continues it", "写下开头，由模型续写"],
  caution: ["A small model is often wrong: check what matters.", "小模型常会出错，重要内容请核实。"],
  you: ["You", "你"],
  model: ["Model", "模型"],
  text: ["Text", "文本"],
  edit: ["Edit", "编辑"],
  again: ["Answer again from here", "从这里重新回答"],
  regenerate: ["Regenerate", "重新生成"],
  further: ["Continue", "继续"],
  retry: ["Try again", "重试"],
  waiting: ["Waiting for the first token …", "等待第一个词元……"],
  statistics: ["{tokens} tokens · {rate} tokens/s · first token after {first} s",
    "{tokens} 个词元 · 每秒 {rate} 个 · 首个词元用时 {first} 秒"],
  stopped: ["stopped", "已停止"],
  length: ["ended by Max tokens", "达到最大词元数"],
  tokens: ["Answer by token, with probabilities; the arrow keys move", "按词元显示的回答及概率；用方向键移动"],
  token: ["{text}, {percent}", "{text}，{percent}"],
  unmeasured: ["No probabilities were asked for with this answer: regenerate it to see them.",
    "生成此回答时未请求概率：重新生成后可查看。"],
  gone: ["The server cannot be reached. Is it still running?", "无法连接服务器。它还在运行吗？"],
  broken: ["The connection broke before the answer was complete.", "回答尚未完成，连接已中断。"],
  busy: ["The server is busy. Trying again in {seconds} s …", "服务器繁忙，{seconds} 秒后重试……"],
  full: ["The server is busy. Try again later.", "服务器繁忙，请稍后重试。"],
  denied: ["The server refused the API key.", "服务器拒绝了 API 密钥。"],
  refused: ["The server refused the request ({status}): {message}", "服务器拒绝了请求（{status}）：{message}"],
};

let language = localStorage.getItem("language") ?? (navigator.language.startsWith("zh") ? "zh" : "en");

export const say = (name, values = {}) =>
  WORDS[name][language === "zh" ? 1 : 0].replace(/\{(\w+)\}/g, (_, key) => values[key]);

export function switchLanguage() {
  language = language === "zh" ? "en" : "zh";
  localStorage.setItem("language", language);
  label();
}

// Writes the texts of index.html.
export function label() {
  document.documentElement.lang = language === "zh" ? "zh-Hans" : "en";
  for (const e of document.querySelectorAll("[data-text]")) e.textContent = say(e.dataset.text);
  for (const e of document.querySelectorAll("[data-label]")) e.ariaLabel = say(e.dataset.label);
  for (const e of document.querySelectorAll("button[data-label]")) e.title = e.ariaLabel;
  for (const e of document.querySelectorAll("[data-hint]")) e.placeholder = say(e.dataset.hint);
}
