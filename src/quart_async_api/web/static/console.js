// The console's pages work without this; with it, they answer in place.

import { wireAtOnce } from "./at_once.js";
import { wireCall } from "./call.js";

document.documentElement.classList.add("scripted");
for (const section of document.querySelectorAll(".race")) wireAtOnce(section);
for (const card of document.querySelectorAll(".call")) wireCall(card);

for (const button of document.querySelectorAll("[data-copy]")) {
  button.addEventListener("click", async () => {
    await copy(button.parentElement.querySelector("[data-curl]"));
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = "Copy"), 1500);
  });
}

// Pages of an address that is neither https nor loopback have no clipboard: there the command is left selected.
async function copy(code) {
  if (navigator.clipboard) return navigator.clipboard.writeText(code.textContent);
  getSelection().selectAllChildren(code);
}
