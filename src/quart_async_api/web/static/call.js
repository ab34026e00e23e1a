// One card: its form, the command for it, the call itself, and its answer.

import { element, showAnswer } from "./answer.js";
import { watchJob } from "./job.js";
import { curl, requestOf } from "./request.js";

/** Bring the card `card` to life. */
export function wireCall(card) {
  const form = card.querySelector("form");
  const command = card.querySelector("[data-curl]");
  const outcome = card.querySelector(".outcome");
  const answer = card.querySelector(".answer");
  const button = form.querySelector("button:not([type])");
  const cancel = form.querySelector("[data-cancel]");
  let running;

  form.noValidate = true; // the service is the judge, and its answer is worth seeing
  for (const field of form.elements) field.disabled = false;
  const tell = () => (command.textContent = curl(requestOf(form)));
  form.addEventListener("input", tell);
  tell();

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (running) return;
    running = new AbortController();
    button.setAttribute("aria-disabled", "true");
    cancel.hidden = false;
    card.dataset.state = "running";
    answer.replaceChildren();
    try {
      card.dataset.state = await call(requestOf(form), outcome, answer, running.signal);
    } finally {
      running = undefined;
      button.removeAttribute("aria-disabled");
      if (document.activeElement === cancel) button.focus();
      cancel.hidden = true;
    }
  });
  cancel.addEventListener("click", () => running?.abort());
}

async function call({ url, ...request }, outcome, answer, signal) {
  const started = performance.now();
  const seconds = () => `${((performance.now() - started) / 1000).toFixed(2)} s`;
  const ticking = ticks(outcome, seconds);
  let watching = false;
  try {
    const headers = { Accept: "application/json", ...request.headers };
    const response = await fetch(url, { ...request, headers, signal, cache: "no-store" });
    const text = await response.text();
    const took = seconds();
    ticking.stop();
    const status = element("span", { className: `status status-${String(response.status)[0]}` }, String(response.status));
    outcome.replaceChildren(status, ` ${reason(response)}in ${took}`);
    const json = showAnswer(answer, response, text);
    if (response.status === 202 && json?.job?.links?.self) {
      watching = true;
      const job = await watchJob(json.job.links.self, answer, signal);
      outcome.append(`; the job ${job.status} after ${seconds()}`);
    }
    return response.ok ? "done" : "failed";
  } catch (error) {
    ticking.stop();
    if (!signal.aborted) outcome.replaceChildren(`No answer after ${seconds()}: ${error.message}`);
    else if (watching) outcome.append("; no longer watched, but the job goes on");
    else outcome.replaceChildren(`Cancelled after ${seconds()}. The service noticed, and stopped the work too.`);
    return "failed";
  }
}

function reason(response) {
  return response.statusText ? `${response.statusText} ` : "";
}

// Ten times a second is enough to see time pass. A reader of the screen hears the start and the end alone.
function ticks(outcome, seconds) {
  const clock = element("span", { ariaHidden: "true" });
  outcome.replaceChildren("Waiting ", clock);
  const timer = setInterval(() => (clock.textContent = seconds()), 100);
  return { stop: () => clearInterval(timer) };
}
