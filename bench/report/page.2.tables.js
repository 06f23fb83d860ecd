
/* --- tables ------------------------------------------------------------------------------------------------------------ */

/* A table whose headings sort it; a cell is {text, value, low, high} and, where it needs more than text, {draw(td)}. */
function table(element, headings, rows, { sort = null, foot = [] } = {}) {
  element.replaceChildren();
  element.model = { headings, rows, foot };
  const head = add(add(element, "thead"), "tr");
  const body = add(element, "tbody");
  const drawn = rows.map((cells) => {
    const tr = add(body, "tr");
    cells.forEach((cell, i) => drawCell(add(tr, i === 0 ? "th" : "td", i === 0 ? { scope: "row" } : {}), cell));
    return { tr, cells };
  });
  function order(column, direction) {
    const sign = direction === "ascending" ? 1 : -1;
    const of = (row) => row.cells[column].value ?? (row.cells[column].value === null ? "" : row.cells[column].text) ?? "";
    drawn.sort((a, b) => {
      const [x, y] = [of(a), of(b)];
      if (x === "" || y === "") return (x === "") - (y === "");
      return sign * (typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y)));
    });
    body.append(...drawn.map((row) => row.tr));
    element.model.rows = drawn.map((row) => row.cells);
    [...head.children].forEach((th, i) => (i === column ? th.setAttribute("aria-sort", direction) : th.removeAttribute("aria-sort")));
  }
  headings.forEach((heading, i) => {
    const th = add(head, "th", { scope: "col", class: heading.long ? "long" : null });
    const first = i === 0 ? "ascending" : "descending";
    const other = { ascending: "descending", descending: "ascending" };
    add(th, "button", { type: "button", title: heading.about, onclick: () => {
      const direction = th.hasAttribute("aria-sort") ? other[th.getAttribute("aria-sort")] : first;
      sorts[element.id] = [heading.title, direction];
      order(i, direction);
      keepAddress();
    } }, heading.title);
  });
  const [title, direction] = sorts[element.id] ?? sort ?? [];
  const column = headings.findIndex((heading) => heading.title === title);
  if (column >= 0) order(column, direction);
  const below = foot.length ? add(element, "tfoot") : null; // stays below, however the table is sorted
  for (const cells of foot) {
    const tr = add(below, "tr");
    cells.forEach((cell, i) => drawCell(add(tr, i === 0 ? "th" : "td", i === 0 ? { scope: "row" } : {}), cell));
  }
  const box = element.closest(".scroll");
  if (box && !box.nextElementSibling?.classList.contains("downloads")) downloads(box, element);
}
function drawCell(td, cell) {
  if (cell.value !== undefined) td.dataset.value = cell.value ?? "";
  if (known(cell.low)) [td.dataset.low, td.dataset.high] = [cell.low, cell.high];
  if (cell.name) td.dataset.name = cell.name;
  if (cell.best) td.classList.add("best");
  if (cell.long) td.classList.add("long");
  if (cell.draw) return cell.draw(td);
  td.append(cell.text);
  if (known(cell.low)) add(td, "span", { class: "interval" }, ` (${cell.form(cell.low)}${cell.between ?? "–"}${cell.form(cell.high)})`);
  if (cell.mark) td.append(cell.mark);
}
const named = (v) => ({ text: data.variants[v], value: data.variants[v], draw: (td) => method(td, v) });
const plain = (text, name) => ({ text, name });
/* A number with its interval. */
const number = (value, name, form, low = null, high = null) => ({ value: value ?? null, name, form, low, high, text: form(value) });
/* Numbers of all methods as cells; where they are ranked, the best of the complete ones is bold. */
function numberCells(numbers, name, { form = percent, ranked = true } = {}) {
  const complete = numbers.map((n) => (n.n === n.total && n.mean !== null ? Number(form(n.mean)) : -Infinity));
  const best = ranked && complete.filter(Number.isFinite).length > 1 ? Math.max(...complete) : NaN;
  return numbers.map((n, v) => {
    const mark = (ranked && n.tie && complete[v] !== best ? " ≈" : "") + (n.n < n.total ? ` (${n.n}/${n.total})` : "");
    return { ...number(n.n === n.total || data.partial ? n.mean : null, name, form, n.low, n.high), best: complete[v] === best && best > -Infinity, mark };
  });
}

/* A table as a file: the full numbers with the ends of their intervals as CSV, what is seen as LaTeX (booktabs). */
function downloads(box, element) {
  const title = box.getAttribute("aria-label");
  const place = document.createElement("div");
  place.className = "downloads";
  box.after(place);
  for (const [kind, make, type] of [["CSV", asCsv, "text/csv"], ["LaTeX", asLatex, "application/x-tex"]]) {
    add(place, "button", { type: "button", "aria-label": `${title} as ${kind}`, onclick: () => {
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([make(element.model, title)], { type }));
      link.download = `${element.id.replace(/-table$/, "")}.${kind === "CSV" ? "csv" : "tex"}`;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    } }, kind);
  }
}
function asCsv({ headings, rows, foot }) {
  const all = [...rows, ...foot], wide = headings.map((_, i) => all.some((cells) => known(cells[i]?.low)));
  const quoted = (text) => (/[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const line = (texts) => texts.map((text) => quoted(String(text ?? ""))).join(",");
  const of = (cell) => (typeof cell.value === "number" ? cell.value : cell.value === null ? "" : cell.text + (cell.mark ?? ""));
  const head = headings.flatMap(({ title }, i) => (wide[i] ? [title, `${title} low`, `${title} high`] : [title]));
  return [line(head), ...all.map((cells) => line(cells.flatMap((cell, i) => (wide[i] ? [of(cell), cell.low, cell.high] : [of(cell)]))))].join("\n") + "\n";
}
const TEX = { "\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "`": "\\textasciigrave{}", "<": "\\textless{}", ">": "\\textgreater{}", "|": "\\textbar{}", '"': "{''}", "[": "{[}", "*": "{*}", "–": "--", "—": "---", "−": "$-$", "≈": "$\\approx$", "≥": "$\\ge$", "≤": "$\\le$", "×": "$\\times$", "…": "\\dots{}", "·": "$\\cdot$", "†": "\\dag{}" };
const escapeTex = (text) => [...String(text)].map((c) => (TEX[c] ?? ("#$%&_{}".includes(c) ? `\\${c}` : /[\x20-\x7e\xa0-\xff]/.test(c) ? c : /\s/.test(c) ? " " : `U+${c.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`))).join("");
function asLatex({ headings, rows, foot }, title) {
  const cell = (c) => {
    const text = escapeTex(c.text), interval = known(c.low) ? ` {\\scriptsize (${escapeTex(c.form(c.low))}${escapeTex(c.between ?? "–")}${escapeTex(c.form(c.high))})}` : "";
    return (c.best ? `\\textbf{${text}}` : text) + interval + escapeTex(c.mark ?? "");
  };
  const line = (cells) => `${cells.map(cell).join(" & ")} \\\\`;
  const head = headings.map((h) => escapeTex(h.title)).join(" & ");
  return [
    "% needs \\usepackage{booktabs,graphicx}", "\\begin{table}", "\\centering", `\\caption{${escapeTex(title)}: ${escapeTex(over()?.category || "all categories")}}`,
    "\\resizebox{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}{!}{%", `\\begin{tabular}{l${"r".repeat(Math.max(0, headings.length - 1))}}`, "\\toprule", `${head} \\\\`, "\\midrule",
    ...rows.map(line), ...(foot.length ? ["\\midrule", ...foot.map(line)] : []), "\\bottomrule", "\\end{tabular}}", "\\end{table}", "",
  ].join("\n");
}

/* --- the tables of all methods ----------------------------------------------------------------------------------------- */

sections.set("overview", () => {
  const view = over();
  const columns = data.metrics.map((m) => numberCells(view.numbers[m.name], m.name));
  const headings = [{ title: "method" }, ...data.metrics.map((m) => ({ title: m.title, about: m.definition }))];
  const foot = view.published.map(({ name, texts }) => [plain(`${name} (published)`), ...data.metrics.map((m) => plain(texts[m.name] ?? "–"))]);
  table($("overview-table"), headings, shown().map((v) => [named(v), ...columns.map((c) => c[v])]), { sort: [data.metrics[0]?.title, "descending"], foot });
  ranks();
  cost();
  latency();
});
function latency() {
  $("latency").hidden = !data.latency;
  if (!data.latency) return;
  $("latency-title").textContent = data.latency.title;
  asWritten($("latency-table"), data.latency);
  $("latency-note").textContent = data.latency.notes.join(" ");
}
function ranks() {
  $("ranks").hidden = categoryNames.length === 1;
  const headings = [{ title: "method" }, ...data.ranks.map((r) => ({ title: r.title }))];
  const rows = shown().map((v) => [named(v), ...data.ranks.map((r) => number(r.ranks[v], "rank", (x) => (known(x) ? x.toFixed(2) : "–")))]);
  table($("rank-table"), headings, rows, { sort: data.ranks.length ? [data.ranks[0].title, "ascending"] : null });
}

/* What would happen at a threshold: images called defective, pixels marked. */
const FORMS = { threshold: exactly, image_threshold: exactly, normal_fpr: finely };
sections.set("decisions", () => {
  const view = over(), found = view.decisions[$("decisions-threshold").value];
  const names = data.decisions.filter((d) => d.name in found);
  const columns = names.map((d) => numberCells(found[d.name], d.name, { form: FORMS[d.name] ?? percent, ranked: d.name === "iou" }));
  table($("decisions-table"), [{ title: "method" }, ...names], shown().map((v) => [named(v), ...columns.map((c) => c[v])]));
  const [defective, normal] = view.tested;
  $("decisions-note").textContent = `Measured on ${defective} defective and ${normal} normal test images.`;
});

sections.set("defects", () => {
  const metric = $("defects-metric").value, all = chosen() === null && categoryNames.length > 1;
  const rows = several().flatMap((category) => category.defects.map((d) => {
    const cells = numberCells(d.numbers[metric], metric);
    return [plain(d.name), ...(all ? [plain(category.name)] : []), number(d.images, "images", String), ...shown().map((v) => cells[v])];
  }));
  table($("defects-table"), [{ title: "defect type" }, ...(all ? [{ title: "category" }] : []), { title: "images" }, ...shown().map((v) => ({ title: data.variants[v] }))], rows);
});

sections.set("provenance", () => {
  const columns = [["variant", "method"], ["category", "category"], ["seed", "seed"], ["status", "status"], ["commit", "commit"], ["device", "device"], ["threads", "threads"], ["concurrency", "cells at once"], ["train_s", "training (s)"], ["content", "content of the images"], ["config", "configuration"], ["versions", "versions"]];
  const text = (cell, name) => {
    if (name === "status" && cell.error) return `${cell.status}: ${cell.error}`;
    if (name === "commit" && cell.maps) return `maps of ${cell.maps}`;
    const value = cell[name];
    return !known(value) ? "–" : typeof value === "number" ? short(value) : value;
  };
  table($("provenance-table"), columns.map(([, title]) => ({ title })), data.cells.map((cell) => columns.map(([name]) => ({ value: typeof cell[name] === "number" ? cell[name] : undefined, text: text(cell, name), long: ["config", "versions"].includes(name) || (name === "status" && cell.error) }))));
});

/* A table that comes as text. */
function asWritten(element, { header, rows }) {
  const value = (text) => (text.trim() && Number.isFinite(Number(text)) ? Number(text) : text);
  table(element, header.map((title) => ({ title })), rows.map((cells) => cells.map(({ text, bold }) => ({ value: value(text), text, best: bold }))));
}
/* What is known of the images; nothing, where the run is of scored maps or of an older version. */
function images() {
  const report = data.images;
  if (!report) {
    add($("images-notes"), "li", {}, "Nothing is kept of the images: the run is of scored maps, or of an older version.");
    for (const id of ["images-details", "images-said"]) $(id).remove();
    return;
  }
  const [first, ...others] = report.tables;
  if (first) asWritten($("images-table"), first);
  report.findings.forEach((f) => {
    const li = add($("images-findings"), "li", { class: f.wrong ? "wrong" : "" }, `${f.text} `);
    add(li, "span", { class: "note" }, `To do: ${f.advice}.`);
  });
  report.notes.forEach((note) => add($("images-notes"), "li", {}, note));
  others.forEach((t, i) => {
    add($("images-details"), "h3", {}, t.title);
    asWritten(add(add($("images-details"), "div", { class: "scroll", tabindex: 0, role: "region", "aria-label": t.title }), "table", { id: `images-${i}-table` }), t);
    t.notes.forEach((note) => add($("images-details"), "p", { class: "note" }, note));
  });
  if (!others.length) $("images-details").remove();
  if (report.said) add($("images-said"), "div", { class: "said note" }, report.said); else $("images-said").remove();
}
