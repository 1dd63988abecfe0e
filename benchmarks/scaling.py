"""How the time of a GRPO step grows: with the group, the length of the answers, the prompts of a batch, and the model's parameters.

    python -m benchmarks.scaling [--steps 6]

One thing is changed at a time; the rest is what the story model starts with (8 prompts × 8 responses of at most 48 tokens). Parameters and
lengths are measured on Llamas of random weights, which almost never end a response, so that the length is what was asked for. A point is
the median over the steps after the first two, without held-out measurements. ``docs/images/scaling.svg`` is drawn from them: the dashed
line is what proportional growth from the last point would be.
"""

from __future__ import annotations

import math
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.measuring import Report, parser, spread
from benchmarks.trl_turns import WARM_UP, our_steps, random_llama
from rlhf.algorithms import make_config
from rlhf.policy import load_pretrained
from rlhf.preferences import load_dataset

PICTURE = Path(__file__).resolve().parents[1] / "docs" / "images" / "scaling.svg"
SHAPES = ((96, 3), (160, 4), (256, 6), (384, 8), (512, 10))  # hidden size, layers: 0.5 to 33 million parameters
Points = list[tuple[float, list[float]]]


def seconds(steps: int, model: str = "story", **fields: Any) -> list[float]:
    """Of each counted step."""
    config = make_config("grpo", model="story", reward="negative", steps=steps + WARM_UP, eval_every=0, eval_prompts=1)
    rows = fields.get("prompts_per_step", config.model_dump()["prompts_per_step"]) * fields.get("group_size", 8)
    config = config.model_copy(update={"model": model, "microbatch_size": min(rows, 64), **fields})
    found = our_steps(config, load_dataset("prompts", config.data))[0][WARM_UP:]
    print(f"  {Path(model).name} {fields or ''}: {spread(found)} s", flush=True)
    return found


def measure(steps: int, folder: Path) -> dict[str, Points]:
    long = random_llama(folder, 160, 4)  # story's shape
    models = {shape: random_llama(folder, *shape) for shape in SHAPES}
    sizes = {shape: load_pretrained(path, "cpu", "float32").parameters for shape, path in models.items()}
    return {
        "responses to a prompt": [(g, seconds(steps, group_size=g)) for g in (2, 4, 8, 16, 32)],
        "tokens of a response": [(t, seconds(steps, long, max_new_tokens=t)) for t in (12, 24, 48, 96, 192)],
        "prompts in a step": [(b, seconds(steps, prompts_per_step=b)) for b in (2, 4, 8, 16, 32)],
        "parameters": [(sizes[shape], seconds(steps, path)) for shape, path in models.items()],
    }


def slope(points: Points) -> float:
    """The exponent between the last two points: 1 where the time grows in proportion."""
    (x, first), (y, second) = points[-2:]
    return math.log(statistics.median(second) / statistics.median(first)) / math.log(y / x)


# ---------------------------------------------------------------- the picture


def draw(measured: dict[str, Points]) -> str:
    """Four panels, both axes logarithmic, as SVG."""
    panels = "".join(_panel(title, points, 10 + 250 * i) for i, (title, points) in enumerate(measured.items()))
    style = "text{font:11px sans-serif;fill:#777}.t{font-size:12px;font-weight:600}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1000 195" role="img" aria-label="Seconds of a GRPO step">'
        f"<style>{style}</style>{panels}</svg>\n"
    )


def _panel(title: str, points: Points, left: float) -> str:
    xs, ys = [x for x, _ in points], [statistics.median(values) for _, values in points]
    lowest, highest = min(*ys, ys[-1] * xs[0] / xs[-1]), max(ys) * 1.15

    def place(x: float, y: float) -> tuple[float, float]:
        across = (math.log(x) - math.log(xs[0])) / (math.log(xs[-1]) - math.log(xs[0]))
        up = (math.log(y) - math.log(lowest)) / (math.log(highest) - math.log(lowest))
        return left + 38 + 185 * across, 165 - 125 * up

    line = " ".join(f"{a:.1f},{b:.1f}" for a, b in (place(x, y) for x, y in zip(xs, ys, strict=True)))
    (a, b), (c, d) = place(xs[0], ys[-1] * xs[0] / xs[-1]), place(xs[-1], ys[-1])
    parts = [
        f'<text class="t" x="{left + 38:.0f}" y="16">{title}</text>',
        f'<line x1="{a:.1f}" y1="{b:.1f}" x2="{c:.1f}" y2="{d:.1f}" stroke="#999" stroke-dasharray="4 3"/>',
        f'<polyline points="{line}" fill="none" stroke="#0072B2" stroke-width="2"/>',
    ]
    for x, y in zip(xs, ys, strict=True):
        across, up = place(x, y)
        parts.append(f'<circle cx="{across:.1f}" cy="{up:.1f}" r="3" fill="#0072B2"/>')
        parts.append(f'<text x="{across:.1f}" y="{up - 8:.1f}" text-anchor="middle">{y:.2g} s</text>')
        parts.append(f'<text x="{across:.1f}" y="185" text-anchor="middle">{_short(x)}</text>')
    return "".join(parts)


def _short(x: float) -> str:
    return f"{x / 1e6:.2g} M" if x >= 1e5 else f"{x:g}"


def check(report: Report, measured: dict[str, Points]) -> None:
    for title, points in measured.items():
        for x, values in points:
            report.check(f"GRPO step, {_short(x)} {title}", values, "s", "none", True)
        report.check(f"GRPO step, exponent in {title} (last two)", [slope(points)], "", "none", True)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser(__doc__)
    options.add_argument("--steps", type=int, default=6, help="that are counted for a point")
    given = options.parse_args(arguments)
    report = Report("scaling")
    with tempfile.TemporaryDirectory() as folder:
        measured = measure(given.steps, Path(folder))
    check(report, measured)
    PICTURE.write_text(draw(measured), encoding="utf-8")
    print(f"The picture: {PICTURE}")
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
