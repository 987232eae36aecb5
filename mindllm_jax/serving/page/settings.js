// The form of settings: the system prompt, sampling, and whether probabilities are shown.
const form = document.getElementById("settings");
const button = document.getElementById("settings-button");
const NUMBERS = ["temperature", "top_p", "top_k", "max_tokens", "seed"];

export const probabilities = () => form.elements.probabilities.checked;
export const systemPrompt = () => form.elements.system.value.trim();

// The fields of a request; an empty one is left to the server.
export const sampling = () => Object.fromEntries(NUMBERS.map((name) => [name, form.elements[name].value])
  .filter(([, value]) => value !== "").map(([name, value]) => [name, Number(value)]));

export function open(visible = form.hidden) {
  form.hidden = !visible;
  button.ariaExpanded = String(visible);
}

// Whether all values are in their ranges; shows the first that is not.
export function valid() {
  if (form.checkValidity()) return true;
  open(true);
  return form.reportValidity();
}

const property = (field) => (field.type === "checkbox" ? "checked" : "value");

export const values = () => Object.fromEntries([...form.elements].map((field) => [field.name, field[property(field)]]));

// Starts from the server's sampling; values that were entered or restored stay.
export function begin(sampling) {
  for (const name of NUMBERS.filter((name) => sampling[name] != null)) {
    const field = form.elements[name];
    field.defaultValue = sampling[name];
    if (field.validity.stepMismatch) field.step = "any";
  }
}

export function restore(stored) {
  for (const field of form.elements) if (field.name in stored) field[property(field)] = stored[field.name];
}

button.onclick = () => open();
form.onsubmit = (event) => event.preventDefault();
