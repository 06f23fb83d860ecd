
/* --- charts ------------------------------------------------------------------------------------------------------------ */

const MARGIN = { left: 52, right: 14, top: 10, bottom: 44 };
const EDGE = 0.0025; // where 0 and 1 stand on a logit axis: half of a step of the kept thresholds
const logit = (x) => { const inside = Math.min(Math.max(x, EDGE), 1 - EDGE); return Math.log(inside / (1 - inside)); };
const SCALES = { linear: (x) => x, log: (x) => Math.log10(Math.max(x, 1e-12)), logit };
const TICKS = {
  linear: (from, to) => {
    const raw = (to - from) / 5, power = 10 ** Math.floor(Math.log10(raw)), step = [1, 2, 5, 10].find((s) => s * power >= raw) * power;
    return Array.from({ length: Math.floor(to / step + 1e-9) - Math.ceil(from / step - 1e-9) + 1 }, (_, i) => (Math.ceil(from / step - 1e-9) + i) * step);
  },
  log: (from, to) => {
    const first = Math.floor(Math.log10(from)), tens = Array.from({ length: Math.ceil(Math.log10(to)) - first + 1 }, (_, i) => 10 ** (first + i));
    const digits = to / from < 500 ? [1, 2, 5] : [1];
    return tens.flatMap((ten) => digits.map((d) => d * ten)).filter((x) => x >= from * (1 - 1e-9) && x <= to * (1 + 1e-9));
  },
  logit: () => [0, 0.01, 0.03, 0.1, 0.3, 0.5, 0.7, 0.9, 0.97, 0.99, 1],
};
/* Lines over an axis. series: [{v, xs, ys}]; marks: [{v, x, y, shape, title}]. Values are read by pointer or arrow keys. */
function chart(place, { title, xlabel, ylabel, series, marks = [], scale: kind = "linear", x: [left, right], y: [low, high], height = 300, points = false, yform = (y) => rounded(y, 1) }) {
  place.replaceChildren();
  const figure = add(place, "figure");
  add(figure, "figcaption", {}, title);
  const width = Math.min(Math.max(place.clientWidth || 560, 300), 1200), margin = MARGIN, scale = SCALES[kind];
  const svg = add(figure, "svg", { class: "chart", viewBox: `0 0 ${width} ${height}`, width, height });
  const fraction = (x) => (scale(x) - scale(left)) / (scale(right) - scale(left));
  const X = (x) => margin.left + fraction(x) * (width - margin.left - margin.right);
  const Y = (y) => height - margin.bottom - ((y - low) / (high - low)) * (height - margin.top - margin.bottom);
  for (const y of TICKS.linear(low, high)) {
    add(svg, "line", { class: "raster", x1: margin.left, x2: width - margin.right, y1: Y(y), y2: Y(y) });
    add(svg, "text", { x: margin.left - 6, y: Y(y) + 4, "text-anchor": "end" }, short(y));
  }
  for (const x of TICKS[kind](left, right)) {
    add(svg, "line", { class: "raster", x1: X(x), x2: X(x), y1: margin.top, y2: height - margin.bottom });
    add(svg, "text", { x: X(x), y: height - margin.bottom + 16, "text-anchor": "middle" }, kind === "log" && x < 0.01 ? x.toExponential(0).replace("-", "−") : short(x));
  }
  add(svg, "path", { class: "axis", d: `M${margin.left} ${margin.top}V${height - margin.bottom}H${width - margin.right}` });
  add(svg, "text", { x: (margin.left + width - margin.right) / 2, y: height - 8, "text-anchor": "middle" }, xlabel);
  add(svg, "text", { x: 14, y: (height - margin.bottom + margin.top) / 2, transform: `rotate(-90 14 ${(height - margin.bottom + margin.top) / 2})`, "text-anchor": "middle" }, ylabel);
  const names = [];
  for (const { v, xs, ys, thin } of series) {
    const inside = (i) => xs[i] !== null && xs[i] >= left * (1 - 1e-9) && xs[i] <= right * (1 + 1e-9);
    const place = (x, y) => [X(x), Y(Math.min(Math.max(y, low), high))];
    const at = xs.map((x, i) => {
      if (ys[i] === null || x === null) return null;
      if (inside(i)) return place(x, ys[i]);
      if (i && x > right && inside(i - 1) && ys[i - 1] !== null) return place(right, ys[i - 1] + ((right - xs[i - 1]) / (x - xs[i - 1])) * (ys[i] - ys[i - 1]));
      return null;
    });
    if (points) {
      for (const p of at) if (p) { drawMark(svg, ...p, "circle", v, data.variants[v]); names.push({ x: p[0], y: p[1] + 4, text: data.variants[v] }); }
    } else {
      const to = (p, i) => `${i && at[i - 1] ? "L" : "M"}${p[0].toFixed(1)} ${p[1].toFixed(1)}`;
      add(svg, "path", { d: at.map((p, i) => (p ? to(p, i) : "")).join(""), fill: "none", stroke: colour(v), "stroke-width": thin ? 1 : 2, "stroke-dasharray": dash(v), "data-variant": v });
    }
  }
  names.sort((a, b) => a.y - b.y).forEach((name, i) => {
    const back = name.x > width * 0.7, at = name.x + (back ? -9 : 9), node = add(svg, "text", { x: at, "text-anchor": back ? "end" : "start" }, name.text);
    const long = node.getComputedTextLength();
    [name.from, name.to] = back ? [at - long, at] : [at, at + long];
    const near = names.slice(0, i).filter((other) => other.from < name.to + 4 && name.from < other.to + 4);
    name.y = Math.max(name.y, ...near.map((other) => other.y + 13));
    node.setAttribute("y", name.y);
  });
  for (const mark of marks) {
    if (mark.x === null || mark.y === null) continue;
    drawMark(svg, X(Math.min(Math.max(mark.x, left), right)), Y(Math.min(mark.y, high)), mark.shape, mark.v, mark.title);
  }
  const cursor = add(svg, "line", { class: "cursor", y1: margin.top, y2: height - margin.bottom, x1: -9, x2: -9 });
  if (series.length) reading({ figure, svg, title, xlabel, ylabel, series, X, Y, width, left, right, low, high, points, yform });
  return { cursor: (x) => ["x1", "x2"].forEach((name) => cursor.setAttribute(name, X(x))), fraction };
}
/* The values of every curve at its point nearest to the pointer, or to where the arrow keys went. */
function reading({ figure, svg, title, xlabel, ylabel, series, X, Y, width, left, right, low, high, points, yform }) {
  const box = add(figure, "div", { class: "values", hidden: "" });
  const line = add(svg, "line", { class: "pointer", y1: MARGIN.top, y2: svg.viewBox.baseVal.height - MARGIN.bottom, x1: -9, x2: -9 });
  const dots = series.map(({ v }) => add(svg, "circle", { r: 4, cx: -9, cy: -9, fill: colour(v), stroke: "var(--ground)" }));
  const usable = series.map(({ xs, ys }) => xs.map((_, i) => i).filter((i) => xs[i] !== null && ys[i] !== null && xs[i] >= left * (1 - 1e-9) && xs[i] <= right * (1 + 1e-9)));
  const stops = [...new Set(series.flatMap(({ xs }, s) => usable[s].map((i) => xs[i])))].sort((a, b) => a - b);
  const nearest = (s, px) => usable[s].reduce((best, i) => (best === null || Math.abs(X(series[s].xs[i]) - px) < Math.abs(X(series[s].xs[best]) - px) ? i : best), null);
  Object.entries({ tabindex: 0, role: "slider", "aria-label": `${title}: ${ylabel} over ${xlabel}`, "aria-valuemin": 0, "aria-valuemax": Math.max(0, stops.length - 1), "aria-valuenow": 0, "aria-valuetext": "arrow keys read the values" }).forEach(([name, value]) => svg.setAttribute(name, value));
  let stop = 0;
  function show(px, py = null) {
    let found = series.map((_, s) => ({ s, i: nearest(s, px) })).filter(({ i }) => i !== null);
    if (points && found.length) {
      const far = ({ s, i }) => Math.hypot(X(series[s].xs[i]) - px, py === null ? 0 : Y(series[s].ys[i]) - py);
      found = [found.reduce((a, b) => (far(b) < far(a) ? b : a))];
    }
    if (!found.length) return;
    box.replaceChildren();
    const lead = found.reduce((a, b) => (Math.abs(X(series[b.s].xs[b.i]) - px) < Math.abs(X(series[a.s].xs[a.i]) - px) ? b : a));
    const at = series[lead.s].xs[lead.i], place = X(at);
    const same = found.every(({ s, i }) => series[s].xs[i] === at);
    if (same) add(box, "div", { class: "at" }, short(at));
    for (const { s, i } of [...found].sort((a, b) => series[b.s].ys[b.i] - series[a.s].ys[a.i])) {
      const row = add(box, "div");
      method(row, series[s].v);
      row.append(`: ${yform(series[s].ys[i])}${same ? "" : ` at ${short(series[s].xs[i])}`}`);
    }
    dots.forEach((dot) => dot.setAttribute("cx", -9));
    for (const { s, i } of found) { dots[s].setAttribute("cx", X(series[s].xs[i])); dots[s].setAttribute("cy", Y(Math.min(Math.max(series[s].ys[i], low), high))); }
    for (const name of ["x1", "x2"]) line.setAttribute(name, points ? -9 : place);
    box.hidden = false;
    const drawn = svg.getBoundingClientRect().width / width;
    box.style.left = place > width / 2 ? "auto" : `${(place + 12) * drawn}px`;
    box.style.right = place > width / 2 ? `${figure.clientWidth - (place - 12) * drawn}px` : "auto";
    stop = Math.max(0, stops.indexOf(at));
    svg.setAttribute("aria-valuenow", stop);
    svg.setAttribute("aria-valuetext", [...box.children].map((row) => row.textContent).join("; "));
  }
  function hide() {
    box.hidden = true;
    for (const mark of [line, ...dots]) for (const name of mark === line ? ["x1", "x2"] : ["cx"]) mark.setAttribute(name, -9);
  }
  svg.addEventListener("pointermove", (event) => {
    const frame = svg.getBoundingClientRect();
    show(((event.clientX - frame.left) / frame.width) * width, ((event.clientY - frame.top) / frame.width) * width);
  });
  svg.addEventListener("pointerleave", hide);
  svg.addEventListener("blur", hide);
  svg.addEventListener("keydown", (event) => {
    const to = { ArrowRight: stop + 1, ArrowUp: stop + 1, ArrowLeft: stop - 1, ArrowDown: stop - 1, PageUp: stop + 10, PageDown: stop - 10, Home: 0, End: stops.length - 1 }[event.key];
    if (event.key === "Escape") hide();
    if (to === undefined || !stops.length) return;
    event.preventDefault();
    const next = box.hidden && !["Home", "End"].includes(event.key) ? stop : Math.min(Math.max(to, 0), stops.length - 1);
    show(X(stops[next]));
    stop = next;
  });
}
const SHAPES = { oracle: "M0-7L2 -2 7 -2 3 1.5 4.5 7 0 3.5-4.5 7-3 1.5-7-2-2-2Z", deployable: "M-6-5H6L0 6Z", circle: "M-5 0A5 5 0 1 0 5 0A5 5 0 1 0-5 0Z" };
function drawMark(svg, x, y, shape, v, title) {
  const path = add(svg, "path", { d: SHAPES[shape], transform: `translate(${x} ${y})`, fill: colour(v), stroke: "var(--text)", "stroke-width": 0.8 });
  add(path, "title", {}, title);
}
function legend(place, of, marks = false) {
  const list = add(place, "ul", { class: "legend" });
  for (const v of of) {
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
  $("cost-title").textContent = `Quality against cost${categoryNames.length > 1 ? ", means over categories" : ""}`;
  const metric = data.metrics.find((m) => m.name === $("cost-quality").value), by = data.costs.find((c) => c.title === $("cost-axis").value);
  $("cost-note").textContent = "";
  if (!by) return void $("cost-chart").replaceChildren("No cell has timings.");
  const means = data.overview[0].numbers[metric.name].map((n) => (n.n === n.total && n.mean !== null ? 100 * n.mean : null));
  const xs = by.values.map((x) => (x > 0 ? x : null));
  const why = (v) => (means[v] === null ? "lacks a category" : !known(by.values[v]) ? "not measured" : by.values[v] > 0 ? "" : "0, which this axis does not have");
  const left = shown().map((v) => [data.variants[v], why(v)]).filter(([, reason]) => reason);
  if (left.length) $("cost-note").textContent = `Not drawn: ${left.map(([name, reason]) => `${name} (${reason})`).join(", ")}.`;
  const some = shown().map((v) => xs[v]).filter((x) => x !== null);
  const [low, high] = span(shown().map((v) => means[v]));
  chart($("cost-chart"), {
    title: `${metric.title} against ${by.title}`, xlabel: `${by.title}, logarithmic`, ylabel: `${metric.title} (%)`, points: true, scale: "log",
    x: some.length ? [Math.min(...some) / 2, Math.max(...some) * 2] : [1, 10], y: [low, high],
    series: shown().map((v) => ({ v, xs: [xs[v]], ys: [means[v]] })),
  });
}

const CURVES = [
  ["iou", "IoU over the map's value", "threshold on the map's value", "IoU (%)", "value", [0, 1], "linear", null],
  ["iou_fpr", "IoU over the false-positive rate", "false-positive rate on normal images, logarithmic", "IoU (%)", "rate", [1e-5, 0.1], "log", null],
  ["roc", "ROC", "false-positive rate of pixels, logarithmic", "true-positive rate (%)", "roc", [1e-4, 1], "log", 100],
  ["pro", "PRO", "false-positive rate of pixels", "per-region overlap (%)", "pro", [0, 0.3], "linear", 100],
  ["precision", "Precision and recall", "recall of pixels", "precision (%)", "precision", [0, 1], "linear", 100],
];
sections.set("curves", () => {
  const place = $("curve-charts"), categories = several();
  place.replaceChildren();
  $("curves-legend").replaceChildren();
  legend($("curves-legend"), shown());
  for (const [name, title, xlabel, ylabel, axis, x, kind, high] of CURVES) {
    const xs = data.axes[axis], scale = axis === "value" ? $("value-scale").value : kind;
    const series = shown().map((v) => {
      const all = categories.map((c) => c.curves[name] && c.curves[name][v]);
      return all.length && all.every(Boolean) ? { v, xs, ys: xs.map((_, i) => (100 * all.reduce((sum, ys) => sum + ys[i], 0)) / all.length) } : null;
    }).filter(Boolean);
    if (series.length) chart(add(place, "div"), { title, xlabel, ylabel, series, x, scale, y: [0, high ?? span([0, ...series.flatMap((s) => s.ys)])[1]] });
  }
  if (categories.length === 1) {
    const cells = categories[0].cells;
    const series = shown().map((v) => (cells[v]?.training.length ? { v, xs: cells[v].training.map((p) => p[0] / cells[v].training.at(-1)[0]), ys: cells[v].training.map((p) => p[1]) } : null)).filter(Boolean);
    const some = series.map((s) => ({ ...s, ys: s.ys.map((y) => y / (s.ys.find((first) => first) || 1)) }));
    if (some.length) chart(add(place, "div"), { title: "Training", xlabel: "share of the training", ylabel: "loss, divided by its first value", series: some, x: [0, 1], y: [0, Math.max(...span([0, ...some.flatMap((s) => s.ys)]))], yform: short });
  }
  $("curves-note").textContent = `${categories.length > 1 ? "Means over categories; a method that lacks one has no curve. Choose a category for training curves. " : ""}${data.seeds.length > 1 ? "Means over seeds." : ""}`;
});
