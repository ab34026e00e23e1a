// One slow call, started in four deliveries at once, and each drawn in time as it happens.

import { element } from "./answer.js";
import { eventsOf } from "./events.js";
import { curl } from "./lines.js";
import { drawClock, drawStaff } from "./staff.js";

const STEADY = matchMedia("(prefers-reduced-motion: reduce)");
const FRAME = 1000 / 30; // ms between two drawings
const ENDED = new Set(["succeeded", "failed", "cancelled"]);
const TRIES_SECONDS = 6; // for which the tries of a callback to elsewhere are watched

/** Bring the deliveries in `section` to life; `pulse` tells of callbacks that arrive. */
export function wireDeliveries(section, pulse) {
  const form = section.querySelector("form");
  const [start, cancel] = ["[data-start]", "[data-cancel]"].map((name) => form?.querySelector(name));
  const outcome = section.querySelector(".outcome");
  const lanes = [...section.querySelectorAll("[data-lane]")].map((place) => laneOf(place));
  const log = section.querySelector("tbody");
  const inbox = section.dataset.inbox;
  let run;
  let drawn = 0;

  const target = () => inbox || form.elements.callback?.value || "https://hooks.example/done";
  function describe() {
    for (const lane of lanes) lane.command.textContent = curl(requestOf(form, lane.name, target()));
  }

  function draw() {
    drawn = performance.now();
    const now = run ? run.now() : undefined;
    const last = Math.max(0, ...lanes.flatMap(({ marks }) => marks.map(({ at }) => at)));
    const span = run?.over ? Math.max(last * 1.12, 0.1) : Math.max(run?.expected ?? Number(section.dataset.delay) * 1.3, 1.5, (now ?? 0) * 1.06);
    const clock = section.querySelector(".clock");
    drawClock(clock, clock.clientWidth, span);
    for (const lane of lanes) drawStaff(lane.staff, run ? lane : lane.sketch(Number(section.dataset.delay)), lane.staff.clientWidth, span, run?.over ? undefined : now);
  }
  function animate() {
    if (performance.now() - drawn > FRAME) draw();
    if (run && !run.over) requestAnimationFrame(animate);
  }

  function tell(lane, mark) {
    lane.marks.push(mark);
    const row = element("tr", {}, element("td", {}, lane.title), element("td", { className: "number" }, mark.at.toFixed(3)), element("td", {}, mark.text ?? mark.label));
    log.append(row);
    if (STEADY.matches) draw();
  }

  new ResizeObserver(draw).observe(section.querySelector(".clock"));
  if (!form) return; // no task can be started without arguments
  form.addEventListener("input", describe);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (run && !run.over) return;
    run = begin(form, target(), inbox, pulse, tell);
    start.setAttribute("aria-disabled", "true");
    cancel.hidden = false;
    section.dataset.state = "running";
    log.replaceChildren();
    outcome.textContent = `Four deliveries of ${run.name} have started.`;
    run.expected = Math.max(1.5, Number(section.dataset.delay) * 1.3);
    for (const lane of lanes) Object.assign(lane, { marks: [], open: [], work: undefined, ended: undefined });
    animate();
    await Promise.all(lanes.map(async (lane) => {
      lane.verdict.replaceChildren("…");
      try {
        await DELIVERIES[lane.name](lane, run);
      } catch (error) {
        fail(lane, run, error);
      }
      lane.place.dataset.state = lane.ended?.good ? "done" : "failed";
    }));
    run.over = true;
    draw();
    section.dataset.state = "done";
    start.removeAttribute("aria-disabled");
    if (document.activeElement === cancel) start.focus();
    cancel.hidden = true;
    outcome.textContent = summary(lanes, run);
  });
  cancel.addEventListener("click", () => run?.stop());
  describe();
}

function laneOf(place) {
  const name = place.dataset.lane;
  return {
    place, name,
    title: place.querySelector("h2").textContent,
    staff: place.querySelector("svg"),
    command: place.querySelector("[data-curl]"),
    verdict: place.querySelector(".verdict"),
    detail: place.querySelector(".detail"),
    marks: [], open: [],
    sketch: (delay) => SKETCHES[name](delay),
  };
}

/** The request that starts the chosen call in a delivery. */
function requestOf(form, delivery, callback) {
  const { method, path, task, always } = form.elements.call.selectedOptions[0].dataset;
  const headers = {};
  const request = { method, headers };
  if (delivery === "wait" && always !== undefined) headers.Prefer = "wait=30";
  if (delivery === "back" && always === undefined) headers.Prefer = "respond-async";
  if (delivery === "stream") headers.Accept = "text/event-stream";
  request.url = new URL(path, location.origin).href;
  if (task) {
    headers["Content-Type"] = "application/json";
    request.body = JSON.stringify(delivery === "hook" ? { task, callback_url: callback } : { task });
  } else if (delivery === "hook") {
    request.url += `?callback_url=${encodeURIComponent(callback).replaceAll("%3A", ":").replaceAll("%2F", "/")}`;
  }
  return request;
}

/** A run of all four, whose clock starts now. */
function begin(form, callback, inbox, pulse, tell) {
  const stopping = new AbortController();
  const started = performance.now();
  const jobs = new Set();
  return {
    callback, inbox, pulse, tell, jobs,
    isCalledBack: Boolean(inbox || form.elements.callback.value),
    hold: form.elements.hold.checked,
    name: form.elements.call.selectedOptions[0].textContent,
    signal: stopping.signal,
    now: () => (performance.now() - started) / 1000,
    request: (delivery) => requestOf(form, delivery, callback),
    heard: (stamp) => pulse.heard(stamp),
    /** The moment `stamp` of the service's clock, in seconds of the run. */
    at: (stamp) => Math.max(0, (pulse.at(stamp) - started) / 1000),
    stop() {
      stopping.abort();
      for (const job of jobs) fetch(job, { method: "DELETE" }).catch(() => {});
    },
  };
}

async function send(lane, run, label, { url, ...request }) {
  const sent = run.now();
  const connection = { from: sent };
  lane.open.push(connection);
  run.tell(lane, { at: sent, label, down: true });
  const headers = { Accept: "application/json", ...request.headers };
  const response = await fetch(url, { ...request, headers, signal: run.signal, cache: "no-store" });
  return { response, close: () => (connection.to = run.now()) };
}

function short(request) {
  const url = new URL(request.url);
  return `${request.method} ${url.pathname}`;
}

function end(lane, run, status, good, note) {
  lane.ended = { at: run.now(), good };
  const mark = element("span", { className: `status status-${String(status)[0]}` }, String(status));
  lane.verdict.replaceChildren(mark, ` ${lane.ended.at.toFixed(3)} s`);
  lane.detail.textContent = note ?? "";
}

function fail(lane, run, error) {
  const at = run.now();
  for (const connection of lane.open) connection.to ??= at;
  if (lane.work) lane.work.to ??= at;
  const label = run.signal.aborted ? "cancelled" : "no answer";
  run.tell(lane, { at, label, down: false, kind: "bad", last: true, text: run.signal.aborted ? label : error.message });
  lane.ended = { at, good: false };
  lane.verdict.replaceChildren(label);
  lane.detail.textContent = run.signal.aborted ? "" : error.message;
}

/** Start a job; undefined when the service refused to. */
async function startJob(lane, run, delivery) {
  const request = run.request(delivery);
  const { response, close } = await send(lane, run, short(request), request);
  const answer = await response.json();
  const job = answer.job ?? answer;
  const received = close();
  if (response.status !== 202) {
    run.tell(lane, { at: received, label: String(response.status), down: false, kind: "bad", last: true });
    end(lane, run, response.status, false, answer.errors?.[0]?.detail ?? answer.detail);
    return undefined;
  }
  run.jobs.add(job.links.self);
  run.heard(job.created_at);
  run.tell(lane, { at: received, label: "202", down: false, text: `202, Location: ${job.links.self}` });
  lane.work = { from: run.at(job.started_at ?? job.created_at) };
  return { job, retryAfter: Number(response.headers.get("Retry-After")) || 1 };
}

function works(lane, run, job) {
  if (!job.started_at) return;
  lane.work ??= {};
  lane.work.from = run.at(job.started_at);
  if (job.finished_at) lane.work.to = run.at(job.finished_at);
}

/** Say when the job ended on the service's clock, which is when all deliveries could know at the earliest. */
function ended(lane, run, job) {
  run.heard(job.finished_at);
  run.jobs.delete(job.links.self);
  works(lane, run, job);
  run.tell(lane, { at: run.at(job.finished_at), label: job.status, kind: job.status === "succeeded" ? "good" : "bad", text: `job ${job.status} (the service's time)` });
}

const DELIVERIES = {
  async wait(lane, run) {
    const request = run.request("wait");
    lane.work = { from: run.now() };
    const { response, close } = await send(lane, run, short(request), request);
    const answer = await response.json();
    const received = close();
    lane.work.to = received;
    const [status, good] = [response.status, response.ok && response.status !== 202];
    run.tell(lane, { at: received, label: `${status} result`, down: false, kind: good ? "good" : "bad", last: true, text: `${status}, the result` });
    end(lane, run, status, good, good ? undefined : answer.detail ?? "It takes longer than Prefer: wait allows.");
  },

  async back(lane, run) {
    const started = await startJob(lane, run, "back");
    for (let polls = 1; started; polls += 1) {
      if (!run.hold) await pause(1000 * started.retryAfter, run.signal);
      const headers = run.hold ? { Prefer: "wait=20" } : {};
      const { response, close } = await send(lane, run, "GET", { method: "GET", url: started.job.links.self, headers });
      const job = await response.json();
      const received = close();
      if (!response.ok) throw new Error(job.detail);
      works(lane, run, job);
      if (ENDED.has(job.status)) {
        ended(lane, run, job);
        run.tell(lane, { at: received, label: `200 ${job.status}`, down: false, kind: job.status === "succeeded" ? "good" : "bad", last: true });
        return end(lane, run, response.status, job.status === "succeeded", `${polls} ${polls === 1 ? "poll" : "polls"}`);
      }
      run.tell(lane, { at: received, label: percent(job) ?? job.status, down: false, kind: "small", text: `200, ${job.status}` });
    }
  },

  async stream(lane, run) {
    const request = run.request("stream");
    const { response, close } = await send(lane, run, short(request), request);
    if (!response.ok) throw new Error((await response.json()).detail);
    let events = 0;
    for await (const { event, data } of eventsOf(response)) {
      const at = run.now();
      events += 1;
      if (event === "snapshot") {
        run.jobs.add(data.links.self);
        run.heard(data.created_at);
        lane.work = { from: run.at(data.started_at ?? data.created_at) };
      }
      if (ENDED.has(event)) {
        close();
        ended(lane, run, data);
        run.tell(lane, { at, label: `event: ${event}`, down: false, kind: event === "succeeded" ? "good" : "bad", last: true });
        return end(lane, run, response.status, event === "succeeded", `${events} events`);
      }
      run.tell(lane, { at, label: percent({ progress: data }) ?? event, down: false, kind: "small", text: `event: ${event}${event === "progress" ? ` ${percent({ progress: data })}` : ""}` });
    }
    throw new Error("The stream ended before the job.");
  },

  async hook(lane, run) {
    if (!run.isCalledBack) {
      lane.verdict.replaceChildren("not started");
      lane.detail.textContent = "";
      lane.ended = { good: false };
      return;
    }
    const started = await startJob(lane, run, "hook");
    if (!started) return;
    const { links, id } = started.job;
    if (run.inbox) {
      const arrival = await arrivalOf(id, run);
      const at = Math.min(run.at(arrival.at), run.now());
      lane.open.push({ from: at, to: at, inwards: true });
      run.tell(lane, { at, label: "webhook", down: false, kind: "hook", last: true, text: `webhook ${arrival.type} arrived (the service's time)` });
      const job = await (await fetch(links.self, { signal: run.signal, cache: "no-store" })).json();
      ended(lane, run, job);
      lane.ended = { at, good: !arrival.problem };
      const mark = element("span", { className: `status status-${arrival.problem ? 4 : 2}` }, arrival.problem ? "not verified" : "verified");
      lane.verdict.replaceChildren(mark, ` ${at.toFixed(3)} s`);
      showArrival(lane, arrival);
    } else {
      await watchTries(lane, run, links);
    }
  },
};

function arrivalOf(job, run) {
  return new Promise((resolve, reject) => {
    const { signal } = run;
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
    run.pulse.addEventListener("callback", ({ detail }) => detail.job_id === job && resolve(detail), { signal });
  });
}

function showArrival(lane, arrival) {
  const facts = [
    ["webhook-id", arrival.webhook_id],
    ["attempt", String(arrival.attempt)],
    ["type", arrival.type],
    ["received", arrival.at],
    ["signature", arrival.problem ?? "verifies with the service's secret"],
    ["with another secret", arrival.with_another_secret],
  ];
  const list = element("dl", { className: "facts" }, ...facts.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]));
  lane.detail.replaceChildren(element("details", {}, element("summary", {}, "What arrived"), list));
}

/** Show the tries of a callback to elsewhere, as the sender keeps them. */
async function watchTries(lane, run, links) {
  let deadline = Infinity;
  let seen = 0;
  for (;;) {
    await pause(1000, run.signal);
    const job = await (await fetch(links.self, { signal: run.signal, cache: "no-store" })).json();
    if (ENDED.has(job.status) && deadline === Infinity) {
      ended(lane, run, job);
      deadline = run.now() + TRIES_SECONDS;
    }
    const { items: [callback] } = await (await fetch(links.callbacks, { signal: run.signal, cache: "no-store" })).json();
    for (const attempt of callback?.attempts.slice(seen) ?? []) {
      seen += 1;
      const good = attempt.status >= 200 && attempt.status < 300;
      run.tell(lane, { at: run.at(attempt.at), label: `webhook ${attempt.status ?? "failed"}`, down: false, kind: good ? "hook" : "bad", text: `try ${attempt.number}: ${attempt.status ?? attempt.error}` });
    }
    if (callback && (callback.status !== "pending" || run.now() > deadline)) {
      const last = callback.attempts.at(-1);
      const next = callback.next_attempt_at ? ` Next try: ${callback.next_attempt_at}.` : "";
      return end(lane, run, last?.status ?? callback.status, callback.status === "delivered", `${last?.error ?? ""}${next}`);
    }
  }
}

function percent({ progress }) {
  return progress?.percent === undefined || progress?.percent === null ? undefined : `${Math.round(progress.percent)} %`;
}

function summary(lanes, run) {
  if (run.signal.aborted) return "Cancelled. The service stopped the work.";
  return `${lanes.map(({ title, ended: { at, good } }) => `${title}: ${at === undefined ? "not started" : `${good ? "" : "failed after "}${at.toFixed(2)} s`}`).join(" · ")}`;
}

function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => (clearTimeout(timer), reject(signal.reason)), { once: true });
  });
}

// Before the first run: what will happen, in pencil.
const SKETCHES = {
  wait: (delay) => ({ pencil: true, open: [{ from: 0, to: delay }], work: { from: 0, to: delay }, marks: [{ at: 0, label: "request", down: true }, { at: delay, label: "200 result", down: false, last: true }] }),
  back: (delay) => ({
    pencil: true, open: [], work: { from: 0.03 * delay, to: delay },
    marks: [{ at: 0, label: "request", down: true }, { at: 0.04 * delay, label: "202", down: false }, { at: 0.35 * delay, label: "GET", down: true }, { at: 0.37 * delay, label: "running", down: false },
      { at: 0.7 * delay, label: "GET", down: true }, { at: 0.72 * delay, label: "running", down: false }, { at: 1.05 * delay, label: "GET", down: true }, { at: 1.07 * delay, label: "200 succeeded", down: false, last: true }],
  }),
  stream: (delay) => ({
    pencil: true, open: [{ from: 0, to: delay }], work: { from: 0.02 * delay, to: delay },
    marks: [{ at: 0, label: "request", down: true }, { at: 0.04 * delay, label: "event", down: false }, { at: 0.5 * delay, label: "event", down: false }, { at: delay, label: "event: succeeded", down: false, last: true }],
  }),
  hook: (delay) => ({
    pencil: true, open: [], work: { from: 0.03 * delay, to: delay },
    marks: [{ at: 0, label: "request", down: true }, { at: 0.04 * delay, label: "202", down: false }, { at: 1.02 * delay, label: "webhook", down: false, kind: "hook", last: true }],
  }),
};
