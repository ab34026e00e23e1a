// One connection for what the page hears from the service all the time: the lag of its event loop, and callbacks that arrive.

import { follow } from "./stream.js";

/**
 * Follow /console/pulse while the page can be seen; the result is an EventTarget, whose events have the data as `detail`: `inbox`,
 * `lag`, `callback`, and `refused` with an error.
 */
export function followPulse(inbox) {
  const pulse = new Pulse();
  let stop = () => {};
  const tell = (kind, detail) => pulse.dispatchEvent(new CustomEvent(kind, { detail }));
  function heard(kind, detail) {
    if (kind === "inbox") pulse.begin(detail);
    else pulse.heard(detail.at);
    tell(kind, detail);
  }
  function attend() {
    stop();
    if (!document.hidden) stop = follow(`/console/pulse?inbox=${encodeURIComponent(inbox)}`, { heard, refused: (error) => tell("refused", error) });
  }
  document.addEventListener("visibilitychange", attend);
  attend();
  return pulse;
}

class Pulse extends EventTarget {
  // The service's clock less the page's, in ms. What is heard was written before: so it is at least the greatest difference, and
  // hardly more, since the quickest of many messages takes a millisecond or two.
  #ahead = -Infinity;
  open = true; // whether the service knows the page's place for callbacks: after a restart, it does not

  begin({ open }) {
    this.open = open;
    this.#ahead = -Infinity;
  }

  /** Learn that the service wrote the moment `stamp` before now. */
  heard(stamp) {
    this.#ahead = Math.max(this.#ahead, milliseconds(stamp) - performance.now());
  }

  /** The moment `stamp` of the service's clock as performance.now() would tell it. */
  at(stamp) {
    return milliseconds(stamp) - this.#ahead;
  }
}

function milliseconds(stamp) {
  return Date.parse(stamp) + Number(stamp.slice(23, 26)) / 1000;
}
