// The minute under the pointer: every chart of the page shows its own figures of that minute. Without this, each has its title.

const AREA = ".chart .area";

document.addEventListener("pointermove", ({ target, clientX }) => {
  const area = target.closest?.(AREA);
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
  readout.textContent = told(area.querySelector(`[data-at="${at}"]`));
  readout.classList.toggle("left", isRight);
  readout.hidden = !readout.textContent;
}

/** The title of a minute, which is taken away: the browser would show it too. */
function told(minute) {
  const title = minute?.querySelector("title");
  if (title) {
    minute.dataset.text = title.textContent;
    title.remove();
  }
  return minute?.dataset.text ?? "";
}

function clear() {
  for (const line of document.querySelectorAll(".cross.shown")) line.classList.remove("shown");
  for (const readout of document.querySelectorAll(".readout:not([hidden])")) readout.hidden = true;
}
