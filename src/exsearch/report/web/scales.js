// Scales from values to pixels, and ticks.

/** Steps of 1, 2, 2.5 or 5 times a power of ten that cover [low, high] in about `count` steps. */
export function niceTicks(low, high, count = 5) {
  if (!(high > low)) [low, high] = [low - (Math.abs(low) || 1) / 2, high + (Math.abs(high) || 1) / 2];
  const raw = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((size) => size >= raw * 0.999);
  const first = Math.floor(low / step + 1e-9);
  const last = Math.ceil(high / step - 1e-9);
  const ticks = [];
  for (let i = first; i <= last; i += 1) ticks.push(Number((i * step).toPrecision(12)));
  return ticks;
}

/** The number of decimals at which neighbouring ticks differ. */
export function tickDigits(ticks) {
  const step = ticks.length > 1 ? ticks[1] - ticks[0] : 1;
  let digits = 0;
  while (digits < 6 && Math.abs(Number(step.toFixed(digits)) - step) > step * 1e-6) digits += 1;
  return digits;
}

export function linear(from, to) {
  const slope = (to[1] - to[0]) / (from[1] - from[0] || 1);
  return (value) => to[0] + (value - from[0]) * slope;
}

/** The middle of each of `count` equal bands. */
export function bands(box, count) {
  return (i) => box.left + ((box.right - box.left) * (i + 0.5)) / count;
}
