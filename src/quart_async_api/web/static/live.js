// Parts of a page that follow the service. A part is an element with an id and `data-live`: the address of an event stream,
// after whose events the page is fetched again, or a number of seconds between fetches. The server alone makes the markup.

const LEAST = 500; // ms between two fetches, however many events there are
const PATIENCE = 5000; // ms until the next try when the service does not answer

/** Keep the live parts of this page up to date; `changed(part)` is called after each update. */
export function keepLive(changed) {
  const parts = () => [...document.querySelectorAll("[data-live][id]")];
  const ways = new Set(parts().map((part) => part.dataset.live));
  if (!ways.size) return;
  const connection = document.getElementById("connection");
  let timer; // of the next fetch
  let stale = false; // an event came while a fetch was under way
  let fetching = false;
  let last = 0;

  function soon(wait = 0) {
    if (fetching) stale = true;
    else if (!document.hidden && !paused()) timer ??= setTimeout(refresh, Math.max(wait, last + LEAST - performance.now()));
  }

  async function refresh() {
    timer = undefined;
    fetching = true;
    let wait = 0;
    try {
      const response = await fetch(location.href, { headers: { Accept: "text/html" }, cache: "no-store" });
      if (response.redirected) return location.reload(); // the session has ended
      if (!response.ok) throw new Error(`status ${response.status}`);
      const page = new DOMParser().parseFromString(await response.text(), "text/html");
      changed(page);
      for (const part of parts()) {
        const newer = page.getElementById(part.id);
        if (newer && !part.contains(chosen())) Idiomorph.morph(part, newer, MORPHING);
      }
      connection.hidden = true;
    } catch (error) {
      connection.textContent = `The service does not answer (${error.message}). The page tries again every ${PATIENCE / 1000} seconds.`;
      connection.hidden = false;
      stale = true;
      wait = PATIENCE;
    } finally {
      last = performance.now();
      fetching = false;
      if (stale) {
        stale = false;
        soon(wait);
      }
    }
  }

  for (const way of ways) {
    if (Number(way)) setInterval(soon, 1000 * Number(way));
    else follow(way, () => soon());
  }
  document.addEventListener("visibilitychange", () => soon());
  document.querySelector("[data-pause]")?.addEventListener("click", ({ currentTarget }) => {
    const pressed = currentTarget.getAttribute("aria-pressed") !== "true";
    currentTarget.setAttribute("aria-pressed", pressed);
    soon();
  });
}

// What a reader has opened or marked stays as it is.
const MORPHING = {
  ignoreActiveValue: true,
  callbacks: { beforeAttributeUpdated: (name, element) => !(name === "open" && element.localName === "details") },
};

function paused() {
  return document.querySelector("[data-pause]")?.getAttribute("aria-pressed") === "true";
}

/** The form field that is being filled in: a part with it is left alone. */
function chosen() {
  const active = document.activeElement;
  return active?.matches("input:not([type=checkbox]), textarea, select") ? active : null;
}

const KINDS = ["snapshot", "progress", "log", "retry", "succeeded", "failed", "cancelled", "resync"];

/** Call `heard` after each event of the stream at `address`; the browser connects again by itself. */
function follow(address, heard) {
  const source = new EventSource(address);
  for (const kind of KINDS) source.addEventListener(kind, heard);
  source.addEventListener("open", heard); // what happened meanwhile
}
