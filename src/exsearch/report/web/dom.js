// Elements of the page. Text is inserted as text nodes only, never as markup.

/** An HTML element; children are nodes, or text, or null to skip. */
export function el(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** An SVG element. */
export function svg(tag, attributes = {}, ...children) {
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

export function append(node, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    node.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
}

export function absent(text) {
  return el("p", { class: "absent" }, text);
}

export function badge(kind, text, title) {
  return el("span", { class: `badge ${kind}`, title }, text);
}

/** A select; `options` are [value, label]. */
export function select(label, options, value, onChange) {
  const box = el(
    "select",
    { change: (event) => onChange(event.target.value) },
    options.map(([key, text]) => el("option", { value: key, selected: key === value }, text)),
  );
  return el("label", { class: "field" }, el("span", {}, label), box);
}
