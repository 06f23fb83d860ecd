
/* --- wins, ties and losses --------------------------------------------------------------------------------------------- */

/* The outcomes of a pair at a place are kept once, for the lower number first. */
const pairOf = (a, b) => { const [v, w] = a < b ? [a, b] : [b, a]; return (v * (2 * variants.length - v - 1)) / 2 + w - v - 1; };
const TURNED = { w: "l", l: "w", t: "t", "-": "-" };
function placesOf(wins) {
  const found = [];
  data.categories.forEach((category, c) => { for (const d of [-1, ...(wins.by_defect ? category.defects.keys() : [])]) found.push({ c, d, at: found.length }); });
  return found;
}
function outcomeOf(wins, place, a, b) {
  const code = wins.outcomes[place.at][pairOf(a, b)];
  return a < b ? code : TURNED[code];
}
function differenceOf(wins, place, a, b) {
  const [low, high] = wins.differences[place.at].slice(2 * pairOf(a, b));
  return a < b || low === null ? [low, high] : [-high, -low];
}
/* A number of all methods at a place. */
function numbersOf(name, { c, d }) {
  if (d >= 0) return data.categories[c].defects[d].numbers[name];
  const view = data.overview[data.overview.length === 1 ? 0 : c + 1];
  return view.numbers[name] ?? view.decisions.deployable[name.replace(/_deployable$/, "")];
}
const placeKey = ({ c, d }) => `${c}.${d}`;
const OUTCOMES = { w: "wins", t: "cannot be told apart", l: "loses", "-": "undefined" };
/* Two methods at a place: what comes out, both numbers, and their difference. */
function against(wins, place, a, b) {
  const cells = numberCells(numbersOf(wins.name, place), wins.name, { ranked: false }), code = outcomeOf(wins, place, a, b), [low, high] = differenceOf(wins, place, a, b);
  const difference = low === null ? number(null, "difference", percent) : number(cells[a].value - cells[b].value, "difference", percent, low / 1000, high / 1000);
  return [{ text: OUTCOMES[code], name: "outcome", best: code === "w" }, cells[a], cells[b], { ...difference, between: " to " }];
}
const placeName = ({ c, d }) => (d < 0 ? `${categoryNames[c]}, all` : `${categoryNames[c]}: ${data.categories[c].defects[d].name}`);

sections.set("wins", async () => {
  const wins = data.wins[$("wins-metric").value], kind = wins?.by_defect ? $("wins-places").value : "categories";
  for (const id of ["wins-a", "wins-b"]) options($(id), shown().map((v) => data.variants[v]), shown());
  if ($("wins-a").value === $("wins-b").value && shown().length > 1) $("wins-b").value = shown().find((v) => String(v) !== $("wins-a").value);
  if (!wins || shown().length < 2) {
    for (const id of ["wins-table", "wins-list", "place-table", "loses-table"]) table($(id), [], []);
    return void ($("wins-text").textContent = "There is one method only: nothing to compare.");
  }
  $("wins-places").disabled = !wins.by_defect;
  const only = wins.by_defect ? "" : ` ${wins.title} is not computed by defect type.`;
  const within = placesOf(wins).filter(({ c, d }) => (chosen() === null || c === chosen()) && (kind === "both" || (kind === "categories") === d < 0));
  const tally = (a, b) => { const n = { w: 0, t: 0, l: 0, "-": 0 }; for (const place of within) n[outcomeOf(wins, place, a, b)]++; return n; };
  const text = (n) => `${n.w} / ${n.t} / ${n.l}`;
  const rows = shown().map((a) => {
    const each = shown().map((b) => (a === b ? null : tally(a, b))), sum = { w: 0, t: 0, l: 0 };
    for (const n of each) if (n) for (const part of "wtl") sum[part] += n[part];
    return [named(a), { text: text(sum), value: sum.w - sum.l, name: "all" }, ...each.map((n, i) => (n === null ? { text: "", value: null } : {
      text: text(n), value: n.w - n.l, name: `${data.variants[a]} against ${data.variants[shown()[i]]}`,
      draw: (td) => add(td, "button", { type: "button", class: "link", "aria-label": `${data.variants[a]} against ${data.variants[shown()[i]]}: ${n.w} wins, ${n.t} ties, ${n.l} losses`, "aria-pressed": $("wins-a").value === String(a) && $("wins-b").value === String(shown()[i]), onclick: () => { $("wins-a").value = a; $("wins-b").value = shown()[i]; redraw("wins"); } }, text(n)),
    }))];
  });
  table($("wins-table"), [{ title: "row against column" }, { title: "all others" }, ...shown().map((v) => ({ title: data.variants[v] }))], rows);
  const [a, b] = [Number($("wins-a").value), Number($("wins-b").value)];
  if (a === b) $("wins-text").textContent = "Choose two methods.";
  else {
    const n = tally(a, b), undefinedOnes = n["-"] ? `, ${n["-"]} undefined` : "";
    $("wins-text").textContent = `${wins.title}: ${data.variants[a]} wins against ${data.variants[b]} at ${n.w} of ${within.length} places, loses at ${n.l}, cannot be told from it at ${n.t}${undefinedOnes}.${only}`;
  }
  if (!(await painted("wins"))) return;
  const headings = [{ title: `outcome for ${data.variants[a]}` }, { title: data.variants[a] }, { title: data.variants[b] }, { title: "difference, points (95 %)", about: `${data.variants[a]} less ${data.variants[b]}, with the 95 % interval` }];
  const chooser = (place) => ({ text: placeName(place), draw: (td) => add(td, "button", { type: "button", class: "link", title: "by every metric", onclick: () => { $("wins-place").value = placeKey(place); redraw("wins"); } }, placeName(place)) });
  table($("wins-list"), [{ title: "place" }, ...headings], a === b ? [] : within.map((place) => [chooser(place), ...against(wins, place, a, b)]));
  const [c, d] = $("wins-place").value.split(".").map(Number);
  const there = data.wins.flatMap((of) => placesOf(of).filter((place) => place.c === c && place.d === d).map((place) => [of, place]));
  table($("place-table"), [{ title: "metric" }, ...headings], a === b ? [] : there.map(([of, place]) => [plain(of.title), ...against(of, place, a, b)]));
  loses();
});
/* Of each metric the leader over all categories, and where another method is measurably better. */
function loses() {
  const rows = data.wins.map((wins) => {
    const means = (data.overview[0].numbers[wins.name] ?? data.overview[0].decisions.deployable[wins.name.replace(/_deployable$/, "")]).map((n) => (n.n === n.total ? n.mean : null));
    const leader = variants.reduce((best, v) => (means[v] !== null && (best === null || means[v] > means[best]) ? v : best), null);
    if (leader === null) return [plain(wins.title), plain("–"), plain("no method is complete")];
    const compared = placesOf(wins).filter(({ c }) => chosen() === null || c === chosen());
    const lost = compared.map((place) => {
      const numbers = numbersOf(wins.name, place).map((n) => n.mean), better = variants.filter((v) => v !== leader && outcomeOf(wins, place, leader, v) === "l");
      const best = better.reduce((top, v) => (top === null || numbers[v] > numbers[top] ? v : top), null);
      return best === null ? null : { by: numbers[best] - numbers[leader], text: `${placeName(place)} (${percent(numbers[leader])}; ${data.variants[best]} ${percent(numbers[best])})` };
    }).filter(Boolean).sort((x, y) => y.by - x.by);
    return [plain(wins.title), named(leader), { text: lost.length ? lost.map((l) => l.text).join("; ") : `nowhere measurably of ${compared.length} place${compared.length > 1 ? "s" : ""}${wins.by_defect ? "" : ", not computed by defect type"}`, name: "lost", long: true }];
  });
  table($("loses-table"), [{ title: "metric" }, { title: "leader" }, { title: "loses measurably on (its number; that of the best)", long: true }], rows);
}
