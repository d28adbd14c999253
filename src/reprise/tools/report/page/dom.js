// Elements and numbers. Text becomes text nodes only, so nothing that a run holds is read as markup.

const data = JSON.parse(document.getElementById("data").textContent);
const rates = new Set(data.rates);
const find = (selector, within = document) => within.querySelector(selector);

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  setAttributes(made, attributes);
  made.append(...children.flat().filter((child) => child !== null));
  return made;
}

function shape(tag, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  setAttributes(made, attributes);
  made.append(...children.flat());
  return made;
}

function setAttributes(made, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(name, value);
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
}

const withMinus = (text) => text.replace(/^-/, "−").replace("e-", "e−");

function figure(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (size >= 1000 || Number.isInteger(value)) return withMinus(Math.round(value).toLocaleString("en"));
  return withMinus(size < 1e-4 ? value.toExponential(2) : value.toPrecision(4));
}

const isPercentage = (metric, ...values) => rates.has(metric) && values.every((value) => value >= 0 && value <= 1);

function score(metric, value) {
  if (value === null || value === undefined) return "–";
  return isPercentage(metric, value) ? `${(100 * value).toFixed(2)} %` : figure(value);
}

function spread(metric, [mean, std]) {
  if (std === null) return score(metric, mean);
  if (isPercentage(metric, mean)) return `${(100 * mean).toFixed(2)} ± ${(100 * std).toFixed(2)} %`;
  const size = Math.max(Math.abs(mean), std);
  if (size < 1e-4 || size >= 1e7) return `${figure(mean)} ± ${figure(std)}`;
  const decimals = Math.max(0, 3 - Math.floor(Math.log10(size)));
  return `${withMinus(mean.toFixed(decimals))} ± ${std.toFixed(decimals)}`;
}

function shown(value) {
  if (value === undefined) return "–";
  return typeof value === "string" ? value : JSON.stringify(value);
}

function duration(seconds) {
  if (seconds === null) return "–";
  if (seconds < 60) return `${Math.round(seconds)} s`;
  const minutes = Math.floor(seconds / 60);
  return minutes < 60 ? `${minutes} min ${Math.round(seconds % 60)} s` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

const plural = (number, noun) => `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;
const repetition = (run) => `seed ${shown(run.seed)}${run.fold === null ? "" : ` fold ${shown(run.fold)}`}`;
const label = (run) => `${run.variant} · ${repetition(run)} · ${run.id}`;
const scroller = (name, content) => element("div", { class: "scroller", tabindex: "0", role: "region", "aria-label": name }, content);
