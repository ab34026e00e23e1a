// Watching a job by its event stream, until it has ended.

import { element } from "./answer.js";
import { eventsOf } from "./events.js";
import { refusal } from "./refusal.js";

const ENDED = new Set(["succeeded", "failed", "cancelled"]);

/** Show in `place` how far the job `job` is, as its events come; returns its last document. */
export async function watchJob(job, place, signal) {
  const bar = element("progress", { max: 100, value: 0, ariaLabel: "Progress of the job" });
  const text = element("span", {}, job.status);
  place.prepend(element("p", { className: "job" }, element("a", { href: `/console/jobs/${job.id}` }, "The job’s page"), bar, text));
  const response = await fetch(job.links.events, { signal, headers: { Accept: "text/event-stream" }, cache: "no-store" });
  if (!response.ok) throw await refusal(response);
  for await (const { event, data } of eventsOf(response)) {
    if (event === "progress") bar.value = data.percent ?? 0;
    if (event === "snapshot") bar.value = data.progress?.percent ?? 0;
    if (event === "succeeded") bar.value = 100;
    const status = data.status ?? (event === "log" || event === "progress" ? "running" : event);
    text.textContent = `${status}, ${Math.round(bar.value)} %`;
    if (ENDED.has(event)) return data;
  }
  throw new Error("the stream ended before the job");
}
