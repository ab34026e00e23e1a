// What to say when the service refuses a call of a page.

export const PAGE = { Accept: "application/problem+json, text/html;q=0.9" }; // errors as problems: these have words

const LATER = 5; // seconds until the next try, where the service names none

/** `said`: the problem in words. `seconds`: when to try again; Infinity if that is of no use. */
export class Refusal extends Error {
  constructor(status, said, seconds) {
    super(seconds === Infinity ? said : `${said} Try again in ${inWords(seconds)}.`);
    Object.assign(this, { status, said, seconds });
  }
}

/** `fetch`, which says in words that no answer came. */
export function ask(address, options) {
  return fetch(address, options).catch((error) => {
    throw options?.signal?.aborted ? error : new Error("The service does not answer. Is it still running?");
  });
}

/** The refusal that `response` is. */
export async function refusal(response) {
  const { status, headers } = response;
  const { title, detail } = await response.json().catch(() => ({}));
  const said = detail ? `${title}: ${detail}` : (title ?? `The service answered ${status}`);
  const isPassing = status === 429 || status >= 500;
  const after = Number(headers.get("Retry-After")) || LATER;
  const next = status === 401 ? " Reload the page to sign in." : "";
  return new Refusal(status, (/[.!?]$/.test(said) ? said : `${said}.`) + next, isPassing ? after : Infinity);
}

export function inWords(seconds) {
  return seconds === 1 ? "1 second" : `${seconds} seconds`;
}
