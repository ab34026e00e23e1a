// The calls answer in place. In the list, the form of a call is loaded from its page when its line is opened.

import { element } from "./answer.js";
import { wireCall } from "./call.js";
import { keepCalls } from "./kept.js";
import { ask, PAGE, refusal } from "./refusal.js";

const language = document.getElementById("language");
const forms = new Map(); // of each card: its form, or what brings it
const keep = keepCalls(document.getElementById("kept"), formOf);

function formOf(card) {
  if (!forms.has(card)) forms.set(card, load(card));
  return forms.get(card);
}

/** Return the form of a card, ready to be sent; undefined if it cannot be loaded, which the card then says. */
async function load(card) {
  const inside = card.querySelector(".inside");
  try {
    if (!card.querySelector("form")) inside.replaceWith(await fetched(inside.querySelector("a").href));
    wireCall(card, language, keep);
    return card.querySelector("form");
  } catch ({ message }) {
    inside.querySelector(".problem")?.remove();
    inside.append(element("p", { className: "problem", role: "alert" }, message));
    forms.delete(card);
    return undefined;
  }
}

async function fetched(address) {
  const response = await ask(address, { headers: PAGE });
  if (response.redirected) location.reload(); // the session has ended
  if (!response.ok) throw await refusal(response);
  return new DOMParser().parseFromString(await response.text(), "text/html").querySelector(".inside");
}

for (const card of document.querySelectorAll(".call")) {
  const details = card.querySelector("details");
  details?.addEventListener("toggle", () => details.open && formOf(card));
  if (card.querySelector("form") || details.open) formOf(card);
}
