// Asking a server that may be busy or want a key. The key is kept in sessionStorage: in this tab, until it is closed.
import { answer } from "./api.js";

const dialog = document.getElementById("key-dialog");
const field = document.getElementById("key");

export const key = () => sessionStorage.getItem("key");

// Returns whether a key was given.
export function askForKey() {
  dialog.returnValue = field.value = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.onclose = () => {
      const given = dialog.returnValue === "use";
      if (given) sessionStorage.setItem("key", field.value);
      resolve(given);
    };
  });
}

const pause = (seconds, signal) => new Promise((resolve, reject) => {
  setTimeout(resolve, 1000 * seconds);
  signal.addEventListener("abort", () => reject(signal.reason));
});

// The parts of an answer. A busy server is asked again after the seconds that it names, five times; `wait` takes the
// seconds that are left.
export async function* ask(path, request, signal, wait) {
  for (let left = 5; ;) {
    try {
      return yield* answer(path, request, key(), signal);
    } catch (error) {
      if (error.word === "denied" && (await askForKey())) continue;
      if (error.word !== "full" || !left--) throw error;
      for (let seconds = Math.min(60, Math.ceil(error.values.seconds)); seconds > 0; seconds--) {
        wait(seconds);
        await pause(1, signal);
      }
    }
  }
}
