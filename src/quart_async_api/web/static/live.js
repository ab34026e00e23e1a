// Parts of a page that follow the service. A part is an element with an id and `data-live`: the address of an event stream,
// after whose events the page is fetched again, a number of seconds between fetches, or both with a blank between them. The
// server alone makes the markup. Only texts and values that an event brings are drawn at once: once per frame, whatever comes.

import { inWords, PAGE, refusal } from "./refusal.js";
import { CLOCK, localTimes } from "./times.js";

const SECOND = 1000; // ms
const LEAST = 500; // ms between two fetches, however many events there are
const SHARE = 4; // fetching and drawing take at most one part in so many of the time
const PATIENCE = 5; // seconds until the next try when the service does not answer

/** Keep the live parts of this page up to date. */
function keepLive() {
  const parts = () => [...document.querySelectorAll("[data-live][id]")];
  const ways = new Map(); // what stops each of them
  const news = new Map(); // the newest progress of each job since the last frame
  const lines = []; // and what belongs into the log of the page
  const connection = document.getElementById("connection");
  let timer; // of the next fetch
  let stale = false; // an event came while a fetch was under way
  let fetching = false;
  let next = 0; // the earliest time of the next fetch
  let ahead = 0; // ms: the service's clock less the reader's, which may be wrong
  let isOver = false; // the service has refused the page for good
  let state = stateOfPage(); // of the job that the page shows

  function soon() {
    if (fetching) stale = true;
    else if (!document.hidden && !paused() && !isOver) timer ??= setTimeout(refresh, next - performance.now());
  }

  async function refresh() {
    timer = undefined;
    fetching = true;
    const began = performance.now();
    let wait = LEAST;
    try {
      const response = await fetch(location.href, { headers: PAGE, cache: "no-store" });
      if (response.redirected) return location.reload(); // the session has ended
      if (!response.ok) throw await refusal(response);
      ahead = Date.parse(response.headers.get("Date")) - Date.now() || 0;
      const page = new DOMParser().parseFromString(await response.text(), "text/html");
      localTimes(page);
      if (!paused()) {
        for (const part of parts()) {
          const newer = page.getElementById(part.id);
          if (newer && !part.contains(chosen())) Idiomorph.morph(part, newer, MORPHING);
        }
        attend();
        tell();
      }
      connection.textContent = "";
    } catch ({ said = "The service does not answer.", seconds = PATIENCE }) {
      isOver = seconds === Infinity;
      connection.textContent = `${said} ${isOver ? "The page is no longer updated." : `The page tries again in ${inWords(seconds)}.`}`;
      stale = true;
      wait = SECOND * seconds;
      attend();
    } finally {
      const now = performance.now();
      next = now + Math.max(wait - (now - began), (SHARE - 1) * (now - began));
      fetching = false;
      if (stale) {
        stale = false;
        soon();
      }
    }
  }

  /**
   * Begin the ways that the parts name now, and end the others: a job that has ended needs no stream. A hidden page needs none:
   * all tabs of a browser share six connections to a host over HTTP/1.1.
   */
  function attend() {
    const named = new Set((document.hidden || isOver ? [] : parts()).flatMap((part) => part.dataset.live.split(" ").filter(Boolean)));
    for (const [way, stop] of ways) {
      if (named.has(way)) continue;
      stop();
      ways.delete(way);
    }
    for (const way of named) {
      if (!ways.has(way)) ways.set(way, Number(way) ? each(SECOND * Number(way), soon) : followed(way, { heard: hear, opened: soon }));
    }
  }

  function hear(kind, data, id) {
    if (document.hidden || paused() || !KINDS.has(kind)) return;
    if (kind === "resync") return soon(); // what happened meanwhile
    const isStep = kind === "progress" || kind === "log";
    if (!isStep) soon();
    if (!news.size && !lines.length) requestAnimationFrame(draw);
    const [job, number] = id.split(":");
    if (kind !== "log") news.set(job, { kind, data });
    if (isStep && log()) lines.push({ kind, number, text: kind === "log" ? data.text : told(data) });
  }

  /** Say to those who hear the page that its job has another state. Its progress is there to be read, and not said. */
  function tell() {
    if (state === stateOfPage()) return;
    state = stateOfPage();
    document.getElementById("said").textContent = `The job is ${state}.`;
  }

  function draw() {
    for (const [id, { kind, data }] of news) {
      const place = document.getElementById(`job-${id}`);
      const bar = place?.querySelector("progress");
      if (kind !== "progress") showState(place?.querySelector(".state"), kind === "retry" ? "queued" : kind);
      else if (bar) show(bar, data);
      else if (place || log()) soon(); // it has just begun; a job that is not in the list changes nothing
    }
    const at = new Date(Date.now() + (Math.abs(ahead) > 2 * SECOND ? ahead : 0)); // Date has no milliseconds
    for (const line of lines.splice(0)) write(line, at);
    news.clear();
  }

  attend();
  if (log() && ways.size) log().parentElement.scrollTop = log().parentElement.scrollHeight; // a job that goes on
  document.addEventListener("visibilitychange", () => {
    attend();
    if (ways.size) soon();
  });
  document.querySelector("[data-pause]")?.addEventListener("click", ({ currentTarget }) => {
    const pressed = currentTarget.getAttribute("aria-pressed") !== "true";
    currentTarget.setAttribute("aria-pressed", pressed);
    soon();
  });
}

const stateOfPage = () => document.querySelector("h1 .state")?.textContent;

function showState(place, name) {
  if (!place) return;
  place.className = `state state-${name}`;
  place.textContent = name;
}

/** Show progress as the server does: a bar, and an element after it with the percentage or the count. */
function show(bar, { current, percent, message }) {
  if (percent !== null) bar.value = percent;
  const text = bar.nextElementSibling;
  if (text) text.textContent = percent === null ? current : `${Math.trunc(percent)} %`;
  const said = bar.parentElement.querySelector("[data-message]");
  if (said) said.textContent = message ?? "";
}

function told({ current, total, message }) {
  const counted = total === null ? `${current}` : `${current} of ${total}`;
  return message ? `${counted}: ${message}` : counted;
}

const log = () => document.querySelector("[data-log]");
const LINES = 500; // in the log of a page, which has older ones by a link

/** Add a line as the server writes it, and follow it if the reader is at the end. */
function write({ kind, number, text }, at) {
  if (document.getElementById(`event-${number}`)) return;
  const list = log();
  const view = list.parentElement;
  const line = document.getElementById("line").content.cloneNode(true).firstElementChild;
  line.id = `event-${number}`;
  line.className = `event-${kind}`;
  const [time, name, words] = line.children;
  time.dateTime = at.toISOString();
  time.textContent = CLOCK.format(at);
  name.textContent = kind;
  words.textContent = text;
  view.hidden = false;
  const isAtEnd = view.scrollTop + view.clientHeight >= view.scrollHeight - 5;
  list.append(line);
  if (list.children.length > LINES) list.firstElementChild.remove();
  if (isAtEnd) view.scrollTop = view.scrollHeight;
}

// What a reader has opened or marked stays as it is.
const MORPHING = {
  ignoreActiveValue: true,
  callbacks: {
    beforeAttributeUpdated: (name, element) =>
      !(name === "open" && element.localName === "details") && !(name === "checked" && element.localName === "input"),
  },
};

function paused() {
  return document.querySelector("[data-pause]")?.getAttribute("aria-pressed") === "true";
}

/** The form field that is being filled in: a part with it is left alone. */
function chosen() {
  const active = document.activeElement;
  return active?.matches("input:not([type=checkbox]), textarea, select") ? active : null;
}

function each(milliseconds, heard) {
  const timer = setInterval(() => heard(), milliseconds);
  return () => clearInterval(timer);
}

/** Follow a stream; returns what ends it. Most pages have none. */
function followed(address, calls) {
  let stop;
  import("./stream.js").then(({ follow }) => (stop ??= follow(address, calls)));
  return () => (stop ??= () => {})();
}

const KINDS = new Set(["progress", "log", "retry", "succeeded", "failed", "cancelled", "resync"]);

keepLive();
