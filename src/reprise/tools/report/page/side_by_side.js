// One run, or two beside one another: what differs in their configs and figures, confusion matrices, cards.

function sideBySide(section, runs) {
  const [first, second, content] = ["#first", "#second", ".content"].map((selector) => find(selector, section));
  const options = () => runs.map((run, i) => element("option", { value: i }, label(run)));
  first.append(...options());
  second.append(element("option", { value: "" }, "none"), ...options());
  first.addEventListener("change", draw);
  second.addEventListener("change", draw);

  function show(one, other) {
    first.value = String(runs.indexOf(one));
    if (other !== undefined) second.value = other === null ? "" : String(runs.indexOf(other));
    draw();
  }

  function draw() {
    const chosen = [runs[first.value], ...(second.value === "" ? [] : [runs[second.value]])].filter(Boolean);
    content.replaceChildren(...(chosen.length ? [facts(chosen), config(chosen), matrices(chosen), cards(chosen)] : []));
  }

  return { show };
}

function facts(chosen) {
  const metrics = data.metrics.filter((name) => chosen.some((run) => name in run.metrics));
  const rows = [
    ["run", ...chosen.map((run) => run.path)],
    ["status", ...chosen.map((run) => run.status + (run.why ? ` (${run.why})` : ""))],
    ...metrics.map((name) => [name, ...chosen.map((run) => score(name, run.metrics[name]))]),
    ["time", ...chosen.map((run) => duration(run.seconds))],
  ];
  if (chosen.length === 2)
    rows.forEach((row, i) => row.push(i > 1 && metrics[i - 2] ? difference(metrics[i - 2], chosen) : ""));
  return block("Figures", plainTable("Figures", ["", ...heads(chosen), ...(chosen.length === 2 ? ["second − first"] : [])], rows));
}

function difference(name, [first, second]) {
  const [from, to] = [first.metrics[name], second.metrics[name]];
  if (from === undefined || to === undefined) return "–";
  const change = to - from;
  const text = isPercentage(name, from, to) ? `${withMinus((100 * change).toFixed(2))} points` : figure(change);
  return change > 0 ? `+${text}` : text;
}

function config(chosen) {
  const all = chosen.map((run) => ({ ...data.common, ...run.config }));
  const keys = [...new Set(all.flatMap(Object.keys))].sort();
  const isEqual = (key) => all.length === 2 && JSON.stringify(all[0][key]) === JSON.stringify(all[1][key]);
  const rows = (wanted) => wanted.map((key) => [key, ...all.map((values) => shown(values[key]))]);
  const differing = keys.filter((key) => !isEqual(key)), equal = keys.filter(isEqual);
  if (chosen.length < 2) return block("Config", folded(`All ${keys.length} keys`, () => plainTable("Config", ["key", ...heads(chosen)], rows(keys))));
  return block(
    "Config keys that differ",
    differing.length ? plainTable("Config keys that differ", ["key", ...heads(chosen)], rows(differing)) : element("p", {}, "None: the two configs are equal."),
    folded(`${plural(equal.length, "key")} with equal values`, () => plainTable("Config keys with equal values", ["key", "both"], rows(equal).map((row) => row.slice(0, 2)))),
  );
}

function matrices(chosen) {
  if (!chosen.some((run) => run.matrices.length)) return "";
  return block("Confusion matrices", element("p", { class: "hint" }, "Rows are labels, columns are predictions; the shade is the share of the row."),
    element("div", { class: "columns" }, chosen.map((run) => element("div", {}, element("h4", {}, label(run)),
      run.matrices.length ? run.matrices.map((matrix) => (matrix.counts ? confusions(matrix, label(run)) : element("p", {}, `${matrix.num_labels} classes are too many to show here; see results/metrics.json.`))) : element("p", {}, "none")))));
}

function confusions({ labels, counts }, name) {
  const isLong = labels.some((text) => text.length > 3);
  const rows = counts.map((row, i) => {
    const total = row.reduce((sum, value) => sum + value, 0) || 1;
    return element("tr", {}, element("th", { scope: "row" }, labels[i]), row.map((value, j) => {
      const share = value / total;
      const cell = element("td", { class: `${i === j ? "hit" : "miss"}${share > 0.5 ? " strong" : ""}` }, value ? value.toLocaleString("en") : "·");
      // The root lets single mistakes be seen. No shade lies in the middle, where neither dark nor light text is readable.
      cell.style.setProperty("--shade", `${share > 0.5 ? 90 + 20 * (share - 0.5) : 64 * Math.sqrt(share)}%`);
      return cell;
    }));
  });
  return scroller(`Confusion matrix of ${name}`, element("table", { class: `matrix${isLong ? " long" : ""}` },
    element("thead", {}, element("tr", {}, element("td"), labels.map((text) => element("th", { scope: "col" }, element("span", {}, text))))), element("tbody", {}, rows)));
}

function cards(chosen) {
  return block("Model cards", element("div", { class: "columns" }, chosen.map((run) =>
    run.card ? folded(label(run), () => cardElement(run.card.map((line) => data.lines[line]).join("\n"))) : element("p", {}, `${label(run)}: no card`))));
}

const heads = (chosen) => (chosen.length === 2 ? ["first", "second"] : ["value"]);
const block = (title, ...content) => element("section", {}, element("h3", {}, title), ...content);

function plainTable(name, head, rows) {
  return scroller(name, element("table", {}, element("thead", {}, element("tr", {}, head.map((text) => element("th", { scope: "col" }, text)))),
    element("tbody", {}, rows.map(([key, ...cells]) => element("tr", {}, element("th", { scope: "row" }, key), cells.map((cell) => element("td", {}, cell)))))));
}

// Content that is made when it is first unfolded: a card is long.
function folded(title, make) {
  const details = element("details", { toggle: () => { if (details.open && details.children.length === 1) details.append(make()); } }, element("summary", {}, title));
  return details;
}
