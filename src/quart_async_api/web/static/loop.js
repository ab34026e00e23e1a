// Many slow calls on one event loop: started as jobs, each drawn as a bar, and all ends heard from one stream.

import { element } from "./answer.js";
import { eventsOf } from "./events.js";
import { ask, refusal } from "./refusal.js";
import { drawClock, shape } from "./staff.js";

const STEADY = matchMedia("(prefers-reduced-motion: reduce)");
const AT_ONCE = 4; // connections for starting: of six, one has the pulse and one the events
const ENDED = new Set(["succeeded", "failed", "cancelled"]);
const HEIGHT = 300; // px of all bars

/** Bring the section `section` to life; `pulse` knows the service's clock. */
export function wireLoop(section, pulse) {
  const delay = Number(section.dataset.delay);
  const form = section.querySelector("form");
  const [slider, number] = [form.elements.slider, form.elements.number];
  const [start, cancel] = ["[data-start]", "[data-cancel]"].map((name) => form.querySelector(name));
  const outcome = section.querySelector(".outcome");
  const stopwatch = section.querySelector("[data-clock]");
  const [clock, bars, scale] = [".clock", ".bars", ".to-scale"].map((name) => section.querySelector(name));
  let run;

  const count = () => Math.min(100, Math.max(1, Math.round(Number(number.value)) || 1));
  function describe() {
    const calls = count();
    section.querySelector("[data-count]").textContent = calls;
    section.querySelector("[data-sum]").textContent = duration(calls * delay);
    const command = section.querySelector("[data-curl]");
    command.textContent = command.textContent.replace(/seq \d+/, `seq ${calls}`);
    if (!run || run.over) draw();
  }
  slider.addEventListener("input", () => ((number.value = slider.value), describe()));
  number.addEventListener("input", () => ((slider.value = count()), describe()));

  function draw() {
    const now = run?.now() ?? 0;
    const calls = run?.calls ?? Array.from({ length: count() }, () => ({}));
    const last = run ? Math.max(...calls.map(({ to }) => to ?? now)) : 0;
    const span = Math.max(delay * 1.2, last * 1.05, 0.5);
    drawClock(clock, clock.clientWidth, span);
    drawBars(bars, calls, span, run ? now : delay, !run);
    drawScale(scale, run ? calls.length : count());
    stopwatch.textContent = (run?.over ? last : now).toFixed(2);
  }
  function animate() {
    draw();
    if (!run.over) requestAnimationFrame(animate);
  }

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (run && !run.over) return;
    run = begin(count(), pulse);
    const mine = run;
    number.value = slider.value = run.calls.length;
    describe();
    start.setAttribute("aria-disabled", "true");
    cancel.hidden = false;
    section.dataset.state = "running";
    outcome.textContent = `Starting ${run.calls.length} calls`;
    if (!STEADY.matches) animate();
    try {
      await race(mine, () => (outcome.textContent = `${mine.calls.length} calls run at once`));
      outcome.textContent = told(mine, delay);
    } catch (error) {
      const ended = mine.calls.filter(({ to }) => to !== undefined).length;
      outcome.textContent = mine.signal.aborted ? `Cancelled: ${ended} of ${mine.calls.length} calls had ended.` : error.message;
    } finally {
      mine.stop();
      draw();
      section.dataset.state = "done";
      start.removeAttribute("aria-disabled");
      if (document.activeElement === cancel) start.focus();
      cancel.hidden = true;
    }
  });
  cancel.addEventListener("click", () => run?.stop());
  new ResizeObserver(() => (!run || run.over) && draw()).observe(section.querySelector(".clock"));
  describe();
}

function begin(length, pulse) {
  const stopping = new AbortController();
  const started = performance.now();
  return {
    calls: Array.from({ length }, () => ({})),
    ends: new Map(), // job id: what its last event says, which may come before the answer with the id
    signal: stopping.signal,
    over: false,
    pulse,
    now: () => (performance.now() - started) / 1000,
    at: (stamp) => Math.max(0, (pulse.at(stamp) - started) / 1000),
    stop() {
      this.over = true;
      stopping.abort();
      for (const { job, to } of this.calls) if (job && to === undefined) fetch(`/jobs/${job}`, { method: "DELETE" }).catch(() => {});
    },
  };
}

/** Start all calls of `run`, and wait for their ends. */
async function race(run, started) {
  const { signal } = run;
  const heard = await ask("/jobs/events", { signal, headers: { Accept: "text/event-stream" }, cache: "no-store" });
  if (!heard.ok) throw await refusal(heard);
  const waiting = [...run.calls];
  async function startSome() {
    for (let call = waiting.shift(); call; call = waiting.shift()) {
      call.from = run.now();
      const response = await ask("/test", { signal, cache: "no-store", headers: { Accept: "application/json", Prefer: "respond-async" } });
      if (!response.ok) throw await refusal(response);
      const job = await response.json();
      run.pulse.heard(job.created_at);
      call.job = job.id;
      settle(run, call);
    }
  }
  const starting = Promise.all(Array.from({ length: AT_ONCE }, startSome)).then(started);
  const hearing = (async () => {
    for await (const { event, data } of eventsOf(heard)) {
      if (!ENDED.has(event)) continue;
      run.pulse.heard(data.finished_at);
      run.ends.set(data.job_id, { event, data });
      for (const call of run.calls) settle(run, call);
      if (run.calls.every(({ to }) => to !== undefined)) return;
    }
    throw new Error("The stream of events ended before the calls.");
  })();
  await Promise.all([starting, hearing]);
}

function settle(run, call) {
  const end = run.ends.get(call.job);
  if (!end || call.to !== undefined) return;
  Object.assign(call, { to: run.at(end.data.finished_at), good: end.event === "succeeded" });
}

function drawBars(svg, calls, span, now, isSketch) {
  const width = svg.clientWidth;
  const step = Math.max(4, Math.min(26, HEIGHT / calls.length));
  const thick = step > 8 ? step - 5 : step - 1;
  svg.setAttribute("height", Math.ceil(step * calls.length) + 4);
  const x = (seconds) => (seconds / span) * (width - 2) + 1;
  const labels = calls.length <= 15;
  svg.replaceChildren(...calls.flatMap(({ from, to, good }, index) => {
    if (from === undefined && !isSketch) return [];
    const [left, right] = [x(from ?? 0), x(to ?? now)];
    const kind = isSketch ? "sketch" : to === undefined ? "going" : good ? "done" : "bad";
    const bar = shape("rect", { class: `run ${kind}`, x: left, y: index * step + 2, width: Math.max(1, right - left), height: thick, rx: Math.min(3, thick / 2) });
    return labels && to !== undefined ? [bar, shape("text", { class: "mark", x: right + 6, y: index * step + thick / 2 + 6 }, `${to.toFixed(2)} s`)] : [bar];
  }));
}

/** One after another, to scale: a step for each call, and beside it the one step that all take here. */
function drawScale(svg, calls) {
  const width = svg.clientWidth - 2;
  const step = width / calls;
  const height = 64;
  const steps = Array.from({ length: calls }, (_, index) =>
    shape("rect", { class: "ghost-step", x: 1 + index * step, y: 1 + (index * (height - 8)) / calls, width: Math.max(1, step), height: Math.max(3, (height - 8) / calls) }));
  svg.replaceChildren(...steps, shape("rect", { class: "run done", x: 1, y: height - 5, width: Math.max(2, step), height: 5 }));
}

function told({ calls }, delay) {
  const good = calls.filter((call) => call.good);
  if (good.length < calls.length) return `${good.length} of ${calls.length} calls succeeded.`;
  return `${calls.length} calls in ${Math.max(...good.map(({ to }) => to)).toFixed(2)} s. One after another: ${duration(calls.length * delay)}.`;
}

function duration(seconds) {
  return seconds < 60 ? `${Number(seconds.toFixed(1))} s` : `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
}

/** The same comics fetched at once and one after another, with the pictures. */
export function wireComics(section) {
  const button = section.querySelector("button");
  const outcome = section.querySelector(".outcome");
  const sides = [...section.querySelectorAll("[data-mode]")];
  button.addEventListener("click", async () => {
    if (button.hasAttribute("aria-disabled")) return;
    button.setAttribute("aria-disabled", "true");
    outcome.textContent = "Fetching";
    const started = performance.now();
    const times = await Promise.all(sides.map(async (side) => {
      const [time, place] = [side.querySelector("[data-time]"), side.querySelector("ul")];
      place.replaceChildren();
      const ticking = setInterval(() => (time.textContent = `${((performance.now() - started) / 1000).toFixed(1)} s`), 100);
      try {
        const response = await ask(`/comic?number=6&mode=${side.dataset.mode}`, { headers: { Accept: "application/json" }, cache: "no-store" });
        if (!response.ok) throw await refusal(response);
        const answer = await response.json();
        clearInterval(ticking);
        time.textContent = `${answer.elapsed.toFixed(2)} s`;
        place.replaceChildren(...answer.comics.map(({ title, alt, img, elapsed }) =>
          element("li", {}, element("img", { src: /^https?:/.test(img) ? img : "", alt, loading: "lazy" }), element("span", {}, title), element("small", {}, `${elapsed.toFixed(2)} s`))));
        return answer.elapsed;
      } catch (error) {
        clearInterval(ticking);
        time.textContent = "failed";
        place.replaceChildren(element("li", {}, error.message));
        return undefined;
      }
    }));
    button.removeAttribute("aria-disabled");
    outcome.textContent = times.includes(undefined) ? "Not all comics came." : `At once: ${times[0].toFixed(2)} s. One after another: ${times[1].toFixed(2)} s.`;
  });
}

const SAMPLES = 300; // of a tenth of a second

/** Draw the lag of the event loop in `figure`, as `pulse` tells it. */
export function wireLag(figure, pulse) {
  const [svg, text] = [figure.querySelector("svg"), figure.querySelector("[data-lag]")];
  const pause = figure.querySelector("button");
  let samples = [];
  pause.addEventListener("click", () => pause.setAttribute("aria-pressed", pause.getAttribute("aria-pressed") !== "true"));
  pulse.addEventListener("refused", ({ detail: { said } }) => (text.textContent = said ?? "The service does not answer."));
  pulse.addEventListener("lag", ({ detail: { milliseconds, running } }) => {
    samples = [...samples, ...milliseconds].slice(-SAMPLES);
    if (pause.getAttribute("aria-pressed") === "true") return;
    const most = Math.max(...samples);
    const top = [50, 100, 200, 500, 1000, 2000, 5000].find((each) => each >= most) ?? most;
    const [width, height] = [svg.clientWidth, 56];
    const points = samples.map((sample, index) => `${(width - ((samples.length - 1 - index) * width) / (SAMPLES - 1)).toFixed(1)},${(height - 3 - (sample / top) * (height - 8)).toFixed(1)}`);
    svg.replaceChildren(
      shape("line", { class: "rail-line", x1: 0, x2: width, y1: height - 1, y2: height - 1 }),
      shape("polyline", { class: "lag-line", points: points.join(" ") }),
      shape("text", { class: "mark small", x: 0, y: 11 }, `${top} ms`),
    );
    text.textContent = `${samples.at(-1).toFixed(1)} ms now, ${most.toFixed(1)} ms at most; ${running} ${running === 1 ? "job runs" : "jobs run"}`;
  });
}
