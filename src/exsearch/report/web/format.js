// Formats numbers and names for the reader.

export const MINUS = "\u2212";

export const DASH = "\u2013";

export function isNumber(value) {
  return typeof value === "number" && Number.isFinite(value);
}

export function sum(values) {
  return values.reduce((before, value) => before + value, 0);
}

/** A number with a true minus sign; a dash if there is none. */
export function fixed(value, digits) {
  if (!isNumber(value)) return DASH;
  const text = Math.abs(value).toFixed(digits);
  return value < 0 && Number(text) !== 0 ? MINUS + text : text;
}

export function signed(value, digits) {
  const text = fixed(value, digits);
  return isNumber(value) && value > 0 && Number(text) !== 0 ? `+${text}` : text;
}

/** A share in percent, without the percent sign. */
export function percent(value, digits = 1) {
  return isNumber(value) ? fixed(100 * value, digits) : DASH;
}

export function whole(value) {
  return isNumber(value) ? Math.round(value).toLocaleString("en") : DASH;
}

export function plural(count, noun) {
  if (count === 1) return `1 ${noun}`;
  if (noun.endsWith("y")) return `${whole(count)} ${noun.slice(0, -1)}ies`;
  return `${whole(count)} ${noun}${/(s|ch|x)$/.test(noun) ? "es" : "s"}`;
}

export function duration(seconds) {
  if (!isNumber(seconds)) return DASH;
  if (seconds < 60) return `${fixed(seconds, 1)} s`;
  const [minutes, rest] = [Math.floor(Math.round(seconds) / 60), Math.round(seconds) % 60];
  return minutes < 60
    ? `${minutes} min ${twoDigits(rest)} s`
    : `${Math.floor(minutes / 60)} h ${twoDigits(minutes % 60)} min`;
}

function twoDigits(value) {
  return String(value).padStart(2, "0");
}

/** `max_steps` as `max steps`. */
export function words(identifier) {
  return String(identifier).replaceAll("_", " ");
}
