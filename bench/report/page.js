"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const percent = (x, digits = 1) => (x === null || x === undefined ? "–" : (100 * x).toFixed(digits));
const short = (x) => (x === null || x === undefined ? "–" : Math.abs(x) >= 100 ? x.toFixed(0) : String(Number(x.toPrecision(3))));
const DASHES = ["", "7 3", "2 2", "8 3 2 3", "4 2 1 2", "12 4", "1 3"];
const SVG = "http://www.w3.org/2000/svg";

/* Text from outside enters the page as text nodes and attributes only. */
function add(parent, tag, attributes = {}, ...children) {
  const space = parent.namespaceURI === SVG || tag === "svg" ? SVG : "http://www.w3.org/1999/xhtml";
  const node = document.createElementNS(space, tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined) node.setAttribute(name, value);
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
function options(select, names, values = names.keys()) {
  const keys = [...values];
  select.replaceChildren();
  names.forEach((name, i) => add(select, "option", { value: keys[i] }, name));
}
const categoryNames = data.categories.map((c) => c.name);

/* --- tables ------------------------------------------------------------------------------------------------------------ */

/* A table whose headings sort it; rows are [cells], a cell is {node(td), value}. */
function table(element, headings, rows, { sort = null, keep = false } = {}) {
  const before = keep ? element.querySelector("th[aria-sort]") : null;
  const kept = before ? [before.cellIndex, before.getAttribute("aria-sort")] : sort;
  element.replaceChildren();
  const head = add(add(element, "thead"), "tr");
  const body = add(element, "tbody");
  const drawn = rows.map((cells) => {
    const tr = add(body, "tr");
    cells.forEach((cell, i) => {
      const td = add(tr, i === 0 ? "th" : "td", i === 0 ? { scope: "row" } : {});
      if (cell.value !== undefined) td.dataset.value = cell.value === null ? "" : cell.value;
      if (cell.name) td.dataset.name = cell.name;
      if (cell.best) td.className = "best";
      if (cell.long) td.className = "long";
      if (cell.draw) cell.draw(td);
      else td.append(cell.text);
    });
    return { tr, cells };
  });
  function order(column, direction) {
    const sign = direction === "ascending" ? 1 : -1;
    const of = (row) => row.cells[column].value ?? row.cells[column].text ?? "";
    const missing = (x) => x === "" || x === null;
    drawn.sort((a, b) => {
      const [x, y] = [of(a), of(b)];
      if (missing(x) || missing(y)) return missing(x) - missing(y);
      return sign * (typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y)));
    });
    body.append(...drawn.map((row) => row.tr));
    [...head.children].forEach((th, i) => (i === column ? th.setAttribute("aria-sort", direction) : th.removeAttribute("aria-sort")));
  }
  headings.forEach((heading, i) => {
    const th = add(head, "th", { scope: "col" });
    const first = i === 0 ? "ascending" : "descending";
    const other = { ascending: "descending", descending: "ascending" };
    add(th, "button", { type: "button", title: heading.about, onclick: () => order(i, th.hasAttribute("aria-sort") ? other[th.getAttribute("aria-sort")] : first) }, heading.title);
  });
  if (kept) order(...kept);
}
const named = (v) => ({ value: data.variants[v], draw: (td) => method(td, v) });

/* Numbers of all methods as cells, with half of the interval; where they are ranked, the best of the complete ones is bold. */
function numberCells(numbers, name, { form = percent, ranked = true } = {}) {
  const complete = numbers.map((n) => (n.n === n.total && n.mean !== null ? Number(form(n.mean)) : -Infinity));
  const best = ranked && complete.filter(Number.isFinite).length > 1 ? Math.max(...complete) : NaN;
  const shown = numbers.map((n) => (n.n === n.total || data.partial ? n.mean : null));
  return numbers.map((n, v) => ({
    value: shown[v],
    name,
    best: complete[v] === best && best > -Infinity,
    draw: (td) => {
      td.append(form(shown[v]));
      if (n.low !== null) add(td, "span", { class: "half", title: `95 % interval: ${form(n.low)} to ${form(n.high)}` }, ` ± ${form((n.high - n.low) / 2)}`);
      if (ranked && n.tie && complete[v] !== best) td.append(" ≈");
      if (n.n < n.total) td.append(` (${n.n}/${n.total})`);
    },
  }));
}

function overview() {
  const chosen = data.overview[$("overview-category").value];
  const columns = data.metrics.map((m) => numberCells(chosen.numbers[m.name], m.name));
  const headings = [{ title: "method" }, ...data.metrics.map((m) => ({ title: m.title, about: m.definition }))];
  const element = $("overview-table");
  table(element, headings, data.variants.map((_, v) => [named(v), ...columns.map((c) => c[v])]), { sort: [1, "descending"], keep: true });
  const foot = chosen.published.length ? add(element, "tfoot") : null; // stays below, however the methods are sorted
  for (const { name, texts } of chosen.published) {
    const tr = add(foot, "tr");
    add(tr, "th", { scope: "row" }, `${name} (published)`);
    data.metrics.forEach((m) => add(tr, "td", {}, texts[m.name] ?? "–"));
  }
}

/* What would happen at a threshold: images called defective, pixels marked. */
function decisions() {
  const chosen = data.overview[$("decisions-category").value], found = chosen.decisions[$("decisions-threshold").value];
  const shown = data.decisions.filter((d) => d.name in found);
  const exact = (x) => (x === null ? "–" : String(Number(x.toPrecision(6))));
  const forms = { threshold: exact, image_threshold: exact, normal_fpr: (x) => percent(x, 2) };
  const ranked = (name) => name === "iou";
  const columns = shown.map((d) => numberCells(found[d.name], d.name, { form: forms[d.name] ?? percent, ranked: ranked(d.name) }));
  table($("decisions-table"), [{ title: "method" }, ...shown], data.variants.map((_, v) => [named(v), ...columns.map((c) => c[v])])); // thresholds come and go: no order is kept
  const [defective, normal] = chosen.tested;
  $("decisions-note").textContent = `Measured on ${defective} defective and ${normal} normal test images; 0.0 ± 0.0 of n images still leaves up to about 3/n possible. The intervals hold the deployable thresholds fixed, which rest on few held-out images, and let the oracle choose anew.`;
}

function ranks() {
  const headings = [{ title: "method" }, ...data.ranks.map((r) => ({ title: r.title }))];
  const rows = data.variants.map((_, v) => [named(v), ...data.ranks.map((r) => ({ value: r.ranks[v] ?? null, text: r.ranks[v] == null ? "–" : r.ranks[v].toFixed(2) }))]);
  table($("rank-table"), headings, rows, { sort: data.ranks.length ? [1, "ascending"] : null });
}

/* --- charts ------------------------------------------------------------------------------------------------------------ */

const MARGIN = { left: 52, right: 14, top: 10, bottom: 44 };
/* Lines over an axis. series: [{v, xs, ys}]; marks: [{v, x, y, shape, title}]; returns a function that moves the cursor. */
function chart(place, { title, xlabel, ylabel, series, marks = [], log = false, x: [left, right], y: [low, high], height = 300, points = false }) {
  place.replaceChildren();
  const figure = add(place, "figure");
  add(figure, "figcaption", {}, title);
  const width = Math.min(Math.max(place.clientWidth || 560, 300), 1200), margin = MARGIN;
  const svg = add(figure, "svg", { class: "chart", viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": `${title}: ${ylabel} over ${xlabel}` });
  const scale = log ? Math.log10 : (x) => x;
  const X = (x) => margin.left + ((scale(x) - scale(left)) / (scale(right) - scale(left))) * (width - margin.left - margin.right);
  const Y = (y) => height - margin.bottom - ((y - low) / (high - low)) * (height - margin.top - margin.bottom);
  const ticks = (from, to) => {
    const raw = (to - from) / 5, power = 10 ** Math.floor(Math.log10(raw)), step = [1, 2, 5, 10].find((s) => s * power >= raw) * power;
    return Array.from({ length: Math.floor(to / step + 1e-9) - Math.ceil(from / step - 1e-9) + 1 }, (_, i) => (Math.ceil(from / step - 1e-9) + i) * step);
  };
  const powers = (from, to) => Array.from({ length: Math.floor(Math.log10(to) + 1e-9) - Math.ceil(Math.log10(from) - 1e-9) + 1 }, (_, i) => 10 ** (Math.ceil(Math.log10(from) - 1e-9) + i));
  for (const y of ticks(low, high)) {
    add(svg, "line", { class: "raster", x1: margin.left, x2: width - margin.right, y1: Y(y), y2: Y(y) });
    add(svg, "text", { x: margin.left - 6, y: Y(y) + 4, "text-anchor": "end" }, short(y));
  }
  for (const x of log ? powers(left, right) : ticks(left, right)) {
    add(svg, "line", { class: "raster", x1: X(x), x2: X(x), y1: margin.top, y2: height - margin.bottom });
    add(svg, "text", { x: X(x), y: height - margin.bottom + 16, "text-anchor": "middle" }, log && x < 0.01 ? x.toExponential(0) : short(x));
  }
  add(svg, "path", { class: "axis", d: `M${margin.left} ${margin.top}V${height - margin.bottom}H${width - margin.right}` });
  add(svg, "text", { x: (margin.left + width - margin.right) / 2, y: height - 8, "text-anchor": "middle" }, xlabel);
  add(svg, "text", { x: 14, y: (height - margin.bottom + margin.top) / 2, transform: `rotate(-90 14 ${(height - margin.bottom + margin.top) / 2})`, "text-anchor": "middle" }, ylabel);
  const names = [];
  for (const { v, xs, ys } of series) {
    const inside = (i) => xs[i] !== null && xs[i] >= left * (1 - 1e-9) && xs[i] <= right * (1 + 1e-9);
    const point = (x, y) => `${X(x).toFixed(1)} ${Y(Math.min(Math.max(y, low), high)).toFixed(1)}`;
    const at = xs.map((x, i) => {
      if (ys[i] === null || x === null) return null;
      if (inside(i)) return point(x, ys[i]);
      if (i && x > right && inside(i - 1) && ys[i - 1] !== null) return point(right, ys[i - 1] + ((right - xs[i - 1]) / (x - xs[i - 1])) * (ys[i] - ys[i - 1]));
      return null;
    });
    if (points) {
      at.forEach((p) => p && drawMark(svg, ...p.split(" ").map(Number), "circle", v, data.variants[v]));
      at.forEach((p) => p && names.push({ x: Number(p.split(" ")[0]), y: Number(p.split(" ")[1]) + 4, text: data.variants[v] }));
    } else {
      const d = at.map((p, i) => (p ? (i && at[i - 1] ? "L" : "M") + p : "")).join("");
      add(svg, "path", { d, fill: "none", stroke: colour(v), "stroke-width": 2, "stroke-dasharray": dash(v) });
    }
  }
  names.sort((a, b) => a.y - b.y).forEach((name, i) => {
    const near = names.slice(0, i).filter((other) => Math.abs(other.x - name.x) < 120);
    name.y = Math.max(name.y, ...near.map((other) => other.y + 13));
    const back = name.x > width * 0.7;
    add(svg, "text", { x: name.x + (back ? -9 : 9), y: name.y, "text-anchor": back ? "end" : "start" }, name.text);
  });
  for (const mark of marks) {
    if (mark.x === null || mark.y === null) continue;
    drawMark(svg, X(Math.min(Math.max(mark.x, left), right)), Y(Math.min(mark.y, high)), mark.shape, mark.v, mark.title);
  }
  const cursor = add(svg, "line", { class: "cursor", y1: margin.top, y2: height - margin.bottom, x1: -9, x2: -9 });
  return { cursor: (x) => ["x1", "x2"].forEach((name) => cursor.setAttribute(name, X(x))), fraction: (x) => (scale(x) - scale(left)) / (scale(right) - scale(left)) };
}
const SHAPES = { oracle: "M0-7L2 -2 7 -2 3 1.5 4.5 7 0 3.5-4.5 7-3 1.5-7-2-2-2Z", deployable: "M-6-5H6L0 6Z", circle: "M-5 0A5 5 0 1 0 5 0A5 5 0 1 0-5 0Z" };
function drawMark(svg, x, y, shape, v, title) {
  const path = add(svg, "path", { d: SHAPES[shape], transform: `translate(${x} ${y})`, fill: colour(v), stroke: "var(--text)", "stroke-width": 0.8 });
  add(path, "title", {}, title);
}
function legend(place, shown, marks = false) {
  const list = add(place, "ul", { class: "legend" });
  for (const v of shown) {
    const li = add(list, "li");
    method(li, v);
    if (marks && data.scaled[v]) li.append(" *");
  }
  if (!marks) return;
  for (const [shape, text] of [["oracle", "oracle threshold (best on the test set)"], ["deployable", "deployable threshold (from held-out normals)"]]) {
    const li = add(list, "li");
    const svg = add(li, "svg", { class: "key", width: 16, height: 16, viewBox: "-8 -8 16 16", "aria-hidden": "true" });
    add(svg, "path", { d: SHAPES[shape], fill: "none", stroke: "currentColor" });
    li.append(text);
  }
  if (data.scaled.some(Boolean)) add(list, "li", {}, "* scaled to 0..1 on the test set");
}
function span(values, margin = 0.08) {
  const some = values.filter((x) => x !== null && Number.isFinite(x));
  if (!some.length) return [0, 1];
  const room = (Math.max(...some) - Math.min(...some) || Math.abs(some[0]) || 1) * margin;
  return [Math.min(...some) - room, Math.max(...some) + room];
}

function cost() {
  const metric = data.metrics[$("cost-quality").value], axis = data.costs[$("cost-axis").value];
  if (!axis) return void $("cost-chart").replaceChildren("No cell has timings.");
  const means = data.overview[0].numbers[metric.name].map((n) => (n.n === n.total && n.mean !== null ? 100 * n.mean : null));
  const xs = axis.values.map((x) => (x > 0 ? x : null));
  const some = xs.filter((x) => x !== null);
  const [low, high] = span(means);
  chart($("cost-chart"), {
    title: `${metric.title} against ${axis.title}`, xlabel: `${axis.title}, logarithmic`, ylabel: `${metric.title} (%)`, points: true, log: true,
    x: some.length ? [Math.min(...some) / 2, Math.max(...some) * 2] : [1, 10], y: [low, high],
    series: data.variants.map((_, v) => ({ v, xs: [xs[v]], ys: [means[v]] })),
  });
}

/* --- pictures ---------------------------------------------------------------------------------------------------------- */

const HEAT = data.heat.map((h) => [1, 3, 5].map((i) => parseInt(h.slice(i, i + 2), 16)));
const decoded = new Map();
/* The pixels of a picture, decoded once. */
function pixels(uri) {
  if (!decoded.has(uri)) {
    decoded.set(uri, (async () => {
      const image = new Image();
      image.src = uri;
      await image.decode();
      const canvas = new OffscreenCanvas(image.width, image.height);
      const context = canvas.getContext("2d", { willReadFrequently: true, colorSpace: "srgb" });
      context.drawImage(image, 0, 0);
      return context.getImageData(0, 0, image.width, image.height);
    })());
  }
  return decoded.get(uri);
}
const rgb = (name) => {
  const probe = add(document.body, "span", { hidden: "" });
  probe.style.color = `var(${name})`;
  const found = getComputedStyle(probe).color.match(/\d+/g).slice(0, 3).map(Number);
  probe.remove();
  return found;
};
function paint(canvas, width, height, of) {
  const image = new ImageData(width, height);
  for (let i = 0; i < width * height; i++) {
    const c = of(i);
    image.data[4 * i] = c[0]; image.data[4 * i + 1] = c[1]; image.data[4 * i + 2] = c[2]; image.data[4 * i + 3] = 255;
  }
  if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
  canvas.getContext("2d").putImageData(image, 0, 0);
}
/* Whether a pixel is the outermost of what `inside` says. */
function outline(inside, width, height) {
  return (i) => {
    if (!inside(i)) return false;
    const x = i % width, y = (i - x) / width;
    return !x || x === width - 1 || !y || y === height - 1 || !inside(i - 1) || !inside(i + 1) || !inside(i - width) || !inside(i + width);
  };
}
const CYAN = [0, 229, 255], WHITE = [255, 255, 255];
async function drawMap(canvas, picture, v, bit) {
  const map = await pixels(picture.pictures.maps[v]);
  const edge = outline((i) => map.data[4 * i + 2] & bit, map.width, map.height);
  const top = data.axes.value.length;
  paint(canvas, map.width, map.height, (i) => (edge(i) ? CYAN : HEAT[Math.round((map.data[4 * i] / top) * (HEAT.length - 1))]));
}
async function drawImage(canvas, picture) {
  const [image, mask] = await Promise.all([pixels(picture.pictures.image), pixels(picture.pictures.mask)]);
  const edge = outline((i) => mask.data[4 * i] > 127, mask.width, mask.height);
  paint(canvas, image.width, image.height, (i) => (edge(i) ? WHITE : [image.data[4 * i], image.data[4 * i + 1], image.data[4 * i + 2]]));
}

/* --- the threshold explorer -------------------------------------------------------------------------------------------- */

const explorer = { category: 0, axis: "value", move: null, canvases: [], colours: null };
/* The numbers of a method at a point of the axis, from its counts: those of the metric suite at that threshold. */
function numbersAt(cell, axis, index) {
  const kept = cell && cell.axes[axis];
  if (!kept) return null;
  const tp = kept.tp[index], fp = kept.fp[index], over = (a, b) => (b ? a / b : null);
  return {
    t: kept.t[index], iou: over(tp, cell.positives + fp), f1: over(2 * tp, tp + fp + cell.positives), precision: over(tp, tp + fp),
    recall: over(tp, cell.positives), fpr: over(fp, cell.negatives), alarms: over(kept.alarms[index], cell.good), alarmed: kept.alarms[index],
  };
}
const NUMBERS = [["t", "threshold", (x) => short(x)], ["iou", "IoU (%)", percent], ["f1", "F1 (%)", percent], ["precision", "precision (%)", percent], ["recall", "recall (%)", percent], ["fpr", "false-positive rate, all normal pixels (%)", (x) => percent(x, 3)]];

function explore() {
  const category = data.categories[explorer.category], grid = data.axes[explorer.axis], slider = $("slider");
  const index = Math.min(Number(slider.value), grid.length - 1), at = grid[index];
  explorer.move.cursor(at);
  const words = explorer.axis === "value" ? `${at.toFixed(3)} on the map's value` : `false-positive rate of at most ${short(100 * at)} % on the pixels of normal images`;
  $("slider-text").textContent = words;
  slider.setAttribute("aria-valuetext", words);
  const rows = category.cells.map((cell, v) => {
    const n = numbersAt(cell, explorer.axis, index);
    const alarms = { name: "alarms", value: n ? n.alarms : null, text: n && n.alarms !== null ? `${(1000 * n.alarms).toFixed(0)} (${n.alarmed}/${cell.good})` : "–" };
    return [named(v), ...NUMBERS.map(([name, , form]) => ({ name, value: n ? n[name] : null, text: n ? form(n[name]) : "–" })), alarms];
  });
  table($("explorer-table"), [{ title: "method" }, ...NUMBERS.map(([, title]) => ({ title })), { title: "normal images with any marked pixel, per 1,000" }], rows, { keep: true });
  explorer.canvases.forEach((draw) => draw(index));
}

async function openExplorer(stay = false) {
  const category = data.categories[explorer.category], grid = data.axes[explorer.axis], log = explorer.axis === "rate";
  const have = category.cells.map((cell, v) => v).filter((v) => category.cells[v] && category.cells[v].axes[explorer.axis]);
  const series = have.map((v) => ({ v, xs: grid, ys: grid.map((_, i) => { const iou = numbersAt(category.cells[v], explorer.axis, i).iou; return iou === null ? null : 100 * iou; }) }));
  const marks = have.flatMap((v) => Object.entries(category.cells[v].marks).map(([shape, m]) => ({ v, shape, x: m.at[explorer.axis], y: m.iou === null ? null : 100 * m.iou, title: `${data.variants[v]}, ${shape} threshold ${short(m.t)}: IoU ${percent(m.iou)} %`, precise: m })));
  const [, high] = span([0, ...series.flatMap((s) => s.ys), ...marks.map((m) => m.y)]);
  explorer.move = chart($("explorer-chart"), {
    title: `IoU over the threshold, ${category.name}`, xlabel: log ? "false-positive rate on pixels of normal images, logarithmic" : "threshold on the map's value", ylabel: "IoU (%)",
    log, x: [grid[0], grid[grid.length - 1]], y: [0, high], series, marks, height: 260,
  });
  legend($("explorer-chart"), have, true);
  const slider = $("slider");
  slider.max = grid.length - 1;
  const strip = $("slider-marks");
  strip.replaceChildren();
  for (const m of marks.filter((m) => m.x !== null)) {
    const inside = Math.min(Math.max(m.x, grid[0]), grid[grid.length - 1]);
    const node = add(strip, "span", { title: m.title }, m.shape === "oracle" ? "★" : "▼");
    node.style.left = `${100 * explorer.move.fraction(inside)}%`;
    node.style.color = colour(m.v);
  }
  const nearest = (x) => grid.reduce((best, g, i) => (Math.abs(explorer.move.fraction(Math.max(g, 1e-12)) - explorer.move.fraction(Math.max(x, 1e-12))) < Math.abs(explorer.move.fraction(Math.max(grid[best], 1e-12)) - explorer.move.fraction(Math.max(x, 1e-12))) ? i : best), 0);
  options($("explorer-marks"), ["a threshold of a method", ...marks.map((m) => `${data.variants[m.v]}: ${m.shape}`)], ["", ...marks.map((m) => (m.x === null ? "" : nearest(Math.min(Math.max(m.x, grid[0]), grid[grid.length - 1]))))]);
  const before = Number(slider.value);
  const first = marks.find((m) => m.shape === "oracle" && m.x !== null);
  slider.value = stay ? before : first ? nearest(Math.min(Math.max(first.x, grid[0]), grid[grid.length - 1])) : Math.floor(grid.length / 2);
  $("explorer-note").textContent = `${data.seeds.length > 1 ? `Seed ${category.seed}. ` : ""}The slider stands on kept points of the axis; thresholds of methods lie between them, or beyond its ends; Decisions has their exact numbers.${log ? " The thresholds of this axis are taken on the normal test images: to compare methods, not to deploy." : ""}`;
  await drawExplorerImages(category);
  explore();
}

async function drawExplorerImages(category) {
  const place = $("explorer-images");
  const chosen = category.images.slice(0, Number($("explorer-number").value)), wanted = `${explorer.category} ${explorer.axis} ${chosen.length}`;
  explorer.canvases = [];
  explorer.wanted = wanted;
  place.replaceChildren();
  place.style.gridTemplateColumns = `9rem 112px repeat(${data.variants.length}, 112px)`;
  for (const text of ["", "image and defect", ...data.variants]) add(place, "div", { class: "head" }, text);
  const [hit, wrong, missed] = ["--hit", "--false", "--missed"].map(rgb);
  const top = data.axes.rate.length;
  const tasks = [];
  for (const picture of chosen) {
    add(place, "div", { class: "label" }, `${picture.defect}: ${picture.name}`);
    tasks.push(drawImage(add(place, "canvas", { role: "img", "aria-label": `${picture.name} with the outline of its defect` }), picture));
    for (const v of data.variants.keys()) {
      if (!picture.pictures.maps[v]) { add(place, "div", { class: "empty" }, "no map"); continue; }
      const canvas = add(place, "canvas", { role: "img", "aria-label": `mask of ${data.variants[v]} on ${picture.name}`, "data-variant": v, "data-image": picture.name });
      tasks.push(Promise.all([pixels(picture.pictures.maps[v]), pixels(picture.pictures.mask)]).then(([map, mask]) => {
        if (wanted !== explorer.wanted) return;
        const channel = explorer.axis === "value" ? 0 : 1;
        explorer.canvases.push((index) => {
          let positives = 0;
          const need = channel ? top - index : index + 1;
          paint(canvas, map.width, map.height, (i) => {
            const positive = map.data[4 * i + channel] >= need, defective = mask.data[4 * i] > 127;
            positives += positive;
            return positive ? (defective ? hit : wrong) : defective ? missed : [0, 0, 0];
          });
          canvas.dataset.positives = positives;
        });
      }));
    }
  }
  await Promise.all(tasks);
}

/* --- gallery ----------------------------------------------------------------------------------------------------------- */

function galleryPictures() {
  const which = $("gallery-category").value, v = Number($("gallery-method").value), defect = $("gallery-defect").value;
  const categories = which === "all" ? data.categories : [data.categories[which]];
  const found = categories.flatMap((c) => c.images.map((picture) => ({ picture, category: c.name })));
  const wanted = found.filter((f) => defect === "all" || f.picture.defect === defect);
  const worst = ({ picture: p }) => (p.defect === data.good ? [1, -(p.score[v] ?? -Infinity)] : [0, p.iou[v] ?? Infinity]);
  return wanted.sort((a, b) => worst(a)[0] - worst(b)[0] || worst(a)[1] - worst(b)[1]);
}
function panels(place, picture) {
  const box = add(place, "span", { class: "panels" });
  const bit = Number($("gallery-line").value);
  const panel = (label, text, draw) => {
    const one = add(box, "span", { class: "panel" });
    draw(add(one, "canvas", { role: "img", "aria-label": label }));
    one.append(text);
  };
  panel(`${picture.name} with the outline of its defect`, "image", (canvas) => drawImage(canvas, picture));
  panel(`mask of ${picture.name}`, "mask", async (canvas) => { const m = await pixels(picture.pictures.mask); paint(canvas, m.width, m.height, (i) => [m.data[4 * i], m.data[4 * i], m.data[4 * i]]); });
  for (const v of data.variants.keys()) {
    if (!picture.pictures.maps[v]) continue;
    const text = picture.iou[v] === null ? "" : `, ${bit === 64 ? "" : "oracle "}IoU ${percent(picture.iou[v], 0)}`;
    panel(`map of ${data.variants[v]} on ${picture.name}`, `${data.variants[v]}${text}`, (canvas) => drawMap(canvas, picture, v, bit));
  }
}
const seen = "IntersectionObserver" in window ? new IntersectionObserver((entries) => entries.forEach((e) => { if (e.isIntersecting) { seen.unobserve(e.target); e.target.draw(); } }), { rootMargin: "600px" }) : null;
function gallery() {
  const cards = $("gallery-cards"), found = galleryPictures();
  cards.replaceChildren();
  found.forEach(({ picture, category }) => {
    const card = add(cards, "div", { class: "card", "data-defect": picture.defect, "data-image": picture.name, onclick: () => enlarge(picture, category) });
    add(card, "button", { type: "button", title: "enlarge", class: "about" }, `${category}, ${picture.defect}: ${picture.name}`); // its click is the card's
    card.draw = () => panels(card, picture);
    if (seen && found.length > 60) seen.observe(card); else card.draw(); // a few at once, so that they are there in print
  });
  const total = data.categories.reduce((n, c) => n + c.images.length, 0);
  $("gallery-count").textContent = `${found.length} of the ${total} images in this page.`;
}
function galleryDefects() {
  const which = $("gallery-category").value, select = $("gallery-defect"), before = select.value;
  const categories = which === "all" ? data.categories : [data.categories[which]];
  const names = [...new Set(categories.flatMap((c) => c.images.map((p) => p.defect)))];
  options(select, ["all", ...names], ["all", ...names]);
  if (names.includes(before)) select.value = before;
}
function enlarge(picture, category) {
  const place = $("large-content");
  place.replaceChildren();
  add(place, "h2", {}, `${category}, ${picture.defect}: ${picture.name}`);
  panels(place, picture);
  $("large").showModal();
}

/* --- curves, defect types, provenance ---------------------------------------------------------------------------------- */

const CURVES = [
  ["iou", "IoU over the map's value", "threshold on the map's value", "IoU (%)", "value", [0, 1], false, null],
  ["iou_fpr", "IoU over the false-positive rate", "false-positive rate on normal images, logarithmic", "IoU (%)", "rate", [1e-5, 0.1], true, null],
  ["roc", "ROC", "false-positive rate of pixels, logarithmic", "true-positive rate (%)", "roc", [1e-4, 1], true, 100],
  ["pro", "PRO", "false-positive rate of pixels", "per-region overlap (%)", "pro", [0, 0.3], false, 100],
  ["precision", "Precision and recall", "recall of pixels", "precision (%)", "precision", [0, 1], false, 100],
];
function curves() {
  const which = $("curves-category").value, place = $("curve-charts");
  const categories = which === "all" ? data.categories : [data.categories[which]];
  place.replaceChildren();
  $("curves-legend").replaceChildren();
  legend($("curves-legend"), [...data.variants.keys()]);
  for (const [name, title, xlabel, ylabel, axis, x, log, high] of CURVES) {
    const xs = data.axes[axis];
    const series = data.variants.map((_, v) => {
      const all = categories.map((c) => c.curves[name] && c.curves[name][v]);
      return all.every(Boolean) ? { v, xs, ys: xs.map((_, i) => (100 * all.reduce((sum, ys) => sum + ys[i], 0)) / all.length) } : null;
    }).filter(Boolean);
    if (series.length) chart(add(place, "div"), { title, xlabel, ylabel, series, x, log, y: [0, high ?? span([0, ...series.flatMap((s) => s.ys)])[1]] });
  }
  if (which !== "all") {
    const series = categories[0].cells.map((cell, v) => cell && cell.training.length ? { v, xs: cell.training.map((p) => p[0] / cell.training[cell.training.length - 1][0]), ys: cell.training.map((p) => p[1]) } : null).filter(Boolean);
    const some = series.map((s) => ({ ...s, ys: s.ys.map((y) => y / (s.ys.find((first) => first) || 1)) }));
    if (some.length) chart(add(place, "div"), { title: "Training", xlabel: "share of the training", ylabel: "loss, divided by its first value", series: some, x: [0, 1], y: [0, Math.max(...span([0, ...some.flatMap((s) => s.ys)]))] });
  }
  $("curves-note").textContent = `${which === "all" ? "Means over categories; a method that lacks one has no curve. Choose a category for training curves. " : ""}${data.seeds.length > 1 ? "Means over seeds." : ""}`;
}

function defects() {
  const category = data.categories[$("defects-category").value], metric = $("defects-metric").value;
  const rows = category.defects.map((d) => {
    const cells = numberCells(d.numbers[metric], metric);
    return [{ value: d.name, text: d.name }, { value: d.images, text: String(d.images) }, ...cells];
  });
  table($("defects-table"), [{ title: "defect type" }, { title: "images" }, ...data.variants.map((title) => ({ title }))], rows);
}

function provenance() {
  const columns = [["variant", "method"], ["category", "category"], ["seed", "seed"], ["status", "status"], ["commit", "commit"], ["device", "device"], ["threads", "threads"], ["concurrency", "cells at once"], ["train_s", "training (s)"], ["content", "content of the images"], ["config", "configuration"], ["versions", "versions"]];
  const text = (cell, name) => {
    if (name === "status" && cell.error) return `${cell.status}: ${cell.error}`;
    if (name === "commit" && cell.maps) return `maps of ${cell.maps}`;
    const value = cell[name];
    return value === null || value === undefined ? "–" : typeof value === "number" ? short(value) : value;
  };
  table($("provenance-table"), columns.map(([, title]) => ({ title })), data.cells.map((cell) => columns.map(([name]) => ({ value: typeof cell[name] === "number" ? cell[name] : undefined, text: text(cell, name), long: ["config", "versions"].includes(name) || (name === "status" && cell.error) }))));
}

/* What is known of the images; nothing, where the run is of scored maps or of an older version. */
function images() {
  const known = data.images;
  if (!known) {
    add($("images-notes"), "li", {}, "Nothing is kept of the images: the run is of scored maps, or of an older version.");
    for (const id of ["images-details", "images-said"]) $(id).remove();
    return;
  }
  const rows = (t) => t.rows.map((cells) => cells.map(({ text, bold }) => ({ value: text, text, best: bold })));
  const headings = (t) => t.header.map((title) => ({ title }));
  const [first, ...others] = known.tables;
  if (first) table($("images-table"), headings(first), rows(first));
  known.findings.forEach((f) => {
    const li = add($("images-findings"), "li", { class: f.wrong ? "wrong" : "" }, `${f.text} `);
    add(li, "span", { class: "note" }, `To do: ${f.advice}.`);
  });
  known.notes.forEach((note) => add($("images-notes"), "li", {}, note));
  for (const t of others) {
    add($("images-details"), "h3", {}, t.title);
    table(add(add($("images-details"), "div", { class: "scroll", tabindex: 0, role: "region", "aria-label": t.title }), "table"), headings(t), rows(t));
    t.notes.forEach((note) => add($("images-details"), "p", { class: "note" }, note));
  }
  if (!others.length) $("images-details").remove();
  if (known.said) add($("images-said"), "div", { class: "said note" }, known.said); else $("images-said").remove();
}

/* --- start ------------------------------------------------------------------------------------------------------------- */

function start() {
  options($("overview-category"), data.overview.map((o) => o.category || `mean over ${data.categories.length} categories`));
  options($("decisions-category"), data.overview.map((o) => o.category || `mean over ${data.categories.length} categories`));
  options($("cost-quality"), data.metrics.map((m) => m.title));
  options($("cost-axis"), data.costs.map((c) => c.title));
  options($("explorer-category"), categoryNames);
  options($("gallery-category"), [...categoryNames, ...(categoryNames.length > 1 ? ["all"] : [])], [...categoryNames.keys(), "all"]);
  options($("gallery-method"), data.variants);
  options($("curves-category"), [...(categoryNames.length > 1 ? ["mean over categories"] : []), ...categoryNames], [...(categoryNames.length > 1 ? ["all"] : []), ...categoryNames.keys()]);
  options($("defects-category"), categoryNames);
  const titles = { pixel_auroc: "Pixel AUROC", "aupro_0.3": "AUPRO@0.3", image_auroc: "Image AUROC", recall_deployable: "recall of pixels at the deployable threshold" };
  options($("defects-metric"), Object.values(titles), Object.keys(titles));
  const listen = (ids, act) => ids.forEach((id) => $(id).addEventListener("change", act));
  listen(["overview-category"], overview);
  listen(["decisions-category", "decisions-threshold"], decisions);
  listen(["cost-quality", "cost-axis"], cost);
  listen(["explorer-category"], () => { explorer.category = Number($("explorer-category").value); openExplorer(); });
  document.querySelectorAll("input[name=axis]").forEach((radio) => radio.addEventListener("change", () => { explorer.axis = radio.value; openExplorer(); }));
  listen(["explorer-marks"], () => { if ($("explorer-marks").value !== "") { $("slider").value = $("explorer-marks").value; explore(); } });
  $("slider").addEventListener("input", () => { $("explorer-marks").value = ""; explore(); });
  listen(["gallery-category"], () => { galleryDefects(); gallery(); });
  listen(["gallery-defect", "gallery-method", "gallery-line"], gallery);
  listen(["curves-category"], curves);
  listen(["defects-category", "defects-metric"], defects);
  listen(["explorer-number"], async () => { await drawExplorerImages(data.categories[explorer.category]); explore(); });
  let width = innerWidth, later = 0;
  addEventListener("resize", () => {
    clearTimeout(later);
    later = setTimeout(() => { if (innerWidth !== width) { width = innerWidth; cost(); curves(); openExplorer(true); } }, 200);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => openExplorer(true));
  data.notes.forEach((note) => add($("overview-notes"), "li", {}, note));
  images(); overview(); decisions(); ranks(); cost(); galleryDefects(); gallery(); curves(); defects(); provenance();
  return openExplorer();
}
start().then(() => (document.body.dataset.ready = "true"));
