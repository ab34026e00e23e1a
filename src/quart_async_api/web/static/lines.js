// The lines that send a request, in three languages.

const signedIn = () => "signedIn" in document.documentElement.dataset;
const isStream = ({ headers }) => headers.Accept === "text/event-stream";

/** The command that sends it, quoted for a POSIX shell. */
export function curl(request) {
  const { method, url, headers, body } = request;
  const words = ["curl"];
  if (isStream(request)) words.push("-N");
  if (method !== "GET") words.push("-X", method);
  words.push(url);
  for (const [name, value] of Object.entries(headers)) words.push("-H", `${name}: ${value}`);
  if (body !== undefined) words.push("-d", body);
  return words.map(quote).join(" ") + (signedIn() ? ' -H "Authorization: Bearer $API_KEY"' : "");
}

function quote(word) {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'"'"'`)}'`;
}

/** The lines of Python that send it with httpx. */
export function httpx(request) {
  const { method, url, body } = request;
  const { "Content-Type": type, ...headers } = request.headers;
  const given = [JSON.stringify(url)];
  const fields = Object.entries(headers).map(([name, value]) => `${JSON.stringify(name)}: ${JSON.stringify(value)}`);
  if (signedIn()) fields.push('"Authorization": f"Bearer {key}"');
  if (fields.length) given.push(`headers={${fields.join(", ")}}`);
  if (type) given.push(`json=${python(JSON.parse(body))}`);
  if (!isStream(request)) return `httpx.${method.toLowerCase()}(${[...given, "timeout=60"].join(", ")})`;
  return `with httpx.stream("${method}", ${[...given, "timeout=60"].join(", ")}) as response:\n    for line in response.iter_lines():\n        print(line)`;
}

function python(value) {
  if (Array.isArray(value)) return `[${value.map(python).join(", ")}]`;
  if (value && typeof value === "object") {
    return `{${Object.entries(value).map(([name, each]) => `${JSON.stringify(name)}: ${python(each)}`).join(", ")}}`;
  }
  return { true: "True", false: "False", null: "None" }[String(value)] && typeof value !== "string"
    ? { true: "True", false: "False", null: "None" }[String(value)]
    : JSON.stringify(value);
}

/** The line of JavaScript that sends it. */
export function fetchLine({ method, url, headers, body }) {
  const named = Object.entries(headers).map(([name, value]) => `${JSON.stringify(name)}: ${JSON.stringify(value)}`);
  if (signedIn()) named.push('Authorization: `Bearer ${key}`');
  const options = [];
  if (method !== "GET") options.push(`method: "${method}"`);
  if (named.length) options.push(`headers: { ${named.join(", ")} }`);
  if (body !== undefined) options.push(`body: JSON.stringify(${body})`);
  return `await fetch(${JSON.stringify(url)}${options.length ? `, { ${options.join(", ")} }` : ""})`;
}

export const LINES = { curl, httpx, fetch: fetchLine };
