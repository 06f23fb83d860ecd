
/* --- images: found, missed, falsely called ----------------------------------------------------------------------------- */

const Z = 1.959963984540054;
/* Wilson's interval of k of n. */
function wilson(k, n) {
  if (!n) return [null, null];
  const middle = (k + (Z * Z) / 2) / (n + Z * Z), half = (Z / (n + Z * Z)) * Math.sqrt((k * (n - k)) / n + (Z * Z) / 4);
  return [k === 0 ? 0 : middle - half, k === n ? 1 : middle + half];
}
/* At each threshold of a method (its levels, ascending, and one above all): defective and normal images that reach it. */
const counted = new Map();
function countsOf(category, v) {
  const scores = category.cells[v]?.scores;
  if (!scores) return null;
  if (!counted.has(scores)) {
    const tp = new Array(scores.levels.length + 1).fill(0), fp = [...tp];
    scores.rank.forEach((rank, i) => { (category.kinds[i] === data.good ? fp : tp)[rank]++; });
    for (let k = tp.length - 2; k >= 0; k--) { tp[k] += tp[k + 1]; fp[k] += fp[k + 1]; }
    counted.set(scores, { scores, tp, fp, defective: tp[0], normal: fp[0], levels: scores.levels });
  }
  return counted.get(scores);
}
const levelText = (counts, k) => (k < counts.levels.length ? exactly(counts.levels[k]) : "above all scores");
/* The place of the slider: a threshold by name, or the level nearest to a value. */
function imagePoint(counts) {
  const { marks } = counts.scores, named = marks[places.image];
  if (known(named)) return [named, places.image];
  if (places.image === "none") return [counts.levels.length, ""];
  if (Number.isFinite(parseFloat(places.image))) {
    const to = Number(places.image);
    return [counts.levels.reduce((best, x, k) => (Math.abs(x - to) < Math.abs(counts.levels[best] - to) ? k : best), 0), ""];
  }
  const [which] = Object.keys(marks);
  return which ? [marks[which], which] : [Math.floor(counts.levels.length / 2), ""];
}
const groupsOf = (category) => [...new Set(category.kinds)].sort((a, b) => (a === data.good) - (b === data.good));

sections.set("detection", () => {
  const category = single(), with_ = shown().filter((v) => category && countsOf(category, v));
  options($("detection-method"), with_.map((v) => data.variants[v]), with_);
  for (const id of ["detection-goto", "detection-histogram", "detection-roc", "missed", "called"]) $(id).replaceChildren();
  $("detection-slider").disabled = !with_.length;
  if (!with_.length) {
    for (const id of ["detection-table", "confusion-table"]) table($(id), [], []);
    return void ($("detection-text").textContent = "No image scores are kept of the shown methods.");
  }
  const v = Number($("detection-method").value), counts = countsOf(category, v);
  $("detection-slider").max = counts.levels.length;
  for (const which of ["deployable", "oracle"]) {
    const k = counts.scores.marks[which];
    add($("detection-goto"), "button", { type: "button", "data-which": which, disabled: known(k) ? null : "", onclick: () => moveImage(which) }, known(k) ? `Go to ${which}: ${levelText(counts, k)}` : `no ${which} threshold`);
    $("detection-goto").append(" ");
  }
  $("detection-note").textContent = `${seedNote()}Every step of the slider is one score.${counts.scores.held_out.length ? "" : " No scores of held-out normal images are kept."}`;
  const curve = ({ tp, fp, defective, normal }) => ({ xs: [...fp].reverse().map((n) => (normal ? n / normal : null)), ys: [...tp].reverse().map((n) => (defective ? (100 * n) / defective : null)) });
  const marks = Object.entries(counts.scores.marks).map(([which, k]) => ({ v, shape: which, x: counts.fp[k] / counts.normal, y: (100 * counts.tp[k]) / counts.defective, title: `${data.variants[v]}, ${which} threshold` }));
  if (counts.defective && counts.normal) {
    chart($("detection-roc"), { title: "ROC of images", xlabel: "false alarms (share of normal images)", ylabel: "detection rate (%)", x: [0, 1], y: [0, 100], height: 280, marks, series: with_.map((w) => ({ v: w, thin: w !== v, ...curve(countsOf(category, w)) })) });
    legend($("detection-roc"), with_);
    add($("detection-roc").querySelector("svg.chart"), "circle", { id: "detection-point", r: 6, fill: "none", stroke: "var(--text)", "stroke-width": 2 });
  }
  histogram(category, v, counts);
  detect();
});
/* One row of bars for each kind of images, over the score; which are above the threshold is shown by colour. */
const shape = { bars: [], line: null, X: null, row: 30 };
function histogram(category, v, counts) {
  const place = $("detection-histogram"), even = $("detection-axis").value === "order", bins = Math.min(40, even ? counts.levels.length : 40), { row } = shape, left = 130, right = 8, levels = counts.levels.filter(known), held = counts.scores.held_out.filter(([x]) => known(x));
  const figure = add(place, "figure");
  add(figure, "figcaption", {}, `Image scores of ${data.variants[v]} on ${category.name}`);
  const at = ([x, rank]) => (even ? rank : x), ends = [...levels, ...held.map(([x]) => x)], [low, high] = even ? [0, counts.levels.length] : [Math.min(...ends), Math.max(...ends)], width = Math.min(Math.max(place.clientWidth || 480, 300), 700);
  const inner = width - left - right, X = (x) => left + ((x - low) / (high - low || 1)) * inner;
  const rows = groupsOf(category).map((name) => [name === data.good ? "normal" : name, name !== data.good, counts.scores.rank.filter((_, i) => category.kinds[i] === name).map((rank) => [counts.levels[rank], rank])]);
  if (held.length) rows.push(["held-out", false, held]);
  const height = rows.length * row + 40;
  const svg = add(figure, "svg", { class: "chart", viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": `Histograms of the image scores: ${rows.map(([name, , all]) => `${all.length} ${name}`).join(", ")}` });
  shape.bars = [];
  rows.forEach(([name, defective, all], r) => {
    const bottom = (r + 1) * row, tally = new Map();
    for (const one of all) {
      if (!known(one[0])) continue;
      const bin = Math.min(bins - 1, Math.max(0, Math.floor(((at(one) - low) / (high - low || 1)) * bins))); // in order, held-out scores may lie below all
      if (!tally.has(bin)) tally.set(bin, []);
      tally.get(bin).push(one[1]);
    }
    const most = Math.max(1, ...[...tally.values()].map((of) => of.length));
    add(svg, "line", { class: "raster", x1: left, x2: width - right, y1: bottom, y2: bottom });
    for (const [bin, of] of tally) {
      const rect = (part) => add(svg, "rect", { class: part });
      shape.bars.push({ below: rect(`bar below ${defective ? "missed" : "quiet"}`), above: rect(`bar above ${defective ? "hit" : "wrong"}`), of, bottom, most, x: left + (bin / bins) * inner, width: inner / bins - 1 });
    }
    const label = add(svg, "text", { x: left - 8, y: bottom - 8, "text-anchor": "end" }, `${name.length > 14 ? `${name.slice(0, 13)}…` : name} (${all.length})`);
    add(label, "title", {}, `${name} (${all.length})`);
  });
  for (const [x, anchor] of [[low, "start"], [high, "end"]]) add(svg, "text", { x: X(x), y: height - 24, "text-anchor": anchor }, short(even ? (x ? levels.at(-1) : levels[0]) : x));
  add(svg, "text", { x: left + inner / 2, y: height - 6, "text-anchor": "middle" }, `${even ? "image scores in order, each with the same room" : "image score"}; coloured: rejected`);
  shape.line = add(svg, "line", { class: "cursor strong", y1: 0, y2: rows.length * row, x1: -9, x2: -9 });
  shape.X = (x, k) => X(even ? k : x);
}
function moveImage(to) {
  places.image = String(to);
  detect();
}
function detect() {
  const category = single(), v = Number($("detection-method").value), counts = countsOf(category, v);
  const [k, which] = imagePoint(counts), { tp, fp, defective, normal, levels } = counts, slider = $("detection-slider");
  slider.value = k;
  const words = `${levelText(counts, k)}${which ? `, the ${which} threshold` : ""}`;
  slider.setAttribute("aria-valuetext", words);
  const rate = (n, of) => { const [low, high] = wilson(n, of); return `${of ? percent(n / of) : "–"}${of ? ` (${percent(low)}–${percent(high)})` : ""} %`; };
  $("detection-text").textContent = `Image threshold ${words}: detection rate ${rate(tp[k], defective)}, false alarms ${rate(fp[k], normal)}`;
  for (const button of $("detection-goto").children) button.setAttribute("aria-pressed", button.dataset.which === which);
  const x = k < levels.length ? levels[k] : null;
  const cut = known(x) ? shape.X(x, k) : shape.X(levels.at(-1), k) + 5;
  for (const name of ["x1", "x2"]) shape.line.setAttribute(name, cut);
  for (const { below, above, of, bottom, most, x: from, width } of shape.bars) { // one that the line crosses is broken there
    const reached = of.filter((rank) => rank >= k).length, to = from + width;
    const middle = Math.min(Math.max(cut, from + (reached < of.length)), to - (reached > 0));
    for (const [part, number, start, end] of [[below, of.length - reached, from, middle], [above, reached, middle, to]]) {
      const height = (number / most) * (shape.row - 4);
      for (const [name, value] of Object.entries({ x: start, width: Math.max(0, end - start), y: bottom - height, height })) part.setAttribute(name, value);
    }
  }
  const point = $("detection-point"), svg = point?.ownerSVGElement;
  if (point) {
    const { width, height } = svg.viewBox.baseVal;
    point.setAttribute("cx", MARGIN.left + (fp[k] / normal) * (width - MARGIN.left - MARGIN.right));
    point.setAttribute("cy", height - MARGIN.bottom - (tp[k] / defective) * (height - MARGIN.top - MARGIN.bottom));
  }
  const count = (value, name) => ({ value, name, text: String(value) });
  table($("confusion-table"), [{ title: "images" }, { title: "called defective" }, { title: "called normal" }, { title: "called defective (%)" }], [
    [plain("defective"), count(tp[k], "tp"), count(defective - tp[k], "fn"), number(defective ? tp[k] / defective : null, "recall", percent, ...wilson(tp[k], defective))],
    [plain("normal"), count(fp[k], "fp"), count(normal - fp[k], "tn"), number(normal ? fp[k] / normal : null, "fpr", percent, ...wilson(fp[k], normal))],
  ]);
  const reached = counts.scores.rank.map((rank) => rank >= k);
  table($("detection-table"), [{ title: "images" }, { title: "number" }, { title: "called defective" }, { title: "share (%)" }], groupsOf(category).map((name) => {
    const members = reached.filter((_, i) => category.kinds[i] === name), hits = members.filter(Boolean).length;
    return [plain(name === data.good ? "normal" : name), count(members.length, "images"), count(hits, "called"), number(hits / members.length, "share", percent, ...wilson(hits, members.length))];
  }));
  const order = (up) => (a, b) => (up ? 1 : -1) * (counts.scores.rank[a] - counts.scores.rank[b]);
  const all = [...reached.keys()];
  thumbs("missed", category, all.filter((i) => category.kinds[i] !== data.good && !reached[i]).sort(order(true)), counts, v);
  thumbs("called", category, all.filter((i) => category.kinds[i] === data.good && reached[i]).sort(order(false)), counts, v);
  keepAddress();
}
/* Images by picture where the page has one, else by name; the worst first. */
const cards = new Map();
function thumbs(id, category, indices, counts, v) {
  const place = $(id), pictured = new Map(category.images.map((picture) => [picture.index, picture]));
  const list = indices.filter((i) => pictured.has(i)).map((i) => ({ picture: pictured.get(i), category }));
  $(`${id}-title`).textContent = `${id === "missed" ? "Missed" : "Falsely called"}: ${indices.length}${indices.length ? `, the ${id === "missed" ? "lowest" : "highest"} score first` : ""}`;
  place.replaceChildren();
  list.forEach(({ picture }, at) => {
    if (!cards.has(picture)) {
      const card = document.createElement("button");
      card.type = "button";
      drawImage(add(card, "canvas", { role: "img", "aria-label": `${picture.name} with the outline of its defect` }), picture);
      add(card, "span", { class: "thumb-text" });
      cards.set(picture, card);
    }
    const card = cards.get(picture);
    card.onclick = () => enlarge(list, at);
    card.dataset.image = picture.name;
    card.lastChild.textContent = `${picture.defect === data.good ? "" : `${picture.defect}: `}${picture.name.split("/").at(-1)}, ${short(counts.levels[counts.scores.rank[picture.index]])}`;
    place.append(card);
  });
  const others = indices.filter((i) => !pictured.has(i));
  if (others.length) add(place, "p", { class: "note names" }, `${list.length ? "Without a picture in this page: " : ""}${others.map((i) => `${category.names[i]} (${short(counts.levels[counts.scores.rank[i]])})`).join(", ")}`);
  if (!indices.length) add(place, "p", { class: "note" }, "none");
}

/* --- calculator -------------------------------------------------------------------------------------------------------- */

/* What happens in an hour, of detection rate r and false-alarm rate f with the ends of their intervals (null: none). */
function hourly({ parts, share, miss, alarm }, [r, rLow, rHigh], [f, fLow, fHigh]) {
  const defective = parts * share, good = parts * (1 - share), bounded = [rLow, rHigh, fLow, fHigh].every(known);
  const precision = (r, f) => (share * r + (1 - share) * f > 0 ? (share * r) / (share * r + (1 - share) * f) : null);
  const cost = miss * defective * (1 - r) + alarm * good * f;
  const joined = (a, b) => Math.hypot(miss * defective * a, alarm * good * b); // MOVER, Zou and Donner 2008
  const ends = (low, high) => (bounded ? [low(), high()] : [null, null]);
  return {
    recall: [r, rLow, rHigh], fpr: [f, fLow, fHigh],
    misses: [defective * (1 - r), ...ends(() => defective * (1 - rHigh), () => defective * (1 - rLow))],
    alarms: [good * f, ...ends(() => good * fLow, () => good * fHigh)],
    precision: [precision(r, f), ...(precision(r, f) === null ? [null, null] : ends(() => precision(rLow, fHigh), () => precision(rHigh, fLow)))],
    cost: [cost, ...ends(() => cost - joined(rHigh - r, f - fLow), () => cost + joined(r - rLow, fHigh - f))],
  };
}
const HOURLY = [["recall", "detection rate (%)", percent], ["fpr", "false alarms (% of good parts)", percent], ["misses", "misses per hour", short], ["alarms", "false alarms per hour", short], ["precision", "precision (%)", percent], ["cost", "cost per hour", short]];
/* The inputs, or what is wrong with them. */
function calculatorInputs() {
  const fields = [["calc-parts", "parts per hour", Infinity], ["calc-share", "defective (%)", 100], ["calc-miss", "cost of a miss", Infinity], ["calc-alarm", "cost of a false alarm", Infinity]];
  let wrong = "";
  const values = fields.map(([id, name, most]) => {
    const value = $(id).value.trim() === "" ? NaN : Number($(id).value), bad = !(value >= 0 && value <= most && Number.isFinite(value));
    $(id).setAttribute("aria-invalid", bad);
    if (bad && !wrong) wrong = `Expected a number from 0${most === Infinity ? "" : ` to ${most}`} for ${name}.`;
    return value;
  });
  return { wrong, parts: values[0], share: values[1] / 100, miss: values[2], alarm: values[3] };
}
/* The threshold of a method with the lowest cost on the test images; of equal ones the highest. */
function cheapest(inputs, counts) {
  let best = null;
  for (let k = counts.tp.length - 1; k >= 0; k--) {
    const { cost: [cost] } = hourly(inputs, [counts.tp[k] / counts.defective, null, null], [counts.fp[k] / counts.normal, null, null]);
    if (best === null || cost < best.cost) best = { k, cost };
  }
  const { k } = best, [tp, fp] = [counts.tp[k], counts.fp[k]];
  return { k, ...hourly(inputs, [tp / counts.defective, ...wilson(tp, counts.defective)], [fp / counts.normal, ...wilson(fp, counts.normal)]) };
}
sections.set("calculator", () => {
  const inputs = calculatorInputs(), category = chosen() === null && categoryNames.length > 1 ? null : single(), apiece = category !== null;
  const hourlies = HOURLY.map(([, title]) => ({ title })), headings = [{ title: "method" }, ...(apiece ? [{ title: "image threshold" }] : []), ...hourlies];
  const line = (first, of) => [...first, ...HOURLY.map(([name, , form]) => number(of[name][0], name, form, of[name][1], of[name][2]))];
  if (inputs.wrong) {
    table($("calc-table"), headings, []);
    table($("cheapest-table"), headings, []);
    return void ($("calc-text").textContent = inputs.wrong);
  }
  const { image_recall: recalls, image_fpr: alarms, image_threshold } = over().decisions.deployable, whole = ({ n, total, mean }) => n === total && known(mean);
  const usable = shown().filter((v) => whole(recalls[v]) && whole(alarms[v])), ends = (n) => [n.mean, n.low, n.high];
  const own = new Map(usable.map((v) => [v, hourly(inputs, ends(recalls[v]), ends(alarms[v]))]));
  const floors = [["call everything defective", hourly(inputs, [1, null, null], [1, null, null])], ["call nothing defective", hourly(inputs, [0, null, null], [0, null, null])]];
  const sort = ["cost per hour", "ascending"], at = image_threshold && numberCells(image_threshold, "threshold", { form: exactly, ranked: false });
  const first = (cell, threshold) => (apiece ? [cell, threshold] : [cell]);
  table($("calc-table"), headings, usable.map((v) => line(first(named(v), at?.[v] ?? plain("–")), own.get(v))), { sort, foot: floors.map(([name, of]) => line(first(plain(`floor: ${name}`), plain("")), of)) });
  const [floorName, floor] = floors.reduce((a, b) => (b[1].cost[0] < a[1].cost[0] ? b : a));
  const best = usable.length ? usable.reduce((a, b) => (own.get(b).cost[0] < own.get(a).cost[0] ? b : a)) : null;
  const missing = shown().length - usable.length, lacking = missing ? ` ${missing} of the shown methods ${missing > 1 ? "have" : "has"} no deployable image threshold here.` : "";
  if (best === null) $("calc-text").textContent = `No shown method has a deployable image threshold here. To ${floorName} costs ${short(floor.cost[0])} per hour.`;
  else {
    const [cost, low, high] = own.get(best).cost, interval = known(low) ? ` (${short(low)}–${short(high)})` : "";
    const against = !known(low) ? "how sure that is, is not known" : high < floor.cost[0] ? "measurably more" : low > floor.cost[0] ? "measurably less" : "which cannot be told from it";
    $("calc-text").textContent = `Cheapest at its deployable threshold: ${data.variants[best]}, ${short(cost)}${interval} per hour; to ${floorName} costs ${short(floor.cost[0])}, ${against}.${lacking}`;
  }
  const with_ = shown().filter((v) => { const counts = category && countsOf(category, v); return counts && counts.defective && counts.normal; });
  const found = with_.map((v) => [v, cheapest(inputs, countsOf(category, v))]);
  const winner = found.length ? found.reduce((a, b) => (b[1].cost[0] < a[1].cost[0] ? b : a))[0] : null;
  const rows = found.map(([v, of]) => {
    const counts = countsOf(category, v), text = levelText(counts, of.k);
    const threshold = { text, value: counts.levels[of.k] ?? null, name: "threshold", draw: (td) => add(td, "button", { type: "button", class: "link", title: "look at it under Images", onclick: () => lookAt(v, counts, of.k) }, text) };
    const cells = line([named(v), threshold], of);
    cells.at(-1).best = v === winner;
    return cells;
  });
  $("cheapest").hidden = category === null;
  table($("cheapest-table"), [headings[0], { title: "image threshold, cheapest here" }, ...hourlies], rows, { sort });
  const aimed = `The deployable thresholds aim at no more than ${percent(data.asked)} % false alarms: ${short(inputs.parts * (1 - inputs.share) * data.asked)} per hour.`;
  $("calc-note").textContent = `${aimed} ${category === null ? "Choose a category for the cheapest thresholds: each category has its own." : data.seeds.length > 1 ? `Means over seeds at the deployable thresholds; the cheapest thresholds are those of seed ${category.seed}.` : ""}`;
});
function lookAt(v, counts, k) {
  $("detection-method").value = v;
  places.image = k < counts.levels.length ? String(counts.levels[k]) : "none";
  redraw("detection");
  goTo("detection");
}
