// Curves of the chosen runs over one another: which metrics, which runs, and which of them is brought out.

const MOST_CURVES = 100;
const BEST = 10;

function learningCurves(section) {
  const [pills, legend, charts, drawn, logScale] = [".pills", ".legend", ".charts", "#drawn", "#log-scale"].map((selector) => find(selector, section));
  const metrics = new Set(data.shown_curves);
  const slots = new Map(); // run to the number of its colour, which it keeps while it is chosen
  let drawnCharts = [];
  let pressed = null;

  pills.append(...data.curves.map((name) => {
    const box = element("input", { type: "checkbox", change: () => { box.checked ? metrics.add(name) : metrics.delete(name); draw(); } });
    box.checked = metrics.has(name);
    return element("label", { class: "pill" }, box, ` ${name}`);
  }));
  logScale.addEventListener("change", redraw);
  new ResizeObserver(redraw).observe(charts);

  function choose(runs) {
    const kept = runs.slice(0, MOST_CURVES);
    for (const run of slots.keys()) if (!kept.includes(run)) slots.delete(run);
    const taken = new Set(slots.values());
    for (const run of kept) {
      if (slots.has(run)) continue;
      let slot = 0;
      while (taken.has(slot)) slot++;
      taken.add(slot);
      slots.set(run, slot);
    }
    if (!slots.has(pressed)) pressed = null;
    drawn.textContent = runs.length > MOST_CURVES ? `The first ${MOST_CURVES} of ${runs.length.toLocaleString("en")} chosen runs are drawn.` : runs.length ? "" : "No run is chosen: tick some in the table above.";
    draw();
  }

  function draw() {
    legend.replaceChildren(...[...slots].map(([run, slot]) => element("button",
      { type: "button", "aria-pressed": String(run === pressed), mouseenter: () => bringOut(run), mouseleave: () => bringOut(pressed),
        focus: () => bringOut(run), blur: () => bringOut(pressed), click: () => press(run) },
      element("span", { class: `swatch slot-${slot % 10}${dash(slot)}`, "aria-hidden": "true" }), label(run))));
    drawnCharts = data.curves.filter((name) => metrics.has(name)).map((name) => {
      const series = [...slots].filter(([run]) => run.curves[name]).map(([run, slot]) => ({ name: label(run), slot, steps: run.curves[name][0], values: run.curves[name][1] }));
      return chart(name, series);
    });
    charts.replaceChildren(...drawnCharts.map((each) => each.element));
    redraw();
  }

  function redraw() {
    for (const each of drawnCharts) each.redraw(logScale.checked);
    bringOut(pressed);
  }

  function press(run) {
    pressed = run === pressed ? null : run;
    [...legend.children].forEach((button, i) => button.setAttribute("aria-pressed", String([...slots.keys()][i] === pressed)));
    bringOut(pressed);
  }

  function bringOut(run) {
    for (const line of charts.querySelectorAll("[data-name]")) {
      line.classList.toggle("faded", run !== null && line.dataset.name !== label(run));
      line.classList.toggle("bold", run !== null && line.dataset.name === label(run));
    }
  }

  return { choose };
}
