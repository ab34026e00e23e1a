// The demonstration: calls of /test, all at once, drawn on one axis beside what one after another would have taken.

const STEADY = matchMedia("(prefers-reduced-motion: reduce)");

/** Bring the demonstration in `section` to life. */
export function wireAtOnce(section) {
  const start = section.querySelector("[data-start]");
  const cancel = section.querySelector("[data-cancel]");
  const outcome = section.querySelector(".outcome");
  const clock = section.querySelector("[data-clock]");
  const lanes = [...section.querySelectorAll(".lanes li")];
  const axis = Math.max(Number(section.dataset.delay), 0.05) * lanes.length; // seconds
  let running;

  start.addEventListener("click", async () => {
    if (running) return;
    running = new AbortController();
    const { signal } = running;
    cancel.hidden = false;
    start.setAttribute("aria-disabled", "true");
    section.dataset.state = "running";
    outcome.textContent = `Waiting for ${lanes.length} calls`;

    const started = performance.now();
    const elapsed = () => (performance.now() - started) / 1000;
    const ended = new Map();
    const draw = () => {
      const now = elapsed();
      clock.textContent = (ended.size === lanes.length ? Math.max(...ended.values()) : now).toFixed(2);
      for (const lane of lanes) lane.querySelector(".bar").style.width = `${Math.min(100, (100 * (ended.get(lane) ?? now)) / axis)}%`;
      if (running && !STEADY.matches) requestAnimationFrame(draw);
    };
    for (const lane of lanes) {
      delete lane.dataset.state;
      lane.querySelector("[data-time]").textContent = "…";
    }
    draw();

    const calls = lanes.map(async (lane, index) => {
      const shown = lane.querySelector("[data-time]");
      try {
        // A browser opens six connections to a server, and six more for requests without credentials: ten need both. Who is
        // signed in has six lanes.
        const credentials = lanes.length > 6 && index % 2 ? "omit" : "same-origin";
        const response = await fetch("/test", { signal, credentials, cache: "no-store", headers: { Accept: "application/json" } });
        await response.json();
        if (!response.ok) throw new Error(`status ${response.status}`);
        ended.set(lane, elapsed());
        shown.textContent = `${ended.get(lane).toFixed(2)} s`;
        lane.dataset.state = "done";
      } catch {
        ended.set(lane, elapsed());
        shown.textContent = signal.aborted ? "cancelled" : "failed";
        lane.dataset.state = "failed";
      }
    });
    await Promise.all(calls);

    running = undefined;
    draw();
    section.dataset.state = "done";
    start.removeAttribute("aria-disabled");
    if (document.activeElement === cancel) start.focus();
    cancel.hidden = true;
    outcome.textContent = told(lanes, ended);
  });
  cancel.addEventListener("click", () => running?.abort());
}

function told(lanes, ended) {
  const good = lanes.filter((lane) => lane.dataset.state === "done").map((lane) => ended.get(lane));
  if (good.length < lanes.length) return `${good.length} of ${lanes.length} calls were answered.`;
  const sum = good.reduce((total, seconds) => total + seconds, 0);
  return `${lanes.length} calls in ${Math.max(...good).toFixed(2)} s. One after another: ${sum.toFixed(1)} s.`;
}
