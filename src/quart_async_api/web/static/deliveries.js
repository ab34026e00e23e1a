// One slow call, started in four deliveries at once, and each drawn in time as it happens.

import { element } from "./answer.js";
import { begin, deliver, requestOf } from "./delivery_runs.js";
import { curl } from "./lines.js";
import { drawClock, drawStaff } from "./staff.js";

const STEADY = matchMedia("(prefers-reduced-motion: reduce)");
const FRAME = 1000 / 30; // ms between two drawings

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
  if (!form) return; // no task can be started without arguments, or none by this key
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
      lane.detail.replaceChildren();
      await deliver(lane, run);
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

function summary(lanes, run) {
  if (run.signal.aborted) return "Cancelled. The service stopped the work.";
  return `${lanes.map(({ title, ended: { at, good } }) => `${title}: ${at === undefined ? "not started" : `${good ? "" : "failed after "}${at.toFixed(2)} s`}`).join(" · ")}`;
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
