// Watching a job until it has ended.

import { element } from "./answer.js";

const EVERY = 400; // ms
const ENDED = new Set(["succeeded", "failed", "cancelled"]);

/** Ask for the job at `url` until it has ended, showing how far it is in `place`; returns its last document. */
export async function watchJob(url, place, signal) {
  const bar = element("progress", { max: 100, value: 0, ariaLabel: "Progress of the job" });
  const text = element("span", {}, "queued");
  place.prepend(element("p", { className: "job" }, element("a", { href: url }, "Job"), bar, text));
  for (;;) {
    const response = await fetch(url, { signal, cache: "no-store", headers: { Accept: "application/json" } });
    const job = await response.json();
    if (!response.ok) throw new Error(job.detail);
    bar.value = job.status === "succeeded" ? 100 : (job.progress?.percent ?? 0);
    text.textContent = `${job.status}, ${Math.round(bar.value)} %`;
    if (ENDED.has(job.status)) return job;
    await pause(EVERY, signal);
  }
}

function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    }, { once: true });
  });
}
