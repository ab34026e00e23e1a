// The four deliveries of a call: what is sent, what comes back, and the marks of both.

import { element } from "./answer.js";
import { eventsOf } from "./events.js";
import { ask, refusal } from "./refusal.js";

const ENDED = new Set(["succeeded", "failed", "cancelled"]);
const TRIES_SECONDS = 6; // for which the tries of a callback to elsewhere are watched

/** The request that starts the chosen call in a delivery. */
export function requestOf(form, delivery, callback) {
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
export function begin(form, callback, inbox, pulse, tell) {
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
  const response = await ask(url, { ...request, headers, signal: run.signal, cache: "no-store" });
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
  const label = run.signal.aborted ? "cancelled" : String(error.status ?? "no answer");
  run.tell(lane, { at, label, down: false, kind: "bad", last: true, text: run.signal.aborted ? label : error.message });
  lane.ended = { at, good: false };
  lane.verdict.replaceChildren(label);
  lane.detail.textContent = run.signal.aborted ? "" : error.message;
}

/** Start a job; undefined when the service refused to. */
async function startJob(lane, run, delivery) {
  const request = run.request(delivery);
  const { response, close } = await send(lane, run, short(request), request);
  const received = close();
  if (response.status !== 202) {
    run.tell(lane, { at: received, label: String(response.status), down: false, kind: "bad", last: true });
    end(lane, run, response.status, false, (await refusal(response)).message);
    return undefined;
  }
  const answer = await response.json();
  const job = answer.job ?? answer;
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

/** Run the delivery of `lane` to its end, whatever happens. */
export async function deliver(lane, run) {
  try {
    await DELIVERIES[lane.name](lane, run);
  } catch (error) {
    fail(lane, run, error);
  }
}

const DELIVERIES = {
  async wait(lane, run) {
    const request = run.request("wait");
    lane.work = { from: run.now() };
    const { response, close } = await send(lane, run, short(request), request);
    const why = response.ok ? void (await response.text()) : (await refusal(response)).message;
    const received = close();
    lane.work.to = received;
    const [status, good] = [response.status, response.ok && response.status !== 202];
    run.tell(lane, { at: received, label: `${status} result`, down: false, kind: good ? "good" : "bad", last: true, text: `${status}, the result` });
    end(lane, run, status, good, good ? undefined : why ?? "It takes longer than Prefer: wait allows.");
  },

  async back(lane, run) {
    const started = await startJob(lane, run, "back");
    for (let polls = 1; started; polls += 1) {
      if (!run.hold) await pause(1000 * started.retryAfter, run.signal);
      const headers = run.hold ? { Prefer: "wait=20" } : {};
      const { response, close } = await send(lane, run, "GET", { method: "GET", url: started.job.links.self, headers });
      if (!response.ok) throw await refusal(response);
      const job = await response.json();
      const received = close();
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
    if (!response.ok) throw await refusal(response);
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
    const lost = Object.assign(new Error("The service was restarted, and no longer receives callbacks for this page. Reload it."), { status: "not heard" });
    const attend = () => run.pulse.open || reject(lost);
    attend();
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
    run.pulse.addEventListener("inbox", attend, { signal });
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

function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => (clearTimeout(timer), reject(signal.reason)), { once: true });
  });
}
