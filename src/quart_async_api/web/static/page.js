// Every page: works without this. With it, times are local, commands can be copied, and live parts stay up to date.

import { keepLive } from "./live.js";
import { localTimes } from "./times.js";

document.documentElement.classList.add("scripted");

// Pages of an address that is neither https nor loopback have no clipboard: there the text is left selected.
async function copy(code) {
  if (navigator.clipboard) return navigator.clipboard.writeText(code.textContent);
  getSelection().selectAllChildren(code);
}

document.addEventListener("click", async ({ target }) => {
  const button = target.closest("[data-copy]");
  if (!button) return;
  await copy(button.parentElement.querySelector("code"));
  button.textContent = "Copied";
  setTimeout(() => (button.textContent = "Copy"), 1500);
});

localTimes(document);
keepLive(localTimes);
