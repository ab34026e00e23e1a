// The minute under the pointer: every chart of the page shows its own figures of that minute. The table of each has them all.

import { MINUTE } from "./times.js";

const AREA = ".chart .area";

document.addEventListener("pointermove", ({ target, clientX }) => {
  const area = target.closest?.(".plot")?.querySelector(AREA);
  if (!area) return clear();
  const box = area.getBoundingClientRect();
  const part = Math.min(0.999, Math.max(0, (clientX - box.left) / box.width));
  for (const each of document.querySelectorAll(AREA)) show(each, Math.floor(part * each.dataset.minutes), part > 0.5);
});
document.addEventListener("pointerleave", clear);

function show(area, at, isRight) {
  const line = area.querySelector(".cross");
  const place = `${(100 * (at + 0.5)) / area.dataset.minutes}%`;
  line.setAttribute("x1", place);
  line.setAttribute("x2", place);
  line.classList.add("shown");
  const readout = area.parentElement.querySelector(".readout");
  const said = area.dataset.said.split("\n")[at];
  const moment = new Date(Date.parse(area.dataset.start) + 60_000 * at);
  readout.textContent = said && `${MINUTE.format(moment)}: ${said}`;
  readout.classList.toggle("left", isRight);
  readout.hidden = !readout.textContent;
}

function clear() {
  for (const line of document.querySelectorAll(".cross.shown")) line.classList.remove("shown");
  for (const readout of document.querySelectorAll(".readout:not([hidden])")) readout.hidden = true;
}
