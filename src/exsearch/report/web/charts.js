// Charts as inline SVG: frames with axes, marks, legends, and the table of values below each.

import { el, svg } from "./dom.js";
import { fixed, isNumber, signed } from "./format.js";
import { linear, tickDigits } from "./scales.js";
import { valueTable } from "./table.js";

export const MARKS = ["circle", "square", "diamond", "triangle"];

/** A card with title, chart, legend and values; `draw(width)` returns the SVG and is called again for each new width. */
export function chartCard({ title, note, legend, draw, values }) {
  const canvas = el("div", { class: "canvas" });
  const card = el(
    "figure",
    { class: "card" },
    el("figcaption", {}, el("h3", {}, title), note ? el("p", { class: "note" }, note) : null),
    legend && legend.length ? el("ul", { class: "legend" }, legend.map(legendItem)) : null,
    canvas,
    values ? valueTable(values) : null,
  );
  let lastWidth = 0;
  new ResizeObserver(() => {
    const width = Math.floor(canvas.clientWidth);
    if (width < 40 || width === lastWidth) return;
    lastWidth = width;
    canvas.replaceChildren(draw(width));
  }).observe(canvas);
  return card;
}

function legendItem({ label, tone, mark, dashed, line, hollow }) {
  const swatch = svg("svg", { class: `swatch ${tone}`, width: 26, height: 12, "aria-hidden": "true" });
  if (line)
    swatch.append(svg("line", { class: `line${dashed ? " dashed" : ""}`, x1: 0, x2: 26, y1: 6, y2: 6 }));
  if (mark === "none") return el("li", {}, swatch, label);
  swatch.append(
    mark
      ? markShape(mark, 13, 6, hollow)
      : svg("rect", { class: "bar", x: 4, y: 0, width: 18, height: 12, rx: 2 }),
  );
  return el("li", {}, swatch, label);
}

/** A mark of radius 5 around (x, y). */
export function markShape(kind, x, y, hollow) {
  const attributes = { class: hollow ? "mark hollow" : "mark" };
  if (kind === "circle") return svg("circle", { ...attributes, cx: x, cy: y, r: 4.5 });
  if (kind === "square") return svg("rect", { ...attributes, x: x - 4, y: y - 4, width: 8, height: 8 });
  const points =
    kind === "diamond"
      ? [
          [0, -5.8],
          [5.8, 0],
          [0, 5.8],
          [-5.8, 0],
        ]
      : [
          [0, -5.2],
          [5.2, 4.2],
          [-5.2, 4.2],
        ];
  return svg("polygon", { ...attributes, points: points.map(([dx, dy]) => `${x + dx},${y + dy}`).join(" ") });
}

function drawing(width, height, label) {
  return svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label });
}

/** An empty plot with a vertical axis. Returns `root`, the inner box and the scale `y`. */
export function plot({ width, height, label, yTicks, yTitle, bottom = 44, right = 14, format }) {
  const digits = tickDigits(yTicks);
  const text = format || ((value) => fixed(value, digits));
  const longest = Math.max(...yTicks.map((tick) => text(tick).length));
  const box = { left: 34 + 6.5 * longest, right: width - right, top: 12, bottom: height - bottom };
  const root = drawing(width, height, label);
  const y = linear([yTicks[0], yTicks[yTicks.length - 1]], [box.bottom, box.top]);
  for (const tick of yTicks) {
    const at = y(tick);
    root.append(svg("line", { class: "grid", x1: box.left, x2: box.right, y1: at, y2: at }));
    root.append(svg("text", { class: "tick", x: box.left - 8, y: at + 4, "text-anchor": "end" }, text(tick)));
  }
  const middle = (box.top + box.bottom) / 2;
  root.append(
    svg(
      "text",
      { class: "axis-title", transform: `translate(13 ${middle}) rotate(-90)`, "text-anchor": "middle" },
      yTitle,
    ),
    svg("line", { class: "axis", x1: box.left, x2: box.right, y1: box.bottom, y2: box.bottom }),
  );
  return { root, box, y };
}

/**
 * An empty plot of rows with a horizontal axis. Returns `root`, the scale `x`, and `y(i)`, the middle of row i.
 * Labels are left of their rows, or above them if they would take more than half of the width.
 */
export function rowPlot({ width, label, labels, row, xTicks, xTitle: title, format }) {
  const digits = tickDigits(xTicks);
  const text = format || ((value) => signed(value, digits));
  const room = 22 + 6.8 * Math.max(...labels.map(({ length }) => length));
  const above = room > width / 2;
  const pitch = above ? row + 16 : row;
  const [left, bottom] = [above ? 20 : room, 8 + labels.length * pitch];
  const root = drawing(width, bottom + 42, label);
  const x = linear([xTicks[0], xTicks.at(-1)], [left, width - 20]);
  const y = (i) => 8 + (i + 1) * pitch - row / 2;
  for (const tick of xTicks) {
    const at = x(tick);
    root.append(
      svg("line", { class: tick === 0 ? "axis" : "grid", x1: at, x2: at, y1: 4, y2: bottom }),
      svg("text", { class: "tick", x: at, y: bottom + 16, "text-anchor": "middle" }, text(tick)),
    );
  }
  const middle = (x(xTicks[0]) + x(xTicks.at(-1))) / 2;
  root.append(svg("text", { class: "axis-title", x: middle, y: bottom + 36, "text-anchor": "middle" }, title));
  labels.forEach((name, i) => {
    const place = above
      ? { x: 4, y: 20 + i * pitch }
      : { x: left - 12, y: y(i) + 4, "text-anchor": "end" };
    root.append(svg("text", { class: "tick strong", ...place }, name));
  });
  return { root, x, y };
}

export function xTitle({ root, box }, text, below = 38) {
  root.append(
    svg(
      "text",
      { class: "axis-title", x: (box.left + box.right) / 2, y: box.bottom + below, "text-anchor": "middle" },
      text,
    ),
  );
}

/** A tick with its label, slanted where there is little room, and a second line below it. */
export function xTick({ root, box }, x, text, second, slanted) {
  const place = slanted
    ? { transform: `translate(${x + 4} ${box.bottom + 15}) rotate(-40)`, "text-anchor": "end" }
    : { x, y: box.bottom + 17, "text-anchor": "middle" };
  root.append(
    svg("line", { class: "axis", x1: x, x2: x, y1: box.bottom, y2: box.bottom + 4 }),
    svg("text", { class: "tick", ...place }, text),
  );
  if (second)
    root.append(svg("text", { class: "tick faint", x, y: box.bottom + 31, "text-anchor": "middle" }, second));
}

/** The numbers of a figure that its marks reach. */
export function ends(figure, whiskers) {
  if (!figure) return [];
  return (whiskers ? [figure.mean, figure.low, figure.high] : [figure.mean]).filter(isNumber);
}

/** A mean with its interval as a vertical bar; `figure` has mean and, optionally, low and high. */
export function interval(root, { x, y, figure, tone, mark, hollow, tip }) {
  const group = svg("g", { class: `point ${tone}` });
  if (isNumber(figure.low) && isNumber(figure.high)) {
    const [low, high] = [y(figure.low), y(figure.high)];
    group.append(
      svg("line", { class: "whisker", x1: x, x2: x, y1: low, y2: high }),
      svg("line", { class: "whisker", x1: x - 4, x2: x + 4, y1: low, y2: low }),
      svg("line", { class: "whisker", x1: x - 4, x2: x + 4, y1: high, y2: high }),
    );
  }
  group.append(markShape(mark, x, y(figure.mean), hollow));
  group.append(svg("circle", { class: "target", cx: x, cy: y(figure.mean), r: 11 }));
  withTip(group, tip);
  root.append(group);
}

/** A bar with a tip, and with a text on it if it fits. */
export function bar(root, { x, y, width, height, tone, tip, text }) {
  const group = svg("g", { class: tone }, svg("rect", { class: "bar", x, y, width: Math.max(width, 1), height }));
  if (text && width > 8 * text.length + 6) {
    const place = { x: x + width / 2, y: y + height / 2 + 4, "text-anchor": "middle" };
    group.append(svg("text", { class: "on-bar", ...place }, text));
  }
  withTip(group, tip);
  root.append(group);
  return group;
}

export function polyline(root, points, tone, dashed) {
  if (points.length < 2) return;
  const path = points.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join(" ");
  root.append(svg("polyline", { class: `line ${tone}${dashed ? " dashed" : ""}`, points: path }));
}

/** Show `text` beside the pointer while it is over `node`. */
export function withTip(node, text) {
  const tip = document.getElementById("tip");
  const move = (event) => {
    tip.textContent = text;
    tip.hidden = false;
    tip.style.left = `${Math.min(event.clientX + 14, window.innerWidth - tip.offsetWidth - 8)}px`;
    tip.style.top = `${Math.max(event.clientY - tip.offsetHeight - 10, 8)}px`;
  };
  node.addEventListener("pointermove", move);
  node.addEventListener("pointerleave", () => {
    tip.hidden = true;
  });
}
