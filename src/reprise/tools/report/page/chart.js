// One chart: curves of one metric over optimizer steps, with the values under the pointer or at the arrow keys.

const HEIGHT = 280;
const MARGIN = { left: 58, right: 14, top: 10, bottom: 38 };
const MOST_READ = 12; // values in one tooltip

// `series`: [{name, slot, steps, values}]. Returns the element; `redraw(isLog)` draws it at its present width.
function chart(metric, series) {
  const plot = element("div", { class: "plot", tabindex: "0", role: "group", "aria-label": `${metric} over steps. Arrow keys read the values.` });
  const tip = element("div", { class: "tip", role: "status", hidden: true });
  const figure_ = element("figure", {}, element("figcaption", {}, metric), plot, tip);
  const allSteps = [...new Set(series.flatMap(({ steps }) => steps))].sort((a, b) => a - b);
  let place = null;
  let position = null; // into allSteps

  function redraw(isLog) {
    const drawn = series.map((each) => ({ ...each, points: each.steps.map((step, i) => [step, each.values[i]]).filter(([, value]) => !isLog || value > 0) }));
    const values = drawn.flatMap(({ points }) => points.map(([, value]) => value));
    if (!values.length) {
      plot.replaceChildren(element("p", { class: "hint" }, series.length ? "A log scale has no place for these values." : "None of these runs has logged it."));
      place = null;
      return;
    }
    const width = Math.max(240, plot.clientWidth);
    const x = scale(allSteps[0], allSteps[allSteps.length - 1], MARGIN.left, width - MARGIN.right, false);
    const y = scale(...bounds(values, isLog), HEIGHT - MARGIN.bottom, MARGIN.top, isLog);
    const lines = drawn.map(({ name, slot, points }) =>
      shape("path", { d: points.map(([step, value], i) => `${i ? "L" : "M"}${x(step).toFixed(1)} ${y(value).toFixed(1)}`).join(""), class: `line slot-${slot % 10}${dash(slot)}`, "data-name": name }));
    const lone = drawn.filter(({ points }) => points.length === 1).map(({ slot, name, points: [[step, value]] }) =>
      shape("circle", { cx: x(step), cy: y(value), r: 3, class: `dot slot-${slot % 10}`, "data-name": name }));
    const cross = shape("g", { class: "cross" });
    plot.replaceChildren(shape("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, height: HEIGHT, "aria-hidden": "true" }, axes(x, y, width, metric), lines, lone, cross));
    place = { x, y, width, cross, drawn };
    if (position !== null) read();
  }

  function read() {
    const step = allSteps[position];
    const found = place.drawn.map((each) => ({ ...each, value: at(each.points, step) })).filter(({ value }) => value !== null);
    found.sort((first, second) => second.value - first.value);
    const left = place.x(step);
    place.cross.replaceChildren(
      shape("line", { x1: left, x2: left, y1: MARGIN.top, y2: HEIGHT - MARGIN.bottom }),
      ...found.map(({ slot, value }) => shape("circle", { cx: left, cy: place.y(value), r: 3.5, class: `dot slot-${slot % 10}` })),
    );
    const lines = found.slice(0, MOST_READ).map(({ name, slot, value }) =>
      element("li", {}, element("span", { class: `swatch slot-${slot % 10}${dash(slot)}`, "aria-hidden": "true" }), element("span", { class: "name" }, name), element("span", { class: "value" }, score(metric, value))));
    tip.replaceChildren(element("strong", {}, `step ${step.toLocaleString("en")}`), element("ul", {}, lines),
      ...(found.length > MOST_READ ? [element("span", { class: "hint" }, `and ${found.length - MOST_READ} more`)] : []));
    tip.hidden = false;
    // Beside the line, on the right if there is room; else under the plot, where it hides nothing.
    const beside = [left + 12, left - 12 - tip.offsetWidth].find((from) => from >= 0 && from + tip.offsetWidth <= place.width);
    tip.classList.toggle("below", beside === undefined);
    tip.style.left = `${beside ?? 0}px`;
  }

  function hide() {
    tip.hidden = true;
    position = null;
    if (place) place.cross.replaceChildren();
  }

  plot.addEventListener("pointermove", (event) => {
    if (!place) return;
    const box = plot.getBoundingClientRect();
    position = nearest(allSteps, place.x.inverse(((event.clientX - box.left) / box.width) * place.width));
    read();
  });
  plot.addEventListener("pointerleave", hide);
  plot.addEventListener("blur", hide);
  plot.addEventListener("keydown", (event) => {
    const last = allSteps.length - 1;
    const to = { ArrowLeft: Math.max(0, (position ?? allSteps.length) - 1), ArrowRight: Math.min(last, (position ?? -1) + 1), Home: 0, End: last }[event.key];
    if (event.key === "Escape") hide();
    if (to === undefined || !place) return;
    event.preventDefault();
    position = to;
    read();
  });
  return { element: figure_, redraw };
}

const dash = (slot) => (slot < 10 ? "" : ` dash-${Math.floor(slot / 10) % 3}`);

function scale(low, high, from, to, isLog) {
  const [first, last] = isLog ? [Math.log10(low), Math.log10(high)] : [low, high];
  const span = last - first || 1;
  const place = (value) => from + (((isLog ? Math.log10(value) : value) - first) / span) * (to - from);
  place.inverse = (pixel) => { const value = first + ((pixel - from) / (to - from)) * span; return isLog ? 10 ** value : value; };
  place.ticks = isLog ? logTicks(low, high) : ticks(low, high, Math.max(3, Math.abs(to - from) / 55));
  return place;
}

function bounds(values, isLog) {
  let low = values.reduce((a, b) => Math.min(a, b)), high = values.reduce((a, b) => Math.max(a, b));
  if (low === high) [low, high] = isLog ? [low / 2, high * 2] : [low - (Math.abs(low) || 1) / 10, high + (Math.abs(high) || 1) / 10];
  const margin = (high - low) * 0.04;
  return isLog ? [low / 1.1, high * 1.1] : [low - margin, high + margin];
}

function ticks(low, high, wanted) {
  const rough = (high - low || 1) / wanted, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= rough);
  const found = [];
  for (let i = Math.ceil(low / step); i * step <= high + step * 1e-9; i++) found.push(Number((i * step).toPrecision(12)));
  return found;
}

function logTicks(low, high) {
  const found = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++)
    for (const factor of [1, 2, 5]) {
      const value = Number(`${factor}e${power}`);
      if (value >= low && value <= high) found.push(value);
    }
  return found.length < 2 ? ticks(low, high, 4).filter((value) => value > 0) : found.length > 9 ? found.filter((value) => /^1(0*$|e)|^0\.0*1$/.test(String(value))) : found;
}

function axes(x, y, width, metric) {
  const bottom = HEIGHT - MARGIN.bottom;
  const tickText = (value) => (isPercentage(metric, value) ? `${Number((100 * value).toPrecision(4))} %` : withMinus(Math.abs(value) >= 1e5 || (value && Math.abs(value) < 1e-3) ? value.toExponential(0) : String(value)));
  return [
    ...y.ticks.flatMap((value) => [
      shape("line", { x1: MARGIN.left, x2: width - MARGIN.right, y1: y(value), y2: y(value), class: "grid" }),
      shape("text", { x: MARGIN.left - 8, y: y(value), class: "tick left" }, tickText(value)),
    ]),
    ...x.ticks.map((value) => shape("text", { x: x(value), y: bottom + 16, class: "tick" }, value.toLocaleString("en"))),
    shape("line", { x1: MARGIN.left, x2: width - MARGIN.right, y1: bottom, y2: bottom, class: "axis" }),
    shape("text", { x: (MARGIN.left + width - MARGIN.right) / 2, y: HEIGHT - 4, class: "tick" }, "step"),
  ];
}

// The value of a curve at a step: that of the last point up to it; null outside of the curve.
function at(points, step) {
  if (!points.length || step < points[0][0] || step > points[points.length - 1][0]) return null;
  let low = 0, high = points.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (points[middle][0] <= step) low = middle;
    else high = middle - 1;
  }
  return points[low][1];
}

function nearest(steps, wanted) {
  let best = 0;
  steps.forEach((step, i) => { if (Math.abs(step - wanted) < Math.abs(steps[best] - wanted)) best = i; });
  return best;
}
