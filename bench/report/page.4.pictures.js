
/* --- pictures ---------------------------------------------------------------------------------------------------------- */

/* Colours are numbers as a canvas keeps them, so that pixels are written one by one without a list for each. */
const ink = (r, g, b) => ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0;
const toRgb = (h) => [1, 3, 5].map((i) => parseInt(h.slice(i, i + 2), 16));
const HEAT = data.heat.map((h) => ink(...toRgb(h))), DIVERGING = data.diverging.map(toRgb);
const decoded = new Map();
/* The pixels of a picture, decoded once; `inks` are the same as colours. */
function pixels(uri) {
  if (!decoded.has(uri)) {
    decoded.set(uri, (async () => {
      const image = new Image();
      image.src = uri;
      await image.decode();
      const canvas = new OffscreenCanvas(image.width, image.height);
      const context = canvas.getContext("2d", { willReadFrequently: true, colorSpace: "srgb" });
      context.drawImage(image, 0, 0);
      const found = context.getImageData(0, 0, image.width, image.height);
      return { width: image.width, height: image.height, data: found.data, inks: new Uint32Array(found.data.buffer) };
    })());
  }
  return decoded.get(uri);
}
const rgb = (name) => {
  const probe = add(document.body, "span", { hidden: "" });
  probe.style.color = `var(${name})`;
  const found = getComputedStyle(probe).color.match(/\d+/g).slice(0, 3).map(Number);
  probe.remove();
  return ink(...found);
};
function paint(canvas, width, height, of) {
  const image = new ImageData(width, height), inks = new Uint32Array(image.data.buffer);
  for (let i = 0; i < inks.length; i++) inks[i] = of(i);
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
const CYAN = ink(0, 229, 255), WHITE = ink(255, 255, 255), BLACK = ink(0, 0, 0);
async function drawImage(canvas, picture) {
  const [image, mask] = await Promise.all([pixels(picture.pictures.image), pixels(picture.pictures.mask)]);
  const edge = outline((i) => mask.data[4 * i] > 127, mask.width, mask.height);
  paint(canvas, image.width, image.height, (i) => (edge(i) ? WHITE : image.inks[i]));
}

/* Where a method's threshold of a category stands: its value, its place on the map's value (0..1), and whether a pixel reaches it. */
function thresholdOf(category, v, which) {
  const cell = category.cells[v], value = cell.axes.value;
  const on = (t) => (value && value.t.at(-1) > value.t[0] ? (t - value.t[0]) / (value.t.at(-1) - value.t[0]) : null);
  if (which !== "slider") {
    const mark = cell.marks[which], bit = which === "oracle" ? 64 : 128;
    return mark ? { t: mark.t, at: mark.at.value, reached: (map, i) => map.data[4 * i + 2] & bit } : null;
  }
  const { index, mark } = pixelPoint(), kept = cell.axes[axis()];
  if (mark && mark.v === v && cell.marks[mark.which]) return thresholdOf(category, v, mark.which);
  if (!kept) return null;
  const channel = axis() === "value" ? 0 : 1, need = channel ? data.axes.rate.length - index : index + 1;
  return { t: kept.t[index], at: on(kept.t[index]), reached: (map, i) => map.data[4 * i + channel] >= need };
}
/* The colour over a picture: blue below the threshold, clear far below it; yellow to red above. */
function overlay(value, at, reached, under) {
  const middle = (DIVERGING.length - 1) / 2, pivot = Math.min(Math.max(at, 0.001), 0.999);
  const d = reached ? Math.max(0, (value - pivot) / (1 - pivot)) : Math.min(0, (value - pivot) / pivot);
  const c = DIVERGING[Math.round(reached ? middle * (1.2 + 0.8 * Math.min(1, d)) : middle * 0.7 * (1 + d * 0.6))];
  const alpha = reached ? 0.5 + 0.3 * Math.min(1, d) : 0.55 * (1 + Math.max(-1, d)) ** 2;
  return ink((1 - alpha) * (under & 255) + alpha * c[0], (1 - alpha) * ((under >> 8) & 255) + alpha * c[1], (1 - alpha) * ((under >> 16) & 255) + alpha * c[2]);
}
async function drawMap(canvas, picture, category, v, which, over) {
  const [map, image] = await Promise.all([pixels(picture.pictures.maps[v]), pixels(picture.pictures.image)]);
  const top = data.axes.value.length, threshold = thresholdOf(category, v, which);
  const edge = threshold ? outline((i) => threshold.reached(map, i), map.width, map.height) : () => false;
  const level = (i) => map.data[4 * i] / top;
  const plainly = (i) => HEAT[Math.round(level(i) * (HEAT.length - 1))];
  const blended = (i) => overlay(level(i), threshold.at, threshold.reached(map, i), image.inks[i]);
  paint(canvas, map.width, map.height, (i) => (edge(i) ? CYAN : over && threshold && threshold.at !== null ? blended(i) : plainly(i)));
}
/* The colours of a map's values with the threshold on it; over a picture the threshold stands in the middle. */
function colourBar(place, category, v, which, over) {
  const threshold = thresholdOf(category, v, which), value = category.cells[v].axes.value;
  if (!value) return;
  const centred = over && threshold && threshold.at !== null, width = 120, grey = ink(128, 128, 128);
  const canvas = add(place, "canvas", { class: "colours", role: "img", "aria-label": `colours from ${short(value.t[0])} to ${short(value.t.at(-1))}${threshold ? `, threshold ${short(threshold.t)}` : ""}` });
  const mark = !threshold || threshold.at === null ? -1 : Math.round((centred ? 0.5 : Math.min(Math.max(threshold.at, 0), 1)) * (width - 1));
  const of = (f) => {
    if (!centred) return HEAT[Math.round(f * (HEAT.length - 1))];
    const at = Math.min(Math.max(threshold.at, 0.001), 0.999);
    return overlay(f < 0.5 ? 2 * f * at : at + (2 * f - 1) * (1 - at), at, f >= 0.5, grey);
  };
  paint(canvas, width, 10, (i) => (i % width === mark ? CYAN : of((i % width) / (width - 1))));
  const scale = add(place, "span", { class: "scale" });
  add(scale, "span", {}, brief(value.t[0]));
  if (mark >= 0) add(scale, "span", { class: "middle" }, brief(threshold.t));
  add(scale, "span", {}, brief(value.t.at(-1)));
}

/* --- gallery ----------------------------------------------------------------------------------------------------------- */

function galleryPictures() {
  const v = Number($("gallery-method").value), defect = $("gallery-defect").value;
  const found = several().flatMap((category) => category.images.map((picture) => ({ picture, category })));
  const wanted = found.filter((f) => defect === "all" || f.picture.defect === defect);
  const worst = ({ picture: p }) => (p.defect === data.good ? [1, -(p.score[v] ?? -Infinity)] : [0, p.iou.oracle[v] ?? Infinity]);
  return wanted.sort((a, b) => worst(a)[0] - worst(b)[0] || worst(a)[1] - worst(b)[1]);
}
async function panels(place, picture, category, large = false) {
  const box = add(place, "span", { class: "panels" });
  const which = $("gallery-line").value, over = $("gallery-show").value === "overlay", tasks = [];
  const panel = (label, text, draw) => {
    const one = add(box, "span", { class: "panel" }), canvas = add(one, "canvas", { role: "img", "aria-label": label });
    tasks.push(() => draw(canvas));
    add(one, "span", {}, text);
    return one;
  };
  panel(`${picture.name} with the outline of its defect`, "image", (canvas) => drawImage(canvas, picture));
  panel(`mask of ${picture.name}`, "mask", async (canvas) => { const m = await pixels(picture.pictures.mask); paint(canvas, m.width, m.height, (i) => m.inks[i]); });
  for (const v of shown()) {
    if (!picture.pictures.maps[v] || !category.cells[v]) continue;
    const at = which === "deployable" ? which : "oracle", own = picture.iou[at][v];
    const iou = own === null ? "" : `, ${at === which ? "" : "oracle "}IoU ${percent(own, 0)}`;
    const score = large && picture.score[v] !== null ? `, image score ${short(picture.score[v])}` : "";
    const one = panel(`map of ${data.variants[v]} on ${picture.name}`, `${data.variants[v]}${iou}${score}`, (canvas) => drawMap(canvas, picture, category, v, which, over));
    colourBar(one, category, v, which, over);
  }
  for (const task of tasks) {
    if (!box.isConnected) return;
    await task();
    await breathe();
  }
}
const seen = new IntersectionObserver((entries) => entries.forEach((e) => { if (e.isIntersecting) { seen.unobserve(e.target); e.target.draw(); } }), { rootMargin: "600px" });
sections.set("gallery", async () => {
  galleryDefects();
  const cards = $("gallery-cards"), found = galleryPictures();
  cards.replaceChildren();
  const drawn = found.map(({ picture, category }, i) => {
    const card = add(cards, "div", { class: "card", "data-defect": picture.defect, "data-image": picture.name, onclick: () => enlarge(found, i) });
    add(card, "button", { type: "button", title: "enlarge", class: "about" }, `${category.name}, ${picture.defect}: ${picture.name}`); // its click is the card's
    card.draw = () => panels(card, picture, category);
    return card;
  });
  const total = data.categories.reduce((n, c) => n + c.images.length, 0);
  for (const id of ["gallery-controls", "gallery-about"]) $(id).hidden = !total;
  $("gallery-count").textContent = !total ? "No pictures are in this page: the run was packed without them, or kept none." : found.length === total ? `All ${total} pictures that are in this page.` : `${found.length} of the ${total} pictures that are in this page.`;
  if (!(await painted("gallery"))) return;
  if (found.length > 60) return drawn.forEach((card) => seen.observe(card));
  for (const card of drawn) { // a few at once, so that they are there in print
    if (!card.isConnected) return;
    await card.draw();
  }
});
function galleryDefects() {
  const names = [...new Set(several().flatMap((c) => c.images.map((p) => p.defect)))];
  options($("gallery-defect"), ["all", ...names], ["all", ...names]);
}

/* One picture, large, among those that it stands with: the next and the one before by button or arrow key. */
const enlarged = { list: [], at: 0 };
function enlarge(list, at) {
  Object.assign(enlarged, { list, at });
  const { picture, category } = list[at], place = $("large-content");
  place.replaceChildren();
  $("large-title").textContent = `${category.name}, ${picture.defect}: ${picture.name}`;
  $("large-count").textContent = `${at + 1} of ${list.length}`;
  $("large-previous").disabled = at === 0;
  $("large-next").disabled = at === list.length - 1;
  panels(place, picture, category, true);
  if (!$("large").open) $("large").showModal();
}
function turn(by) {
  const to = enlarged.at + by;
  if (to >= 0 && to < enlarged.list.length) enlarge(enlarged.list, to);
}
