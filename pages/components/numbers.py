"""How numbers are written: three significant digits, with their unit, and a true minus sign."""

from __future__ import annotations

import math

from pages.components.i18n import _


def number(value: float | None, unit: str = "", *, sign: bool = False) -> str:
    """``0.41234`` → ``0.412``; ``12345`` → ``12,300``; a ``share`` in per cent; ``sign`` writes the plus too; None and NaN → ``–``."""
    if value is None or not math.isfinite(value):
        return "–"
    if unit == "share":
        value, unit = value * 100, "%"
    size = float(f"{abs(value):.3g}")
    if size == 0:
        text = "0"
    elif size >= 1000:
        text = f"{size:,.0f}"
    elif size < 0.001:
        text = f"{size:.2e}"
    else:
        digits = max(0, 2 - math.floor(math.log10(size)))
        text = f"{size:.{digits}f}"
    mark = "−" if value < 0 and size > 0 else "+" if sign and size > 0 else ""
    return f"{mark}{text} {unit}" if unit else f"{mark}{text}"


def duration(seconds: float | None) -> str:
    """Seconds in words that fit a status line: ``8 s``, ``3 min 20 s``, ``2 h 5 min``."""
    if seconds is None or not math.isfinite(seconds):
        return "–"
    whole = max(0, round(seconds))
    if whole < 60:
        return _("{seconds} s").format(seconds=whole)
    if whole < 3600:
        return _("{minutes} min {seconds} s").format(minutes=whole // 60, seconds=whole % 60)
    return _("{hours} h {minutes} min").format(hours=whole // 3600, minutes=whole % 3600 // 60)


def megabytes(size: float | None) -> str:
    """Bytes as MiB or GiB."""
    if size is None:
        return "–"
    mib = size / 2**20
    return f"{number(mib / 1024)} GiB" if mib >= 1000 else f"{number(mib)} MiB"
