// What a form asks for, as a request and as the curl command that sends the same.

/** The request that a call's form stands for: { method, url, headers, body }. Empty and default values are left out. */
export function requestOf(form) {
  const { method, path } = form.dataset;
  const request = { method, headers: {}, body: undefined };
  const query = [];
  const body = {};
  let target = path;
  for (const field of form.elements) {
    const { where, many, required } = field.dataset;
    const value = field.value;
    if (where === "path") target = target.replace(`{${field.name}}`, encode(value));
    else if (!where || (value === "" && required === undefined)) continue;
    else if (where === "header") request.headers[field.name] = value;
    else if (where === "body") body[field.name] = field.type === "number" ? Number(value) : value;
    else if (many !== undefined) query.push(...value.split(/[\s,]+/).filter(Boolean).map((one) => [field.name, one]));
    else if (value !== field.dataset.default) query.push([field.name, value]);
  }
  const search = query.map(([name, value]) => `${encode(name)}=${encode(value)}`).join("&");
  request.url = new URL(target + (search && `?${search}`), location.origin).href;
  if ("body" in form.dataset) {
    request.headers["Content-Type"] = "application/json";
    request.body = JSON.stringify(body);
  }
  return request;
}

/** The command that sends it, with `options` of curl's, quoted for a POSIX shell. */
export function curl({ method, url, headers, body }, options = []) {
  const words = ["curl", ...options];
  if (method !== "GET") words.push("-X", method);
  words.push(url);
  for (const [name, value] of Object.entries(headers)) words.push("-H", `${name}: ${value}`);
  if (body !== undefined) words.push("-d", body);
  const key = "signedIn" in document.documentElement.dataset ? ' -H "Authorization: Bearer $API_KEY"' : "";
  return words.map(quote).join(" ") + key;
}

function quote(word) {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'"'"'`)}'`;
}

function encode(text) {
  return encodeURIComponent(text).replace(/[!'()*]/g, (found) => `%${found.charCodeAt(0).toString(16).toUpperCase()}`);
}
