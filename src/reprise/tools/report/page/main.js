// Puts the page together.

const better = data.mode === "max" ? -1 : 1;
const runs = data.runs;
const ranked = runs.filter((run) => run.is_counted && data.metric in run.metrics)
  .sort((first, second) => better * (first.metrics[data.metric] - second.metrics[data.metric]));
const chosen = new Set();

document.title = data.title;
find("#title").textContent = data.title;
find("#summary").textContent = data.summary;
if (data.warnings.length) {
  const warnings = find("#warnings");
  warnings.hidden = false;
  find("summary", warnings).textContent = plural(data.warnings.length, "warning");
  find("ul", warnings).append(...data.warnings.map((text) => element("li", {}, text)));
}

const configColumns = (of) => data.keys.map((key) => ({
  name: key, isText: !runs.some((run) => typeof run.config[key] === "number"),
  value: (row) => { const value = of(row)[key]; return typeof value === "number" ? value : value === undefined ? null : shown(value); },
  cell: (row) => shown(of(row)[key]),
}));

if (data.variants.length) {
  find("#variants .content").append(sortableTable({
    name: "Variants", rows: data.variants, sortedBy: data.metric ?? "variant", isDescending: data.metric !== null && data.mode === "max",
    columns: [
      { name: "variant", isText: true, isHead: true, value: (row) => row.label, cell: (row) => row.label },
      ...configColumns((row) => row.config),
      { name: "n", value: (row) => row.n, cell: (row) => figure(row.n) },
      ...data.metrics.map((name) => ({ name, value: (row) => row.metrics[name]?.[0] ?? null, cell: (row) => (row.metrics[name] ? spread(name, row.metrics[name]) : "–") })),
    ],
  }).element);
} else find("#variants").hidden = true;

const columns = [
  { name: "chosen", cell: (run) => tick(run) },
  { name: "run", isText: true, isHead: true, value: (run) => run.id, cell: (run) => element("button", { type: "button", class: "link", title: `${run.path}: show below`, click: () => open(run) }, run.id) },
  { name: "variant", isText: true, value: (run) => run.variant, cell: (run) => run.variant },
  { name: "status", isText: true, value: (run) => run.status, cell: (run) => element("span", { class: `status ${run.is_counted ? "good" : "other"}`, title: run.why }, run.is_counted || run.status !== "completed" ? run.status : "not counted") },
  { name: "seed", value: (run) => run.seed, cell: (run) => shown(run.seed) },
  ...(runs.some((run) => run.fold !== null) ? [{ name: "fold", value: (run) => run.fold, cell: (run) => shown(run.fold) }] : []),
  ...configColumns((run) => run.config),
  ...data.metrics.map((name) => ({ name, value: (run) => run.metrics[name] ?? null, cell: (run) => score(name, run.metrics[name]) })),
  { name: "time", value: (run) => run.seconds, cell: (run) => duration(run.seconds) },
  { name: "started", isText: true, value: (run) => run.started || null, cell: (run) => run.started.slice(0, 16).replace("T", " ") },
];
const table = sortableTable({
  name: "Runs", rows: runs, columns, sortedBy: data.metric ?? "run", isDescending: data.metric !== null && data.mode === "max",
  rowAttributes: (run) => ({ class: run.is_counted ? "" : "not-counted" }),
});
find("#runs .content").append(table.element);

let shownRuns = runs;
const filter = find("#filter");
function applyFilter() {
  shownRuns = runs.filter(matcher(filter.value, columns.filter((column) => column.value)));
  table.show(shownRuns);
  find("#count").textContent = `${shownRuns.length.toLocaleString("en")} of ${plural(runs.length, "run")}`;
}
filter.addEventListener("input", applyFilter);

const curves = learningCurves(find("#curves"));
const pair = sideBySide(find("#pair"), runs);

function tick(run) {
  const box = element("input", { type: "checkbox", "aria-label": `Draw ${label(run)}`, change: () => {
    box.checked ? chosen.add(run) : chosen.delete(run);
    curves.choose([...chosen]);
  } });
  box.checked = chosen.has(run);
  return box;
}

function choose(these) {
  chosen.clear();
  for (const run of these) chosen.add(run);
  table.show(shownRuns);
  curves.choose(these);
}

function open(run) {
  pair.show(run);
  find("#pair-heading").scrollIntoView();
  find("#first").focus({ preventScroll: true });
}

const withCurves = runs.filter((run) => Object.keys(run.curves).length);
const best = (ranked.length ? ranked : withCurves).slice(0, BEST);
find("#choose-best").addEventListener("click", () => choose(best));
find("#choose-shown").addEventListener("click", () => choose(table.sorted()));
find("#choose-none").addEventListener("click", () => choose([]));

choose(best);
applyFilter();
const [one = runs[0], next = null] = best;
pair.show(one, ranked.find((run) => run.variant !== one.variant) ?? next);
