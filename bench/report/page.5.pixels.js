
/* --- pixels: what is marked at a threshold ----------------------------------------------------------------------------- */

const explorer = { move: null, canvases: [], marks: [] };
/* The numbers of a method at a kept point of the axis, from its counts: those of the metric suite at that threshold. */
function numbersAt(cell, axis, index) {
  const kept = cell && cell.axes[axis];
  if (!kept) return null;
  const tp = kept.tp[index], fp = kept.fp[index], ratio = (a, b) => (b ? a / b : null);
  return {
    t: kept.t[index], iou: ratio(tp, cell.positives + fp), f1: ratio(2 * tp, tp + fp + cell.positives), precision: ratio(tp, tp + fp),
    recall: ratio(tp, cell.positives), fpr: ratio(fp, cell.negatives), alarms: ratio(kept.alarms[index], cell.good), alarmed: kept.alarms[index],
  };
}
const NUMBERS = [["t", "threshold", short], ["iou", "IoU (%)", percent], ["f1", "F1 (%)", percent], ["precision", "precision (%)", percent], ["recall", "recall (%)", percent], ["fpr", "false-positive rate, all normal pixels (%)", (x) => percent(x, 3)]];

/* Where the slider stands: a kept point of the axis, and the threshold of a method whose place it is. */
function nearestPoint(x) {
  const grid = data.axes[axis()], at = explorer.move.fraction(Math.min(Math.max(x, grid[0]), grid.at(-1)));
  return grid.reduce((best, g, i) => (Math.abs(explorer.move.fraction(g) - at) < Math.abs(explorer.move.fraction(grid[best]) - at) ? i : best), 0);
}
const markName = (m) => `${data.variants[m.v]}:${m.which}`;
function pixelPoint() {
  const last = data.axes[axis()].length - 1;
  const mark = explorer.marks.find((m) => markName(m) === places.pixel) ?? (/^\d+$/.test(places.pixel) ? null : explorer.marks.find((m) => m.which === "oracle"));
  if (mark) return { mark, index: nearestPoint(mark.x) };
  return { mark: null, index: Math.min(/^\d+$/.test(places.pixel) ? Number(places.pixel) : Math.floor(last / 2), last) };
}

function explore() {
  const category = single(), grid = data.axes[axis()], slider = $("slider"), { index, mark } = pixelPoint();
  const at = mark ? mark.x : grid[index];
  explorer.move.cursor(Math.min(Math.max(at, grid[0]), grid.at(-1)));
  slider.value = explorer.move.fraction(grid[index]) * slider.max;
  $("explorer-marks").value = mark ? markName(mark) : "";
  const point = axis() === "value" ? `${rounded(grid[index], 3)} on the map's value` : `false-positive rate of at most ${short(100 * grid[index])} % on the pixels of normal images`;
  const words = mark ? `${data.variants[mark.v]} at its ${mark.which} threshold, ${exactly(mark.t)}; the others at the nearest kept point: ${point}` : point;
  $("slider-text").textContent = words;
  slider.setAttribute("aria-valuetext", words);
  const rows = shown().map((v) => {
    const own = mark && mark.v === v, n = own ? { ...category.cells[v].marks[mark.which], alarms: null } : numbersAt(category.cells[v], axis(), index);
    const alarms = { name: "alarms", value: n ? n.alarms : null, text: n && known(n.alarms) ? `${rounded(1000 * n.alarms, 0)} (${n.alarmed}/${category.cells[v].good})` : "–" };
    return [named(v), ...NUMBERS.map(([name, , form]) => number(n ? n[name] : null, name, own && name === "t" ? exactly : form)), alarms];
  });
  table($("explorer-table"), [{ title: "method" }, ...NUMBERS.map(([, title]) => ({ title })), { title: "normal images with any marked pixel, per 1,000", about: "known at the kept points of the axis" }], rows);
  explorer.canvases.forEach((draw) => draw(index, mark));
  keepAddress();
}
function moveSlider(to) {
  places.pixel = String(to);
  explore();
}

sections.set("thresholds", async () => {
  const category = single();
  if (!category) return;
  const by = axis(), grid = data.axes[by], scale = by === "rate" ? "log" : $("value-scale").value;
  const have = shown().filter((v) => category.cells[v] && category.cells[v].axes[by]);
  const series = have.map((v) => ({ v, xs: grid, ys: grid.map((_, i) => { const { iou } = numbersAt(category.cells[v], by, i); return iou === null ? null : 100 * iou; }) }));
  const marks = have.flatMap((v) => Object.entries(category.cells[v].marks).map(([which, m]) => ({ v, which, shape: which, t: m.t, x: m.at[by], y: m.iou === null ? null : 100 * m.iou, title: `${data.variants[v]}, ${which} threshold ${short(m.t)}: IoU ${percent(m.iou)} %` }))).filter((m) => known(m.x));
  explorer.marks = marks;
  const [, high] = span([0, ...series.flatMap((s) => s.ys), ...marks.map((m) => m.y)]);
  explorer.move = chart($("explorer-chart"), {
    title: `IoU over the threshold, ${category.name}`, xlabel: scale === "log" ? "false-positive rate on pixels of normal images, logarithmic" : `threshold on the map's value${scale === "logit" ? ", logit" : ""}`, ylabel: "IoU (%)",
    scale, x: [grid[0], grid.at(-1)], y: [0, high], series, marks, height: 260,
  });
  legend($("explorer-chart"), have, true);
  $("value-scale").disabled = by === "rate";
  $("slider").max = grid.length - 1;
  const strip = $("slider-marks");
  strip.replaceChildren();
  for (const m of marks) {
    const node = add(strip, "span", { title: m.title }, m.which === "oracle" ? "★" : "▼");
    node.style.left = `${100 * explorer.move.fraction(Math.min(Math.max(m.x, grid[0]), grid.at(-1)))}%`;
    node.style.color = colour(m.v);
  }
  options($("explorer-marks"), ["a threshold of a method", ...marks.map((m) => `${data.variants[m.v]}: ${m.which}`)], ["", ...marks.map(markName)]);
  $("explorer-note").textContent = `${seedNote()}The slider stands on kept points of the axis; a threshold chosen under “Go to” is exact for its own method.${by === "rate" ? " The thresholds of this axis are taken on the normal test images: to compare methods, not to deploy." : ""}`;
  explorer.canvases = [];
  explore();
  if (!(await painted("explorer"))) return;
  await drawExplorerImages(category, by);
  explore();
});

let drawing = 0; // only the last of several drawings counts
async function drawExplorerImages(category, by) {
  const place = $("explorer-images"), mine = ++drawing;
  place.replaceChildren();
  place.style.setProperty("--methods", shown().length);
  for (const text of ["", "image and defect", ...shown().map((v) => data.variants[v])]) add(place, "div", { class: "head" }, text);
  const [hit, wrong, missed] = ["--hit", "--false", "--missed"].map(rgb);
  const top = data.axes.rate.length, tasks = [];
  const ready = (of) => Promise.all(of).then((found) => breathe().then(() => found));
  for (const picture of category.images.slice(0, Number($("explorer-number").value))) {
    add(place, "div", { class: "label" }, `${picture.defect}: ${picture.name}`);
    tasks.push(drawImage(add(place, "canvas", { role: "img", "aria-label": `${picture.name} with the outline of its defect` }), picture));
    for (const v of shown()) {
      if (!picture.pictures.maps[v]) { add(place, "div", { class: "empty" }, "no map"); continue; }
      const canvas = add(place, "canvas", { role: "img", "aria-label": `mask of ${data.variants[v]} on ${picture.name}`, "data-variant": v, "data-image": picture.name });
      tasks.push(ready([pixels(picture.pictures.maps[v]), pixels(picture.pictures.mask)]).then(([map, mask]) => {
        if (mine !== drawing) return;
        explorer.canvases.push((index, mark) => {
          let positives = 0;
          const own = mark && mark.v === v, bit = own && mark.which === "oracle" ? 64 : 128;
          const channel = by === "value" ? 0 : 1, need = channel ? top - index : index + 1;
          paint(canvas, map.width, map.height, (i) => {
            const positive = own ? (map.data[4 * i + 2] & bit) > 0 : map.data[4 * i + channel] >= need, defective = mask.data[4 * i] > 127;
            positives += positive;
            return positive ? (defective ? hit : wrong) : defective ? missed : BLACK;
          });
          canvas.dataset.positives = positives;
        });
      }));
    }
  }
  await Promise.all(tasks);
}
