// Showing an answer: its headers, a problem in words, rows as a table, and the JSON itself. Texts go in as text, never as markup.

const HIDDEN = /[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g; // characters that reorder a line; web/json_text.py has them too
const HIGHLIGHTED = 100_000; // characters; longer ones are shown plain
const TOKEN = /("(?:\\.|[^"\\])*")(\s*:)?|\b(true|false|null)\b|-?\b\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;

/** A new element: element("p", { className: "hint" }, "text", otherElement). */
export function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

/** JSON for people: characters that would reorder a line are escaped. */
export function jsonText(value, indent) {
  return JSON.stringify(value, null, indent).replace(HIDDEN, (found) => `\\u${found.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

/** Show `response`, whose body is `text`, in `place`; returns the JSON, or undefined where it is none. */
export function showAnswer(place, response, text) {
  const json = /[/+]json\b/.test(response.headers.get("Content-Type") ?? "") ? parsed(text) : undefined;
  place.replaceChildren();
  if (response.headers.get("Content-Type")?.startsWith("application/problem+json") && json) place.append(problem(json));
  if (isRows(json)) place.append(table(json));
  if (json?.comics) place.append(comicsPage(json.comics));
  if (text) place.append(body(json, text));
  place.append(headers(response));
  return json;
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function problem(document) {
  const told = document.errors?.length ? "" : `: ${document.detail}`; // with entries, the detail only repeats them
  const shown = element("div", { className: "problem" }, element("p", {}, element("strong", {}, document.title), told));
  if (document.errors?.length) {
    const entries = document.errors.map(({ pointer, detail }) =>
      element("li", {}, element("code", {}, pointer.replace(/^#\//, "")), `: ${detail}`));
    shown.append(element("ul", {}, ...entries));
  }
  if (document.type?.startsWith("/problems/")) shown.append(element("a", { href: document.type }, "About this type of problem"));
  return shown;
}

function isRows(json) {
  const isRow = (row) => row && typeof row === "object" && Object.values(row).every((value) => typeof value !== "object");
  return Array.isArray(json) && json.length > 0 && json.every(isRow);
}

function table(rows) {
  const names = Object.keys(rows[0]);
  const head = names.map((name) => element("th", { scope: "col" }, name));
  const lines = rows.map((row) => element("tr", {}, ...names.map((name) => element("td", {}, String(row[name] ?? "")))));
  const made = element("table", {}, element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...lines));
  return scrollable("div", "Rows", made);
}

function comicsPage(comics) {
  // By number, so that the page shows these and not others at random.
  const href = `/comic?${comics.map(({ num }) => `num=${encodeURIComponent(num)}`).join("&")}`;
  return element("p", {}, element("a", { href }, "Open as a page"), ", with the pictures");
}

function body(json, text) {
  const code = element("code");
  if (json === undefined) code.append(text);
  else code.append(...highlighted(jsonText(json, 2)));
  return scrollable("pre", "Body of the answer", code);
}

function scrollable(name, label, content) {
  return element(name, { className: "scroll", tabIndex: 0, role: "group", ariaLabel: label }, content);
}

function* highlighted(text) {
  if (text.length > HIGHLIGHTED) return yield text;
  let end = 0;
  for (const found of text.matchAll(TOKEN)) {
    const [whole, string, colon, word] = found;
    yield text.slice(end, found.index);
    if (string) {
      yield element("span", { className: colon ? "json-key" : "json-text" }, string);
      yield colon ?? "";
    } else {
      yield element("span", { className: word ? "json-word" : "json-number" }, whole);
    }
    end = found.index + whole.length;
  }
  yield text.slice(end);
}

function headers(response) {
  const list = element("dl");
  for (const [name, value] of response.headers) list.append(element("dt", {}, name), element("dd", {}, value));
  return element("details", { className: "headers" }, element("summary", {}, "Headers"), list);
}
