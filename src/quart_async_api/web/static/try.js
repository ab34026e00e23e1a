// The page works without this; with it, its calls answer in place.

import { wireCall } from "./call.js";
import { keepCalls } from "./kept.js";

const keep = keepCalls(document.getElementById("kept"));
const language = document.getElementById("language");
const delivery = document.getElementById("delivery");
const options = document.getElementById("options");
for (const place of document.querySelectorAll("[data-options]")) {
  const copy = options.content.cloneNode(true);
  for (const each of copy.querySelectorAll("[id], [for], [aria-describedby]")) {
    for (const name of ["id", "for", "aria-describedby"]) {
      if (each.hasAttribute(name)) each.setAttribute(name, each.getAttribute(name).replace("shared", place.closest("article").id));
    }
  }
  place.append(copy);
}
for (const place of document.querySelectorAll("[data-delivery]")) {
  place.append(delivery.content.cloneNode(true));
  if ("always" in place.closest("form").dataset) place.querySelector("[value=back]").defaultChecked = true;
}
for (const card of document.querySelectorAll(".call")) wireCall(card, language, keep);
