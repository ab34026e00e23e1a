// What to say when the service refuses a call of a page.

export const PAGE = { Accept: "application/problem+json, text/html;q=0.9" }; // errors as problems: these have words

const PATIENCE = 5; // seconds until the next try, where the service names none

/** An error whose message is the problem in `response`, in words; `seconds`: when to try again, undefined if that is no use. */
export async function refusal(response) {
  const { title, detail } = await response.json().catch(() => ({}));
  const said = detail ? `: ${detail}` : "";
  const error = new Error(`${title ?? `The service answered ${response.status}`}${said}${/[.!?]$/.test(said) ? "" : "."}`);
  const after = Number(response.headers.get("Retry-After"));
  if (after || response.status === 429 || response.status >= 500) error.seconds = after || PATIENCE;
  return error;
}
