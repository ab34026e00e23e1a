// Draws one delivery in time, as on a staff: you above, the service below. A wash between them is an open connection.

const SVG = "http://www.w3.org/2000/svg";
const YOU = 30;
const SERVICE = 74;
const LABEL = 6.7; // px, the width of a character

/** A new element of an SVG. */
export function shape(name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

/** Draw `lane` into `svg`, of which `width` pixels stand for `span` seconds; `now` is the end of what has not ended. */
export function drawStaff(svg, lane, width, span, now) {
  const x = (seconds) => Math.round(10 * Math.min(width - 1, Math.max(1, (seconds / span) * (width - 2)))) / 10;
  const parts = [
    shape("line", { class: "rail-line", x1: 0, x2: width, y1: YOU, y2: YOU }),
    shape("line", { class: "rail-line", x1: 0, x2: width, y1: SERVICE, y2: SERVICE }),
  ];
  for (const { from, to, inwards } of lane.open) {
    const left = x(from);
    parts.push(shape("rect", { class: inwards ? "wash in" : "wash", x: left, width: Math.max(2, x(to ?? now) - left), y: YOU, height: SERVICE - YOU }));
  }
  if (lane.work) {
    const left = x(lane.work.from);
    parts.push(shape("rect", { class: "work", x: left, width: Math.max(2, x(lane.work.to ?? now) - left), y: SERVICE - 4, height: 8, rx: 2 }));
  }
  // The last mark has its label whatever stands before it.
  const order = [...lane.marks].sort((one, other) => Boolean(other.last) - Boolean(one.last) || one.at - other.at);
  const taken = [];
  for (const mark of order) {
    const at = x(mark.at);
    if (mark.down !== undefined) parts.push(...arrow(at, mark.down, mark.kind));
    else parts.push(shape("circle", { class: `dot ${mark.kind ?? ""}`, cx: at, cy: SERVICE, r: 4.5 }));
    const place = mark.down || mark.down === undefined ? "below" : "above";
    const length = mark.label.length * LABEL;
    const left = Math.max(0, Math.min(at + 4 > width - length ? at - length - 5 : at + 5, width - length));
    if (taken.some((one) => one.place === place && left < one.right + 6 && left + length > one.left - 6)) continue;
    taken.push({ place, left, right: left + length });
    parts.push(shape("text", { class: `mark ${mark.kind ?? ""}`, x: left, y: place === "above" ? YOU - 10 : SERVICE + 19 }, mark.label));
  }
  if (now !== undefined && now < span && !lane.pencil) {
    parts.push(shape("line", { class: "playhead", x1: x(now), x2: x(now), y1: YOU - 8, y2: SERVICE + 8 }));
  }
  svg.replaceChildren(...parts);
}

function arrow(at, down, kind = "") {
  const [from, to] = down ? [YOU, SERVICE - 5] : [SERVICE, YOU + 1];
  const tip = down ? -6 : 6;
  return [
    shape("line", { class: `arrow ${kind}`, x1: at, x2: at, y1: from, y2: to }),
    shape("path", { class: `tip ${kind}`, d: `M${at - 3.5} ${to + tip} L${at} ${to} L${at + 3.5} ${to + tip}` }),
  ];
}

/** Draw the clock that all staffs share. */
export function drawClock(svg, width, span) {
  const step = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300].find((each) => (each / span) * width >= 56) ?? 600;
  const parts = [];
  const fine = step / (String(step).startsWith("2") ? 4 : 5);
  for (let tick = 0; tick * fine <= span; tick += 1) {
    const whole = Math.abs(tick * fine / step - Math.round(tick * fine / step)) < 1e-6;
    const at = Math.max(0.5, Math.round((tick * fine / span) * (width - 2)) + 0.5);
    parts.push(shape("line", { class: whole ? "tick whole" : "tick", x1: at, x2: at, y1: whole ? 16 : 21, y2: 26 }));
    if (whole) {
      const text = `${Number((tick * fine).toFixed(1))}${tick ? "" : " s"}`;
      const last = at > width - 24;
      parts.push(shape("text", { class: "mark", x: last ? width : at + (tick ? 0 : -0.5), y: 11, "text-anchor": last ? "end" : tick ? "middle" : "start" }, text));
    }
  }
  svg.replaceChildren(...parts);
}
