// The run's data, and the helpers every part of the page uses. Text goes into the page by textContent only.

const data = JSON.parse(document.getElementById("run-data").textContent);

const MINUS = "\u2212";
const DASH = "\u2013";

/** An HTML element; children are nodes, or text, or null to skip. */
function el(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** An SVG element. */
function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name, value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value);
  }
  append(node, children);
  return node;
}

function append(node, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    node.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
}

function isNumber(value) {
  return typeof value === "number" && Number.isFinite(value);
}

/** A number with a true minus sign; a dash for none. */
function fixed(value, digits) {
  if (!isNumber(value)) return DASH;
  const text = Math.abs(value).toFixed(digits);
  return value < 0 && Number(text) !== 0 ? MINUS + text : text;
}

function signed(value, digits) {
  const text = fixed(value, digits);
  return isNumber(value) && value > 0 && Number(text) !== 0 ? `+${text}` : text;
}

/** A share of 1 in percent, without the sign. */
function percent(value, digits = 1) {
  return isNumber(value) ? fixed(100 * value, digits) : DASH;
}

function whole(value) {
  return isNumber(value) ? Math.round(value).toLocaleString("en") : DASH;
}

function plural(count, noun) {
  if (count === 1) return `1 ${noun}`;
  if (noun.endsWith("y")) return `${whole(count)} ${noun.slice(0, -1)}ies`;
  return `${whole(count)} ${noun}${/(s|ch|x)$/.test(noun) ? "es" : "s"}`;
}

function duration(seconds) {
  if (!isNumber(seconds)) return DASH;
  if (seconds < 60) return `${fixed(seconds, 1)} s`;
  const pad = (value) => String(value).padStart(2, "0");
  const [minutes, rest] = [Math.floor(Math.round(seconds) / 60), Math.round(seconds) % 60];
  return minutes < 60
    ? `${minutes} min ${pad(rest)} s`
    : `${Math.floor(minutes / 60)} h ${pad(minutes % 60)} min`;
}

/** `max_steps` as `max steps`. */
function words(identifier) {
  return String(identifier).replaceAll("_", " ");
}

function absent(text) {
  return el("p", { class: "absent" }, text);
}

function badge(kind, text, title) {
  return el("span", { class: `badge ${kind}`, title }, text);
}

/** A select; `options` are [value, label]. */
function select(label, options, value, changed) {
  const box = el(
    "select",
    { change: (event) => changed(event.target.value) },
    options.map(([key, text]) => el("option", { value: key, selected: key === value }, text)),
  );
  return el("label", { class: "field" }, el("span", {}, label), box);
}

function modelNamed(name) {
  return data.models.find((model) => model.name === name);
}

/** The two models that the page compares: those of the summary, else the first and the last that were scored. */
function comparedModels() {
  if (data.comparison && modelNamed(data.comparison.a) && modelNamed(data.comparison.b)) {
    return [data.comparison.a, data.comparison.b];
  }
  const pools = [
    data.models.filter((model) => model.trained && model.figures.em),
    data.models.filter((model) => model.trained),
    data.models,
  ];
  const pool = pools.find((models) => models.length);
  if (!pool) return [null, null];
  const last = pool.find((model) => model.name === data.best) || pool[pool.length - 1];
  return [pool[0].name, last.name];
}

const METRICS = {
  em: { label: "Exact match", unit: "%" },
  f1: { label: "F1", unit: "%" },
  acc: { label: "Contains answer", unit: "%" },
  recall: { label: "Passage recall", unit: "%" },
  searches: { label: "Searches", unit: "per question" },
  tokens: { label: "Tokens", unit: "generated per question" },
  answer_probability: { label: "p(y | x, z)", unit: "0 without an answer" },
  malformed: { label: "Malformed", unit: "%" },
  cover_em: { label: "Cover EM", unit: "%" },
  sub_em: { label: "Sub EM", unit: "%" },
  f1_hotpotqa: { label: "F1, yes/no whole", unit: "%" },
  precision: { label: "Passage precision", unit: "%" },
  step_recall: { label: "Recall of a search", unit: "%" },
  step_precision: { label: "Precision of a search", unit: "%" },
  any_gold: { label: "Any gold passage", unit: "%" },
  grounded: { label: "Facts supported", unit: "%" },
  answer_recorded: { label: "Answer recorded", unit: "%" },
  prefilled_tokens: { label: "Tokens", unit: "prefilled per question" },
  cached_tokens: { label: "Tokens", unit: "cached per question" },
  model_seconds: { label: "Model", unit: "seconds per question" },
  search_seconds: { label: "Search", unit: "seconds per question" },
};

/** A figure of the metric `key`, in its unit. */
function metricText(key, value) {
  if (METRICS[key] && METRICS[key].unit === "%") return percent(value);
  return fixed(value, Math.abs(value) >= 100 ? 0 : 2);
}
