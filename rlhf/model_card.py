"""The learning curve on a model card: a small SVG, drawn from a training log without any plotting library."""

from __future__ import annotations

import json
import math
from pathlib import Path

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 560, 240, 52, 40, 30, 16
INK, GRID, LINE = "#666666", "#cccccc", "#0072B2"  # legible on white and on black


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) from ``low`` to ``high``."""
    rough = (high - low) / about or 1.0
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    return [round(step * i, 10) for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def draw_curve(log: Path, out: Path, key: str, title: str) -> None:
    """Draw ``key`` against the step, from a log of JSON lines, and write it to ``out``; nothing is written for an empty log."""
    records = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    points = [(record["step"], record[key]) for record in records if key in record]
    if not points:
        return
    steps, values = zip(*points, strict=True)
    low, high = min(values), max(values)
    margin = 0.05 * (high - low or abs(high) or 1.0)
    low, high = low - margin, high + margin

    def x(step: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * step / max(steps)

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / (high - low)

    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" font-family="sans-serif" font-size="12" '
        f'fill="{INK}" role="img" aria-label="{title}">',
        f'<text x="{LEFT}" y="18">{title}</text>',
    ]
    for tick in ticks(low, high):
        lines.append(f'<path d="M{LEFT} {y(tick):.1f}H{WIDTH - RIGHT}" stroke="{GRID}" stroke-width="0.5"/>')
        lines.append(f'<text x="{LEFT - 8}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for tick in ticks(0, max(steps)):
        lines.append(f'<text x="{x(tick):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{tick:g}</text>')
    lines.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2:.0f}" y="{HEIGHT - 6}" text-anchor="middle">step</text>')
    path = " ".join(f"{x(step):.1f},{y(value):.1f}" for step, value in points)
    lines.append(f'<polyline points="{path}" fill="none" stroke="{LINE}" stroke-width="2" stroke-linejoin="round"/>')
    lines += [f'<circle cx="{x(step):.1f}" cy="{y(value):.1f}" r="2" fill="{LINE}"/>' for step, value in points if len(points) <= 40]
    out.write_text("\n".join([*lines, "</svg>"]) + "\n", encoding="utf-8")
