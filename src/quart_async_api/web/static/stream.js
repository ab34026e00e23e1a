// An event stream that is followed until the page has enough of it. EventSource ends for good at a status of 429 or 503, and does
// not say which it was.

import { eventsOf } from "./events.js";
import { refusal } from "./refusal.js";

const LEAST = 1000; // ms until the first try to connect again, doubled by each further one
const MOST = 10_000;

/**
 * Call `heard(event, data, id)` for each event of the stream at `address`, and `opened()` for each connection. If it ends or is
 * refused, it is opened again, not before its Retry-After; `refused(error)` hears why it was not. Returns what ends it.
 */
export function follow(address, { heard, opened = () => {}, refused = () => {} }) {
  const stopping = new AbortController();
  const { signal } = stopping;
  let last;
  let failures = 0;

  /** Read one connection to its end; returns when to connect again, in ms. */
  async function read() {
    try {
      const headers = { Accept: "text/event-stream", ...(last && { "Last-Event-ID": last }) };
      const response = await fetch(address, { headers, signal, cache: "no-store" });
      if (response.status === 204) return Infinity; // nothing follows
      if (!response.ok) throw await refusal(response);
      failures = 0;
      opened();
      for await (const { event, data, id } of eventsOf(response)) {
        last = id ?? last;
        heard(event, data, last);
      }
      return 0;
    } catch (error) {
      if (!signal.aborted) refused(error);
      return 1000 * (error.seconds ?? 0);
    }
  }

  (async () => {
    while (!signal.aborted) {
      const wait = await read();
      if (wait === Infinity) return;
      const spread = 1 + Math.random() / 2; // not all pages at once
      await new Promise((next) => setTimeout(next, spread * Math.max(wait, Math.min(MOST, LEAST * 2 ** failures))));
      failures += 1;
    }
  })();
  return () => stopping.abort();
}
