
/* --- start ------------------------------------------------------------------------------------------------------------- */

function goTo(id) {
  part = id;
  const heading = $(id);
  heading.setAttribute("tabindex", -1);
  heading.focus({ preventScroll: true });
  heading.scrollIntoView();
  target = id;
  requestAnimationFrame(() => requestAnimationFrame(hold)); // what lies above has its size only when it is near
  keepAddress();
}
function hold() {
  if (target) $(target).scrollIntoView();
  if (document.body.dataset.ready === "true") target = "";
}
function methodBoxes() {
  for (const v of variants) {
    const label = add($("methods-list"), "label");
    const box = add(label, "input", { type: "checkbox", value: v });
    box.addEventListener("change", () => {
      if (box.checked) hidden.delete(v); else hidden.add(v);
      if (!shown().length) { hidden.delete(v); box.checked = true; } // one stays
      showChoice();
      fillControls();
      redraw();
    });
    method(label, v);
  }
}
function showChoice() {
  document.querySelectorAll("#methods-list input").forEach((box) => { box.checked = !hidden.has(Number(box.value)); });
  $("methods-count").textContent = hidden.size ? `${shown().length} of ${variants.length}` : `all ${variants.length}`;
  nameCategory();
}
/* What can be chosen, which follows from the category and the shown methods. */
function fillControls() {
  const category = single(), with_ = shown().filter((v) => category && countsOf(category, v));
  options($("detection-method"), with_.map((v) => data.variants[v]), with_);
  options($("gallery-method"), shown().map((v) => data.variants[v]), shown());
  for (const id of ["wins-a", "wins-b"]) options($(id), shown().map((v) => data.variants[v]), shown());
  const everywhere = placesOf({ by_defect: true }).filter(({ c }) => chosen() === null || c === chosen());
  options($("wins-place"), everywhere.map(placeName), everywhere.map(placeKey));
  galleryDefects();
}
function start() {
  const many = categoryNames.length > 1;
  options($("category"), [...(many ? [`all ${categoryNames.length} categories`] : []), ...categoryNames], [...(many ? [""] : []), ...categoryNames.keys()]);
  options($("cost-quality"), data.metrics.map((m) => m.title), data.metrics.map((m) => m.name));
  options($("cost-axis"), data.costs.map((c) => c.title), data.costs.map((c) => c.title));
  options($("defects-metric"), data.defect_metrics.map((m) => m.title), data.defect_metrics.map((m) => m.name));
  options($("wins-metric"), data.wins.map((w) => w.title));
  methodBoxes();
  fillControls();
  keep("decisions-threshold", "cost-quality", "cost-axis", "defects-metric", "wins-metric", "wins-places", "wins-a", "wins-b", "wins-place", "value-scale", "explorer-number", "gallery-defect", "gallery-method", "gallery-line", "gallery-show", "detection-method", "detection-axis", "calc-parts", "calc-share", "calc-miss", "calc-alarm");
  if (single().deploy !== null) for (const id of ["detection-method", "gallery-method"]) $(id).value = single().deploy;
  readAddress();
  showChoice();
  const parts = [...document.querySelectorAll("nav a")];
  options($("go"), ["a part of this page", ...parts.map((link) => link.textContent)], ["", ...parts.map((link) => link.hash.slice(1))]);
  $("go").addEventListener("change", () => { if ($("go").value) goTo($("go").value); $("go").value = ""; });
  const listen = (ids, act, on = "change") => ids.forEach((id) => $(id).addEventListener(on, act));
  listen(["category"], () => { showChoice(); fillControls(); redraw(); });
  listen(["decisions-threshold"], () => redraw("decisions"));
  listen(["cost-quality", "cost-axis"], () => redraw("overview"));
  listen(["defects-metric"], () => redraw("defects"));
  listen(["wins-metric", "wins-places", "wins-a", "wins-b", "wins-place"], () => redraw("wins"));
  listen(["detection-method"], () => { if (!["deployable", "oracle"].includes(places.image)) places.image = "deployable"; redraw("detection"); });
  listen(["detection-axis"], () => redraw("detection"));
  listen(["detection-slider"], () => { const counts = countsOf(single(), Number($("detection-method").value)), k = Number($("detection-slider").value); moveImage(k < counts.levels.length ? counts.levels[k] : "none"); }, "input");
  listen(["calc-parts", "calc-share", "calc-miss", "calc-alarm"], () => redraw("calculator"), "input");
  document.querySelectorAll("input[name=axis]").forEach((radio) => radio.addEventListener("change", () => { if (/^\d+$/.test(places.pixel)) places.pixel = ""; redraw("thresholds"); }));
  listen(["value-scale"], () => redraw("thresholds", "curves"));
  listen(["explorer-number"], () => redraw("thresholds"));
  const gallerySlider = () => { if ($("gallery-line").value === "slider") redraw("gallery"); };
  listen(["explorer-marks"], () => { if ($("explorer-marks").value) { places.pixel = $("explorer-marks").value; explore(); gallerySlider(); } });
  const onGrid = (position) => { const grid = data.axes[axis()]; return grid.reduce((best, g, i) => (Math.abs(explorer.move.fraction(g) * (grid.length - 1) - position) < Math.abs(explorer.move.fraction(grid[best]) * (grid.length - 1) - position) ? i : best), 0); };
  listen(["slider"], () => moveSlider(onGrid(Number($("slider").value))), "input");
  listen(["slider"], gallerySlider);
  listen(["slider"], (event) => {
    const last = data.axes[axis()].length - 1, { index } = pixelPoint();
    const to = { ArrowRight: index + 1, ArrowUp: index + 1, ArrowLeft: index - 1, ArrowDown: index - 1, PageUp: index + 10, PageDown: index - 10, Home: 0, End: last }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    moveSlider(Math.min(Math.max(to, 0), last));
    gallerySlider();
  }, "keydown");
  listen(["gallery-defect", "gallery-method", "gallery-line", "gallery-show"], () => redraw("gallery"));
  listen(["large-previous"], () => turn(-1), "click");
  listen(["large-next"], () => turn(1), "click");
  listen(["large"], (event) => { if (event.key === "ArrowLeft") turn(-1); if (event.key === "ArrowRight") turn(1); }, "keydown");
  document.querySelectorAll('a[href^="#"]').forEach((link) => link.addEventListener("click", (event) => { event.preventDefault(); goTo(link.hash.slice(1)); }));
  addEventListener("hashchange", () => { if (readAddress()) { showChoice(); redraw(); } else if (part) goTo(part); });
  document.addEventListener("click", (event) => { if (!$("methods").contains(event.target)) $("methods").open = false; });
  $("methods").addEventListener("keydown", (event) => { if (event.key === "Escape") { $("methods").open = false; $("methods").firstElementChild.focus(); } });
  const bar = new ResizeObserver(() => document.documentElement.style.setProperty("--bar", `${$("bar").offsetHeight}px`));
  bar.observe($("bar"));
  let width = innerWidth, soon = 0;
  addEventListener("resize", () => {
    clearTimeout(soon);
    soon = setTimeout(() => { if (innerWidth !== width) { width = innerWidth; redraw("overview", "curves", "thresholds", "detection"); } }, 200);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => redraw("thresholds"));
  data.notes.forEach((note) => add($("overview-notes"), "li", {}, note));
  for (const sign of ["wheel", "pointerdown", "keydown"]) addEventListener(sign, () => { target = ""; }, { capture: true, passive: true });
  images();
  if (part) goTo(part);
  redraw();
}
start();
