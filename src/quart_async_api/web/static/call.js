// One card: its form, the line for it, the call itself, and its answer.

import { element, jsonText, showAnswer } from "./answer.js";
import { eventsOf } from "./events.js";
import { watchJob } from "./job.js";
import { LINES } from "./lines.js";
import { requestOf } from "./request.js";

/** Bring the card `card` to life. `language` is a <select> of LINES; `sent(form, status, seconds)` is called after each call. */
export function wireCall(card, language, sent) {
  const form = card.querySelector("form");
  const command = card.querySelector("[data-curl]");
  const outcome = card.querySelector(".outcome");
  const answer = card.querySelector(".answer");
  const button = form.querySelector("button:not([type])");
  const cancel = form.querySelector("[data-cancel]");
  let running;

  form.noValidate = true; // the service is the judge, and its answer is worth seeing
  for (const field of form.elements) field.disabled = false;
  const tell = () => {
    const hook = form.querySelector("[data-hook]");
    if (hook) hook.hidden = form.elements.delivery.value !== "hook";
    const stray = strayStep(form);
    command.textContent = stray ? stray.validationMessage : LINES[language.value](requestOf(form));
    command.toggleAttribute("data-program", stray || language.value !== "curl");
  };
  form.addEventListener("input", tell);
  language.addEventListener("input", tell);
  tell();

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (running || strayStep(form)?.reportValidity() === false) return;
    running = new AbortController();
    button.setAttribute("aria-disabled", "true");
    cancel.hidden = false;
    card.dataset.state = "running";
    answer.replaceChildren();
    const deliver = "socket" in form.dataset ? connect : call;
    try {
      const { good, status, seconds } = await deliver(requestOf(form), outcome, answer, running.signal);
      card.dataset.state = good ? "done" : "failed";
      sent(form, status, seconds);
    } finally {
      running = undefined;
      button.removeAttribute("aria-disabled");
      if (document.activeElement === cancel) button.focus();
      cancel.hidden = true;
    }
  });
  cancel.addEventListener("click", () => running?.abort());
}

/** The first field whose value a URL cannot have as a step of its path: the call would go to another address. */
function strayStep(form) {
  const fields = [...form.elements].filter(({ dataset }) => dataset.where === "path");
  for (const field of fields) {
    const { value } = field;
    field.setCustomValidity(/^\.\.?$/.test(value) ? `No URL can have “${value}” here: it would lead to another address.` : "");
  }
  return fields.find(({ validity }) => validity.customError);
}

async function call({ url, ...request }, outcome, answer, signal) {
  const started = performance.now();
  const seconds = () => `${((performance.now() - started) / 1000).toFixed(2)} s`;
  const ticking = ticks(outcome, seconds);
  let watching = false;
  let status;
  try {
    const headers = { Accept: "application/json", ...request.headers };
    const response = await fetch(url, { ...request, headers, signal, cache: "no-store" });
    status = response.status;
    const isStream = response.headers.get("Content-Type")?.startsWith("text/event-stream");
    const text = isStream ? await showEvents(answer, response, seconds) : await response.text();
    const took = seconds();
    ticking.stop();
    const shown = element("span", { className: `status status-${String(status)[0]}` }, String(status));
    outcome.replaceChildren(shown, ` ${reason(response)}in ${took}`);
    const json = isStream ? undefined : showAnswer(answer, response, text);
    if (!response.ok && json?.title) outcome.append(`: ${json.title}`); // for those who hear the page
    const job = json?.job ?? json;
    if (status === 202 && job?.links?.events) {
      watching = true;
      const ended = await watchJob(job, answer, signal);
      outcome.append(`; the job ${ended.status} after ${seconds()}`);
    }
    return { good: response.ok, status, seconds: took };
  } catch (error) {
    ticking.stop();
    if (!signal.aborted) outcome.replaceChildren(`No answer after ${seconds()}: ${error.message}`);
    else if (watching) outcome.append("; no longer watched, but the job goes on");
    else outcome.replaceChildren(`Cancelled after ${seconds()}. The service noticed, and stopped the work too.`);
    return { good: false, status, seconds: seconds() };
  }
}

/** Show each event when it comes; returns no text. */
async function showEvents(answer, response, seconds) {
  const list = shownList("Events", answer);
  for await (const { event, data } of eventsOf(response)) add(list, event, seconds(), jsonText(data));
  return "";
}

function shownList(label, answer) {
  const list = element("ol", { className: "events", tabIndex: 0, ariaLabel: label });
  answer.append(list);
  return list;
}

function add(list, name, at, text) {
  const line = element("li", {}, element("span", { className: "at" }, at), element("b", {}, name), element("code", {}, text));
  const follows = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
  list.append(line);
  if (follows) list.scrollTop = list.scrollHeight;
}

/** Show the messages of a WebSocket until it is closed. */
function connect({ url }, outcome, answer, signal) {
  const started = performance.now();
  const seconds = () => `${((performance.now() - started) / 1000).toFixed(2)} s`;
  const list = shownList("Messages", answer);
  outcome.textContent = "Connecting";
  return new Promise((resolve) => {
    const socket = new WebSocket(url);
    signal.addEventListener("abort", () => socket.close(1000), { once: true });
    socket.addEventListener("open", () => (outcome.textContent = "Connected"));
    socket.addEventListener("message", ({ data }) => {
      const { event, ...rest } = JSON.parse(data);
      add(list, event ?? "message", seconds(), jsonText(rest));
    });
    socket.addEventListener("close", ({ code, reason }) => {
      outcome.textContent = `Closed with code ${code}${reason ? ` (${reason})` : ""} after ${seconds()}`;
      resolve({ good: code === 1000, status: code, seconds: seconds() });
    });
  });
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
