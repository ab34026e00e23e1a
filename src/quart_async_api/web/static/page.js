// Every page: works without this. With it, times are local, commands can be copied, and forms are sent once.

import { localTimes } from "./times.js";

document.documentElement.classList.add("scripted");

// Pages of an address that is neither https nor loopback have no clipboard: there the text is left selected.
async function copy(code) {
  if (navigator.clipboard) return navigator.clipboard.writeText(code.textContent);
  getSelection().selectAllChildren(code);
}

const said = document.getElementById("said");

document.addEventListener("click", async ({ target }) => {
  const button = target.closest("[data-copy]");
  if (!button) return;
  await copy(button.parentElement.querySelector("code"));
  button.textContent = said.textContent = "Copied";
  setTimeout(() => {
    button.textContent = "Copy";
    said.textContent = ""; // so that it can be said again
  }, 1500);
});

// A form that was sent waits for its answer: a double click makes one job. It can be sent again if no answer comes.
const PATIENCE = 5000; // ms
const sent = new WeakSet();

addEventListener("submit", (event) => {
  const { target: form, submitter } = event;
  if (event.defaultPrevented || (submitter?.getAttribute("formmethod") ?? form.getAttribute("method")) !== "post") return;
  if (sent.has(form)) return event.preventDefault();
  sent.add(form);
  setTimeout(() => sent.delete(form), PATIENCE);
  addEventListener("pageshow", () => sent.delete(form), { once: true }); // the reader came back
});

localTimes(document);
