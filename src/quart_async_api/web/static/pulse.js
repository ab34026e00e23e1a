// One connection for what the page hears from the service all the time: the lag of its event loop, and callbacks that arrive.

const KINDS = ["inbox", "lag", "callback"];

/** Follow /console/pulse while the page can be seen; the result is an EventTarget, whose events have the data as `detail`. */
export function followPulse(inbox) {
  const pulse = new EventTarget();
  let source;
  const follow = () => {
    source?.close();
    if (document.hidden) return;
    source = new EventSource(`/console/pulse?inbox=${encodeURIComponent(inbox)}`);
    for (const kind of KINDS) {
      source.addEventListener(kind, ({ data }) => pulse.dispatchEvent(new CustomEvent(kind, { detail: JSON.parse(data) })));
    }
  };
  document.addEventListener("visibilitychange", follow);
  addEventListener("pagehide", () => source?.close());
  follow();
  return pulse;
}
