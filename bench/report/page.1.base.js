"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
document.documentElement.classList.add("js");
const $ = (id) => document.getElementById(id);
const known = (x) => x !== null && x !== undefined;
/* The one rule of rounding, the same in Python: halves go up. */
const rounded = (x, digits) => (Math.floor(Number((x * 10 ** digits).toFixed(6)) + 0.5) / 10 ** digits + 0).toFixed(digits).replace("-", "−");
const percent = (x, digits = 1) => (known(x) ? rounded(100 * x, digits) : "–");
const finely = (x) => percent(x, 2);
const short = (x) => (!known(x) ? "–" : Math.abs(x) >= 100 ? x.toFixed(0) : String(Number(x.toPrecision(3)))).replace("-", "−");
const brief = (x) => (x !== 0 && Math.abs(x) < 0.001 ? x.toExponential(0).replaceAll("-", "−") : Math.abs(x) >= 100 ? x.toFixed(0) : String(Number(x.toPrecision(2)))); // on scales
const exactly = (x) => (known(x) ? String(Number(x.toPrecision(6))) : "–");
const DASHES = ["", "7 3", "2 2", "8 3 2 3", "4 2 1 2", "12 4", "1 3"];
const SVG = "http://www.w3.org/2000/svg";

/* Text from outside enters the page as text nodes and attributes only. */
function add(parent, tag, attributes = {}, ...children) {
  const space = parent.namespaceURI === SVG || tag === "svg" ? SVG : "http://www.w3.org/1999/xhtml";
  const node = document.createElementNS(space, tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (known(value)) node.setAttribute(name, value);
  }
  node.append(...children);
  parent.append(node);
  return node;
}
const colour = (v) => (data.colours[v % data.colours.length] === "#000000" ? "currentColor" : data.colours[v % data.colours.length]);
const dash = (v) => DASHES[v % DASHES.length];

/* A short piece of a method's line, as it is in the charts. */
function key(parent, v) {
  const svg = add(parent, "svg", { class: "key", width: 26, height: 10, "aria-hidden": "true" });
  add(svg, "line", { x1: 0, x2: 26, y1: 5, y2: 5, stroke: colour(v), "stroke-width": 2.5, "stroke-dasharray": dash(v) });
}
function method(parent, v) {
  key(parent, v);
  parent.append(data.variants[v]);
}
/* Fill a select; what was chosen stays chosen where it is still there. */
function options(select, names, values = names.keys()) {
  const keys = [...values].map(String), before = select.value;
  select.replaceChildren();
  names.forEach((name, i) => add(select, "option", { value: keys[i] }, name));
  if (keys.includes(before)) select.value = before;
}

/* --- what the reader chose: one category, which methods, and every control; kept in the address ------------------------- */

const hidden = new Set(); // numbers of methods
const sorts = {}; // [heading, direction] by table
const places = { pixel: "", image: "deployable" }; // where the two sliders stand: a threshold by name, or a point
let part = "", target = ""; // the part of the page that a link leads to, and the one to hold in view while others are drawn
const variants = [...data.variants.keys()];
const shown = () => variants.filter((v) => !hidden.has(v));
const chosen = () => ($("category").value === "" ? null : Number($("category").value)); // null: all categories
const single = () => data.categories[chosen() ?? 0]; // for parts that show one
const several = () => (chosen() === null ? data.categories : [single()]);
const over = () => data.overview[chosen() === null || data.overview.length === 1 ? 0 : chosen() + 1];
const categoryNames = data.categories.map((c) => c.name);
const seedNote = () => (data.seeds.length > 1 ? `Seed ${single().seed}, the first. ` : "");

/* Controls by what they are called in the address; [element, value at first]. */
const controls = new Map();
function keep(...ids) {
  for (const id of ids) controls.set(id, [$(id), $(id).value]);
}
const axis = () => document.querySelector("input[name=axis]:checked").value;

function address() {
  const said = new URLSearchParams();
  if (part) said.set("part", part);
  if (chosen() !== null && categoryNames.length > 1) said.set("category", categoryNames[chosen()]);
  for (const v of hidden) said.append("hide", data.variants[v]);
  for (const [id, [element, first]] of controls) if (element.value !== first) said.set(id, element.value);
  if (axis() !== "value") said.set("axis", axis());
  if (places.pixel) said.set("pixel", places.pixel);
  if (places.image !== "deployable") said.set("image", places.image);
  for (const [table, [heading, direction]] of Object.entries(sorts)) said.set(`sort.${table}`, `${direction} ${heading}`);
  return said.toString();
}
let later = 0;
function keepAddress() {
  clearTimeout(later);
  later = setTimeout(() => {
    const said = address();
    if (said !== location.hash.slice(1)) history.replaceState(null, "", `#${said}`);
  }, 150);
}
/* Take what an address says; false where it names a part of the page alone, or nothing. */
function readAddress() {
  const text = location.hash.slice(1);
  if (!text.includes("=")) {
    part = $(decodeURIComponent(text)) ? decodeURIComponent(text) : "";
    return false;
  }
  const said = new URLSearchParams(text);
  part = said.get("part") ?? "";
  const category = categoryNames.indexOf(said.get("category"));
  $("category").value = category < 0 ? $("category").options[0].value : category;
  hidden.clear();
  for (const name of said.getAll("hide")) if (data.variants.includes(name)) hidden.add(data.variants.indexOf(name));
  if (hidden.size === variants.length) hidden.clear();
  for (const radio of document.querySelectorAll("input[name=axis]")) radio.checked = radio.value === (said.get("axis") ?? "value");
  places.pixel = said.get("pixel") ?? "";
  places.image = said.get("image") ?? "deployable";
  for (const name of Object.keys(sorts)) delete sorts[name];
  for (const [name, value] of said) if (name.startsWith("sort.")) sorts[name.slice(5)] = [value.slice(value.indexOf(" ") + 1), value.slice(0, value.indexOf(" "))];
  fillControls();
  for (const [id, [element, first]] of controls) {
    const wanted = said.get(id) ?? first;
    if (element.tagName !== "SELECT" || [...element.options].some((o) => o.value === wanted)) element.value = wanted;
  }
  return true;
}

/* --- drawing: what is in view at once, the rest behind, so that a click is answered at once ----------------------------- */

const sections = new Map(); // id of the heading: what draws it
const pending = new Set();
let busy = 0, draining = false;
function inView(id) {
  const box = $(id).closest("section").getBoundingClientRect();
  return box.top < innerHeight && box.bottom > 0;
}
function draw(id) {
  pending.delete(id);
  busy++;
  (async () => sections.get(id)())().finally(() => { busy--; settle(); });
}
function settle() {
  if (pending.size || busy || draining) return;
  document.body.dataset.ready = "true";
  hold();
}
async function redraw(...ids) {
  document.body.dataset.ready = "false";
  for (const id of ids.length ? ids : sections.keys()) pending.add(id);
  for (const id of [...pending]) if (inView(id)) draw(id);
  keepAddress();
  if (draining) return;
  draining = true;
  await painted("page"); // what is in view is shown first
  while (pending.size) {
    await breathe();
    const [next] = pending;
    if (next) draw(next);
  }
  draining = false;
  settle();
}
/* Wait until what is drawn by now is seen; whether that part of the page has not been drawn anew meanwhile. */
const turns = {};
async function painted(part) {
  const mine = (turns[part] = (turns[part] ?? 0) + 1);
  await new Promise((go) => { requestAnimationFrame(() => setTimeout(go)); setTimeout(go, 100); });
  return mine === turns[part];
}
/* Let the browser answer, where work took long. */
let breathed = 0;
async function breathe() {
  if (performance.now() - breathed < 20) return;
  await new Promise((go) => setTimeout(go));
  breathed = performance.now();
}
function nameCategory() {
  for (const card of document.querySelectorAll("[data-category]")) card.hidden = chosen() !== null && Number(card.dataset.category) !== chosen();
  for (const place of document.querySelectorAll(".of")) place.textContent = chosen() === null ? (categoryNames.length === 1 ? categoryNames[0] : place.dataset.all ?? `${categoryNames[0] ?? ""}: one category at a time, choose it above`) : categoryNames[chosen()];
}
