"""Draw em-curve.svg from em-curve.json; needs nothing but Python.

    python benchmarks/draw_em_curve.py [JSON] [SVG]

The JSON holds `title`; `n`, the number of test questions; `runs`, each with a `seed`, its `models` in order and for
each model an `em` of `mean`, `low` and `high` (95% interval) between 0 and 1, and optionally `guard`, which says of a
model that its step was shortened (`half`, `quarter`) or `refused`; and, optionally, the baselines `closed_book` and
`majority`, each a number or a list of numbers, one per run. `"placeholder": true` draws a warning across the picture.
"""

import json
import math
import sys
from html import escape
from pathlib import Path

IMAGES = Path(__file__).parent.parent / "docs" / "images"
WIDTH, HEIGHT = 880, 470
LEFT, RIGHT, TOP, BOTTOM = 72, 726, 92, 392
# Told apart by readers with any kind of colour vision (Okabe and Ito).
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b8860b", "#56b4e9")
INK, GREY, RULE = "#1d1c1a", "#6b675e", "#dedad0"
FONT = "-apple-system, 'Segoe UI', 'Liberation Sans', Helvetica, Arial, sans-serif"
NAMES = {"warmup": "warm-up", "closed_book": "closed book", "majority": "commonest answer"}
LABEL_HEIGHT = 17


GUARD = {"half": "half of the step taken", "quarter": "a quarter taken", "refused": "step refused"}
"""What the guard may have done, and what the legend calls it."""


class BadInputError(Exception):
    """The JSON does not say what the picture needs."""


def share(value: object, where: str) -> float:
    """Return `value` if it is a number from 0 to 1."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise BadInputError(f"{where}: {value!r} is not a number from 0 to 1")
    return float(value)


def points_of(run: object, number: int) -> tuple[str, dict[str, tuple[float, float, float]]]:
    """Return the label of a run and, for each of its models, mean, low and high."""
    where = f"runs[{number}]"
    if not isinstance(run, dict) or not run.get("models"):
        raise BadInputError(f"{where}: needs models and em")
    models, figures = run["models"], run.get("em", [])
    if len(models) != len(figures):
        raise BadInputError(f"{where}: {len(models)} models, but {len(figures)} figures in em")
    points = {}
    for model, figure in zip(models, figures, strict=True):
        place = f"{where}, {model}"
        if not isinstance(figure, dict):
            raise BadInputError(f"{place}: {figure!r} is not a figure with mean, low and high")
        mean = share(figure.get("mean"), f"{place}, mean")
        low = share(figure.get("low", mean), f"{place}, low")
        high = share(figure.get("high", mean), f"{place}, high")
        if not low <= mean <= high:
            raise BadInputError(f"{place}: low, mean and high are not in order")
        points[str(model)] = (mean, low, high)
    return f"seed {run.get('seed', number + 1)}", points


def guard_of(run: dict[str, object], number: int) -> dict[str, str]:
    """Return what the guard of a run did, by model."""
    found = run.get("guard", {})
    if not isinstance(found, dict) or not set(found.values()) <= set(GUARD):
        raise BadInputError(f"runs[{number}], guard: needs {', '.join(GUARD)} by model")
    return found


def mark(kind: str | None, x: float, y: float, colour: str) -> str:
    """Return a model's mark: filled, or as the guard left its step."""
    if kind == "refused":
        return f'<path d="M{x - 5:.1f} {y - 5:.1f}l10 10m0 -10l-10 10" stroke="{colour}" stroke-width="2.5"/>'
    if kind is None:
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>'
    inner = "" if kind == "half" else f'<circle cx="{x:.1f}" cy="{y:.1f}" r="1.5" fill="{colour}"/>'
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" fill="#fbfaf7" stroke="{colour}" stroke-width="2"/>{inner}'


def baselines_of(data: dict[str, object]) -> list[tuple[str, float]]:
    """Return name and height of the baselines that are there; several values are averaged."""
    found = []
    for key in ("closed_book", "majority"):
        value = data.get(key)
        if value is None:
            continue
        values = value if isinstance(value, list) else [value]
        if values:
            found.append((NAMES[key], sum(share(v, key) for v in values) / len(values)))
    return found


def order_of(models: set[str]) -> list[str]:
    """Return the models as they were trained: warm-up, then the iterations by number."""
    return sorted(models, key=lambda name: (name != "warmup", int("".join(filter(str.isdigit, name)) or 0), name))


def spread(heights: list[float], least: float) -> list[float]:
    """Return label positions near `heights`, in the same order, no two closer than `least`."""
    placed = [0.0] * len(heights)
    last = -math.inf
    for index in sorted(range(len(heights)), key=lambda i: heights[i]):
        last = placed[index] = max(heights[index], last + least)
    return placed


def draw(data: dict[str, object]) -> str:
    """Return the SVG."""
    runs = data.get("runs")
    if not isinstance(runs, list) or not runs:
        raise BadInputError("runs: there are none")
    lines = [points_of(run, number) for number, run in enumerate(runs)]
    guards = [guard_of(run, number) for number, run in enumerate(runs)]
    baselines = baselines_of(data)
    models = order_of({model for _, points in lines for model in points})
    highest = max([high for _, points in lines for _, _, high in points.values()] + [h for _, h in baselines])
    top = min(1.0, max(0.1, math.ceil(highest * 10 - 1e-9) / 10))

    def x_of(model: str) -> float:
        return LEFT + (RIGHT - LEFT) * (models.index(model) + 0.5) / len(models)

    def y_of(value: float) -> float:
        return BOTTOM - (BOTTOM - TOP) * value / top

    def text(x: float, y: float, words: str, fill: str = INK, size: int = 13, more: str = "") -> str:
        return f'<text x="{x:.1f}" y="{y:.1f}" fill="{fill}" font-size="{size}"{more}>{escape(words)}</text>'

    title = str(data.get("title", "Exact match after each EM iteration"))
    n = data.get("n")
    questions = "test questions" if n is None else f"{n} test questions per run"
    described = "; ".join(
        f"{label}: "
        + ", ".join(
            f"{NAMES.get(m, m)} {points[m][0]:.1%}" + (f" ({GUARD[guard[m]]})" if m in guard else "")
            for m in models
            if m in points
        )
        for (label, points), guard in zip(lines, guards, strict=True)
    )
    described += "".join(f"; {name} {value:.1%}" for name, value in baselines)
    svg = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-labelledby="title desc" font-family="{FONT}">',
        f'<title id="title">{escape(title)}</title>',
        f'<desc id="desc">{escape(described)}</desc>',
        f'<rect x="1" y="1" width="{WIDTH - 2}" height="{HEIGHT - 2}" rx="10" fill="#fbfaf7" stroke="#c9c5bb" '
        'stroke-width="1.5"/>',
        text(24, 36, title, size=16, more=' font-weight="600"'),
        text(24, 58, f"Exact match on {questions}; whiskers: 95% bootstrap intervals", GREY),
    ]
    # Grid.
    step = 0.1 if top > 0.35 else 0.05
    for tick in range(round(top / step) + 1):
        y = y_of(tick * step)
        svg.append(f'<line x1="{LEFT}" y1="{y:.1f}" x2="{RIGHT}" y2="{y:.1f}" stroke="{RULE}"/>')
        svg.append(text(LEFT - 10, y + 4.5, f"{tick * step:.0%}", GREY, more=' text-anchor="end"'))
    for model in models:
        svg.append(text(x_of(model), BOTTOM + 24, NAMES.get(model, model), INK, 14, ' text-anchor="middle"'))
    # Baselines, their labels in the right margin.
    for (name, value), y in zip(baselines, spread([y_of(v) for _, v in baselines], LABEL_HEIGHT), strict=True):
        height = y_of(value)
        svg.append(
            f'<line x1="{LEFT}" y1="{height:.1f}" x2="{RIGHT}" y2="{height:.1f}" stroke="{GREY}" '
            'stroke-dasharray="5 4" stroke-width="1.5"/>'
        )
        svg.append(text(RIGHT + 8, y + 4.5, f"{name} {value:.0%}", GREY, 12))
    # Runs, side by side within each model's column.
    for number, (label, points) in enumerate(lines):
        colour = COLOURS[number % len(COLOURS)]
        offset = (number - (len(lines) - 1) / 2) * min(14.0, 60.0 / len(lines))
        own = [m for m in models if m in points]
        places = [(x_of(m) + offset, *(y_of(v) for v in points[m])) for m in own]
        path = " ".join(f"{x:.1f},{mean:.1f}" for x, mean, _, _ in places)
        svg.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5" opacity="0.75"/>')
        for model, (x, mean, low, high) in zip(own, places, strict=True):
            svg.append(
                f'<path d="M{x:.1f} {low:.1f}V{high:.1f}M{x - 4:.1f} {low:.1f}h8M{x - 4:.1f} {high:.1f}h8" '
                f'stroke="{colour}" stroke-width="1.5" fill="none"/>'
            )
            svg.append(mark(guards[number].get(model), x, mean, colour))
        row, column = divmod(number, 6)
        x, y = LEFT + 104 * column, BOTTOM + 54 + 16 * row
        svg.append(f'<circle cx="{x + 5}" cy="{y - 4}" r="4" fill="{colour}"/>')
        svg.append(text(x + 15, y, label, GREY))
    # What the guard did, where it did anything.
    for number, kind in enumerate(kind for kind in GUARD if any(kind in guard.values() for guard in guards)):
        x = RIGHT - 190.0 * number
        svg.append(mark(kind, x - 8, 54, GREY))
        svg.append(text(x - 16, 58, GUARD[kind], GREY, 12, ' text-anchor="end"'))
    # Mean over the runs, where there are several and all have the model.
    shared = [m for m in models if all(m in points for _, points in lines)]
    if len(lines) > 1 and shared:
        means = [sum(points[m][0] for _, points in lines) / len(lines) for m in shared]
        path = " ".join(f"{x_of(m):.1f},{y_of(mean):.1f}" for m, mean in zip(shared, means, strict=True))
        svg.append(f'<polyline points="{path}" fill="none" stroke="{INK}" stroke-width="3"/>')
        row, column = divmod(len(lines), 6)
        x, y = LEFT + 104 * column, BOTTOM + 54 + 16 * row
        svg.append(f'<line x1="{x}" y1="{y - 4}" x2="{x + 20}" y2="{y - 4}" stroke="{INK}" stroke-width="3"/>')
        svg.append(text(x + 27, y, "mean", GREY))
    else:
        shared = [m for m in models if m in lines[0][1]]
        means = [lines[0][1][m][0] for m in shared]
    half = min(14.0, 60.0 / len(lines)) * (len(lines) - 1) / 2
    for model, mean in zip(shared, means, strict=True):
        svg.append(text(x_of(model) + half + 12, y_of(mean) + 21, f"{mean:.1%}", INK, 14, ' font-weight="600"'))
    if data.get("placeholder"):
        svg.append(
            f'<text x="{(LEFT + RIGHT) / 2}" y="{(TOP + BOTTOM) / 2}" text-anchor="middle" font-size="64" '
            'font-weight="700" fill="#b00020" opacity="0.35" '
            f'transform="rotate(-16 {(LEFT + RIGHT) / 2} {(TOP + BOTTOM) / 2})">PLACEHOLDER</text>'
        )
    return "\n".join([*svg, "</svg>", ""])


def main() -> int:
    """Read, draw, write; return the exit code."""
    source = Path(sys.argv[1]) if len(sys.argv) > 1 else IMAGES / "em-curve.json"
    target = Path(sys.argv[2]) if len(sys.argv) > 2 else source.with_suffix(".svg")
    try:
        data = json.loads(source.read_text(encoding="utf-8"))
        if not isinstance(data, dict):
            raise BadInputError("is not a JSON object")
        svg = draw(data)
    except (OSError, ValueError, BadInputError) as error:
        print(f"error: {source}: {error}", file=sys.stderr)
        return 2
    target.write_text(svg, encoding="utf-8")
    print(target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
