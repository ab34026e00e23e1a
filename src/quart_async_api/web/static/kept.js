// The last calls of this tab: what was typed, to be opened or sent again. Never a key or a
// password: a form with one is left out.

import { element } from "./answer.js";

const KEPT = 20;
const NAME = "calls";
const SECRET = "input[type=password]";

function read() {
  try {
    return JSON.parse(sessionStorage.getItem(NAME)) ?? [];
  } catch {
    return [];
  }
}

/** Keep as many of the first calls as the storage of the tab takes. */
function keep(calls) {
  while (calls.length) {
    try {
      return sessionStorage.setItem(NAME, JSON.stringify(calls));
    } catch {
      calls.pop();
    }
  }
}

/**
 * Show the last calls in `place`, a <details>; returns a function that keeps one more. Without a place, they are kept for the
 * list. `formOf(card)` resolves to the form of a card.
 */
export function keepCalls(place, formOf) {
  const list = place?.querySelector("ol");

  function show() {
    if (!place) return;
    const calls = read();
    place.hidden = !calls.length;
    place.querySelector("summary").textContent = `Last calls (${calls.length})`;
    list.replaceChildren(...calls.map(({ card, name, values, status, seconds }) => {
      const open = element("button", { type: "button", className: "quiet small" }, "Open");
      const again = element("button", { type: "button", className: "quiet small" }, "Send again");
      open.addEventListener("click", async () => (await restore(card, values, formOf))?.scrollIntoView());
      again.addEventListener("click", async () => (await restore(card, values, formOf))?.requestSubmit());
      return element("li", {}, element("code", {}, name), ` ${status ?? "no answer"} in ${seconds} `, open, again);
    }));
  }

  show();
  return (form, status, seconds) => {
    if (form.querySelector(SECRET)) return;
    const card = form.closest("article");
    const values = [...new FormData(form)];
    const name = card.querySelector("h1, h3").textContent.trim().replace(/\s+/g, " ");
    keep([{ card: card.id, name, values, status, seconds }, ...read()].slice(0, KEPT));
    show();
  };
}

/** Put `values` into the form of the card with this id; resolves to the form. */
async function restore(id, values, formOf) {
  const card = document.getElementById(id);
  if (!card) return undefined;
  card.hidden = false;
  card.querySelector("details").open = true;
  const form = await formOf(card);
  form?.reset();
  for (const [name, value] of values) {
    const field = form?.elements.namedItem(name);
    if (field) field.value = value;
  }
  form?.dispatchEvent(new Event("input"));
  return form;
}
