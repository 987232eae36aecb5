// The server's OpenAI-compatible API: the model, and an answer as a stream of parts.

// An answer that did not come: `word` is its entry of words.js, `values` fill that in.
export class Refusal extends Error {
  constructor(word, values = {}) {
    super(word);
    Object.assign(this, { word, values });
  }
}

async function request(path, key, options = {}) {
  const headers = { "Content-Type": "application/json", ...(key && { Authorization: `Bearer ${key}` }) };
  let response;
  try {
    response = await fetch(path, { ...options, headers, cache: "no-store" });
  } catch (error) {
    throw error.name === "AbortError" ? error : new Refusal("gone");
  }
  if (response.ok) return response;
  const body = await response.json().catch(() => ({}));
  const { status } = response;
  if (status === 401) throw new Refusal("denied");
  if (status === 429) throw new Refusal("full", { seconds: Number(response.headers.get("Retry-After")) || 2 });
  throw new Refusal("refused", { status, message: body.error?.message ?? response.statusText });
}

// {id, sampling}: the model's name, and the sampling of requests that leave it out.
export async function servedModel(key) {
  const models = await (await request("v1/models", key)).json();
  return { id: "", sampling: {}, ...models.data?.[0] };
}

const encoder = new TextEncoder();

// Text completions write `bytes:\xe4\xb8` where bytes are no text alone, as a part of a Chinese character.
function bytesOf({ token, bytes }) {
  if (bytes) return new Uint8Array(bytes);
  if (!token.startsWith("bytes:\\x")) return encoder.encode(token);
  return Uint8Array.from(token.split("\\x").slice(1), (digits) => parseInt(digits, 16));
}

function nameOf(token) {
  const bytes = bytesOf(token);
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return `⟨${[...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("")}⟩`;
  }
}

// Either shape of logprobs -> [{text, name, p, top: [[name, p], …]}, …]. The last token of a character has its text,
// those before it a dot.
function probabilities(logprobs, decoder) {
  const tokens = logprobs?.content?.map(({ top_logprobs: top, ...token }) => ({ ...token, top }))
    ?? logprobs?.tokens?.map((token, i) => ({ token, logprob: logprobs.token_logprobs[i],
      top: Object.entries(logprobs.top_logprobs?.[i] ?? {}).map(([token, logprob]) => ({ token, logprob })) }));
  return (tokens ?? []).map((token) => ({
    text: decoder.decode(bytesOf(token), { stream: true }) || "·",
    name: nameOf(token),
    p: Math.exp(token.logprob),
    top: token.top.map((other) => [nameOf(other), Math.exp(other.logprob)]).sort((a, b) => b[1] - a[1]),
  }));
}

// Yields the content of the stream's `data:` lines.
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) if (line.startsWith("data:")) yield line.slice(5).trim();
  }
}

// Yields {text, tokens, finish, count}: new text, its tokens with probabilities, why it ended, and the tokens used.
export async function* answer(path, body, key, signal) {
  const all = { ...body, stream: true, stream_options: { include_usage: true } };
  const response = await request(path, key, { method: "POST", body: JSON.stringify(all), signal });
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  let ended = false;
  try {
    for await (const data of events(response)) {
      if (data === "[DONE]") return;
      const { choices: [choice] = [], usage, error } = JSON.parse(data);
      if (error) throw new Refusal("refused", { status: error.code ?? "500", message: error.message });
      ended ||= Boolean(choice?.finish_reason);
      yield {
        text: choice?.delta?.content ?? choice?.text ?? "",
        tokens: probabilities(choice?.logprobs, decoder),
        finish: choice?.finish_reason,
        count: usage?.completion_tokens,
      };
    }
  } catch (error) {
    if (error.name === "AbortError" || error instanceof Refusal) throw error;
    throw new Refusal("broken");
  }
  if (!ended) throw new Refusal("broken");
}
