// Elements, numbers as a person reads them, and source excerpts. Whatever comes from the program (names, code, messages)
// becomes text nodes and attributes here and never markup.

const $ = (selector, root = document) => root.querySelector(selector);

/** An element: h("p", {class: "x", onclick: f}, "text", child, null). Children are strings, numbers, elements, lists. */
function h(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** The same in SVG. */
function s(tag, attributes = {}, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined) continue;
    if (name.startsWith("aria-"))
      element.setAttribute(name, value); // "false" says something there
    else if (value === false) continue;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(
    ...children
      .flat(Infinity)
      .filter((c) => c !== null && c !== undefined && c !== false)
      .map(asNode),
  );
  return element;
}

const asNode = (child) => (child instanceof Node ? child : document.createTextNode(String(child)));

/** A button that says what it does. */
const button = (text, onclick, attributes = {}) => h("button", { type: "button", onclick, ...attributes }, text);

/** Tells a screen reader what has changed. */
function announce(text) {
  $("#live").textContent = text;
}

// numbers -------------------------------------------------------------------------------------------------------------
const scaled = (value, units, base) => {
  let at = 0;
  while (Math.abs(value) >= base * 0.9995 && at < units.length - 1) ((value /= base), at++);
  return [value >= 100 || Number.isInteger(value) ? value.toFixed(0) : value.toPrecision(3), units[at]];
};
const count = (n) => scaled(n, ["", " K", " M", " G", " T"], 1000).join("");
const whole = (n) => n.toLocaleString("en-US");
const bytes = (n) => scaled(n, ["B", "KB", "MB", "GB"], 1000).join(" ");
const flops = (n) => scaled(n, ["FLOP", "KFLOP", "MFLOP", "GFLOP", "TFLOP"], 1000).join(" ");
const percent = (share) => `${(share * 100).toFixed(share < 0.0995 ? 1 : 0)} %`;
const plural = (n, noun) => `${whole(n)} ${noun}${n === 1 ? "" : "s"}`;

function seconds(t) {
  if (t === 0) return "0";
  if (t >= 1) return `${t.toPrecision(3)} s`;
  return t >= 1e-3 ? `${(t * 1e3).toPrecision(3)} ms` : `${(t * 1e6).toPrecision(3)} µs`;
}

/** A norm or a loss: three digits, with an exponent where it is far from 1. */
function figure(value) {
  if (value === null || value === undefined) return "";
  if (value === 0) return "0";
  const size = Math.abs(value);
  return size >= 1e-3 && size < 1e5 ? String(Number(value.toPrecision(3))) : value.toExponential(2);
}

const shapeText = (shape) => (shape.length ? shape.join(" × ") : "scalar");

// source --------------------------------------------------------------------------------------------------------------
/** `file.py:12`, with the folder as its title. */
function place(file, line) {
  const entry = DATA.source[file];
  const name = entry ? entry.name : file;
  return h("span", { class: "place", title: name }, `${name.split(/[\\/]/).pop()}:${line}`);
}

/** The lines around one, which is marked; null where the source was not to be had. */
function excerpt(file, line, around = 2) {
  const entry = DATA.source[file];
  if (!entry || !entry.lines[line]) return null;
  const numbers = [];
  for (let n = line - around; n <= line + around; n++) if (entry.lines[n] !== undefined) numbers.push(n);
  while (numbers.length > 1 && numbers.at(-1) !== line && !entry.lines[numbers.at(-1)].trim()) numbers.pop();
  const indent = Math.min(
    ...numbers
      .map((n) => entry.lines[n])
      .filter((t) => t.trim())
      .map((t) => t.search(/\S/)),
  );
  const rows = numbers.map((n) =>
    h(
      "span",
      { class: n === line ? "line here" : "line" },
      h("i", {}, n),
      h("b", {}, entry.lines[n].slice(indent) || " "),
    ),
  );
  return h("pre", { class: "code", tabindex: 0, "aria-label": `${entry.name} around line ${line}` }, rows);
}

/** Code without line numbers. */
const code = (text) => h("pre", { class: "code plain", tabindex: 0 }, text);

/** A section of the page with its heading. */
function section(id, title, lead, ...children) {
  const heading = h("h2", { id: `${id}-title` }, title);
  return h(
    "section",
    { id, "aria-labelledby": `${id}-title` },
    heading,
    lead && h("p", { class: "lead" }, lead),
    children,
  );
}

// a note beside the pointer ---------------------------------------------------------------------------------------------
function tip(event, lines) {
  const box = $("#tip");
  if (!lines) return void (box.hidden = true);
  box.replaceChildren(...lines.filter(Boolean).map((line, i) => h(i ? "div" : "strong", {}, line)));
  box.hidden = false;
  const { width, height } = box.getBoundingClientRect();
  box.style.left = `${Math.max(4, Math.min(event.clientX + 14, innerWidth - width - 8))}px`;
  box.style.top = `${event.clientY + height + 24 > innerHeight ? event.clientY - height - 10 : event.clientY + 16}px`;
}
