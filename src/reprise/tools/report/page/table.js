// A table that sorts by its columns. A column: {name, value(row): number, text or null, cell(row): text or node, isText}.

const MOST_ROWS = 200; // beyond these a button shows the rest

function sortableTable({ name, columns, rows, sortedBy, isDescending, rowAttributes = () => ({}) }) {
  let shownRows = rows;
  let column = columns.find((other) => other.name === sortedBy) ?? columns[0];
  let descending = isDescending;
  let showsAll = false;
  const heads = columns.map((each) =>
    element(
      "th",
      { scope: "col", class: each.isText ? "" : "number" },
      each.value
        ? element("button", { type: "button", click: () => sortBy(each) }, ...headLines(each.name), element("span", { class: "arrow", "aria-hidden": "true" }))
        : element("span", { class: "visually-hidden" }, each.name),
    ),
  );
  const body = element("tbody");
  const more = element("button", { type: "button", class: "more", click: () => { showsAll = true; draw(); } });
  const table = element("table", {}, element("caption", { class: "visually-hidden" }, name), element("thead", {}, element("tr", {}, heads)), body);

  function sortBy(clicked) {
    descending = clicked === column ? !descending : !clicked.isText;
    column = clicked;
    draw();
  }

  function sorted() {
    const keyed = shownRows.map((row) => [column.value(row), row]);
    const sign = descending ? -1 : 1;
    keyed.sort(([first], [second]) => {
      if (first === null || second === null) return (first === null) - (second === null); // what is missing stands last
      if (typeof first === "number" && typeof second === "number") return sign * (first - second);
      return sign * collator.compare(String(first), String(second));
    });
    return keyed.map(([, row]) => row);
  }

  function draw() {
    columns.forEach((each, index) => {
      heads[index].setAttribute("aria-sort", each !== column ? "none" : descending ? "descending" : "ascending");
      if (!each.value) heads[index].removeAttribute("aria-sort");
    });
    const all = sorted();
    body.replaceChildren(...(showsAll ? all : all.slice(0, MOST_ROWS)).map(tableRow));
    more.hidden = showsAll || all.length <= MOST_ROWS;
    more.textContent = `Show all ${all.length.toLocaleString("en")} rows`;
  }

  function tableRow(row) {
    const cells = columns.map((each) => element(each.isHead ? "th" : "td", { class: each.isText ? "" : "number", scope: each.isHead ? "row" : null }, each.cell(row)));
    return element("tr", rowAttributes(row), cells);
  }

  draw();
  return { element: element("div", {}, scroller(name, table), more), sorted, show(these) { shownRows = these; draw(); } };
}

const collator = new Intl.Collator("en", { numeric: true });

// "training.learning_rate" on two lines: long names need no wide columns.
function headLines(name) {
  const cut = Math.max(name.lastIndexOf("."), name.lastIndexOf("/")) + 1;
  return cut ? [element("span", { class: "section" }, name.slice(0, cut)), element("span", {}, name.slice(cut))] : [element("span", {}, name)];
}

// Returns whether a row meets a query: words it must hold, and conditions on columns, which may be given by their last part.
function matcher(query, columns) {
  const tests = query.trim().split(/\s+/).filter(Boolean).map((term) => {
    const match = /^([^=<>!]+)(>=|<=|!=|=|>|<)(.+)$/.exec(term);
    const column = match && columns.find(({ name }) => name === match[1] || name.endsWith(`.${match[1]}`) || name.endsWith(`/${match[1]}`));
    if (column) return (row) => meets(column.value(row), match[2], match[3]);
    const word = term.toLowerCase();
    return (row) => columns.some((each) => String(each.value(row) ?? "").toLowerCase().includes(word));
  });
  return (row) => tests.every((test) => test(row));
}

function meets(value, operator, wanted) {
  if (value === null) return operator === "!=";
  const areNumbers = typeof value === "number" && wanted.trim() !== "" && !Number.isNaN(Number(wanted));
  const [first, second] = areNumbers ? [value, Number(wanted)] : [String(value).toLowerCase(), wanted.toLowerCase()];
  switch (operator) {
    case "=": return first === second;
    case "!=": return first !== second;
    case ">": return first > second;
    case "<": return first < second;
    case ">=": return first >= second;
    default: return first <= second;
  }
}
