// What a form asks for, as a request.

/** The request that a call's form stands for: { method, url, headers, body }. Empty and default values are left out. */
export function requestOf(form) {
  const { method, path, task } = form.dataset;
  const request = { method, headers: {}, body: undefined };
  const query = [];
  const body = {};
  const args = {};
  let target = path;
  for (const field of form.elements) {
    const { where, many, required } = field.dataset;
    const { value } = field;
    if (where === "path") target = target.replace(`{${field.name}}`, encode(value));
    else if (!where || (required === undefined && ["", field.dataset.default].includes(value))) continue;
    else if (where === "header") request.headers[field.name] = value;
    else if (where === "args") args[field.name] = valueOf(field);
    else if (where === "body") body[field.name] = valueOf(field);
    else if (many !== undefined) query.push(...list(value).map((one) => [field.name, one]));
    else query.push([field.name, value]);
  }
  deliver(form, request, (name, value) => ("body" in form.dataset ? (body[name] = value) : query.push([name, value])));
  const search = query.map(([name, value]) => `${encode(name)}=${encode(value)}`).join("&");
  const base = "socket" in form.dataset ? location.origin.replace("http", "ws") : location.origin;
  request.url = new URL(target + (search && `?${search}`), base).href;
  if ("body" in form.dataset) {
    request.headers["Content-Type"] = "application/json";
    request.body = JSON.stringify(task ? { task, ...(Object.keys(args).length && { args }), ...body } : body);
  }
  return request;
}

/** Add to `request` what asks for the chosen delivery; `add` takes what goes into the query or the body. */
function deliver(form, request, add) {
  const always = "always" in form.dataset; // starts a job whatever it is asked
  switch (form.elements.delivery?.value) {
    case "wait":
      if (always) request.headers.Prefer = "wait=30";
      break;
    case "back":
      if (!always) request.headers.Prefer = "respond-async";
      break;
    case "stream":
      request.headers.Accept = "text/event-stream";
      break;
    case "hook":
      add("callback_url", form.elements.callback_url.value);
      if (form.elements.callback_events.value) add("callback_events", form.elements.callback_events.value);
  }
}

function list(text) {
  return text.split(/[\s,]+/).filter(Boolean);
}

function valueOf({ value, dataset: { kind, many } }) {
  return many === undefined ? read(value, kind) : list(value).map((one) => read(one, kind));
}

/** `text` as a value of this kind; as it is if it is none, for the service is the judge. */
function read(text, kind) {
  if (kind === undefined || text === "") return text;
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

function encode(text) {
  return encodeURIComponent(text).replace(/[!'()*]/g, (found) => `%${found.charCodeAt(0).toString(16).toUpperCase()}`);
}
