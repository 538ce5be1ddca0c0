"""What a row measures: figures, each with its bar and its peer, and how they are shown."""

import dataclasses


class CannotMeasure(Exception):
    """What is missing, and what to do about it."""


@dataclasses.dataclass
class Figure:
    """One measured number. Without a bar it is told for orientation and always holds."""

    what: str
    value: float
    unit: str = ""
    at_least: float | None = None
    at_most: float | None = None
    peer: float | None = None
    peer_name: str = ""

    @property
    def holds(self):
        # Written so that NaN does not hold.
        above = self.at_least is None or self.value >= self.at_least
        return above and (self.at_most is None or self.value <= self.at_most)

    @property
    def ratio(self):
        """Ours over theirs."""
        return self.value / self.peer if self.peer else None

    @property
    def bar(self):
        if self.at_least is not None:
            return f">= {number(self.at_least)}"
        return f"<= {number(self.at_most)}" if self.at_most is not None else ""

    def as_dict(self):
        verdict = self.holds if self.bar else None
        return {**dataclasses.asdict(self), "bar": self.bar, "ratio": self.ratio, "holds": verdict}


@dataclasses.dataclass
class Measured:
    """The outcome of a row. The first figure is its headline."""

    figures: list
    notes: list = dataclasses.field(default_factory=list)

    @property
    def holds(self):
        return bool(self.figures) and all(figure.holds for figure in self.figures)

    def as_dict(self):
        first = self.figures[0]
        return {
            "value": first.value,
            "peer": first.peer,
            "ratio": first.ratio,
            "holds": self.holds,
            "figures": [figure.as_dict() for figure in self.figures],
            "notes": self.notes,
        }


def number(value):
    """Four digits that matter, thousands apart."""
    if value is None:
        return ""
    if abs(value) >= 1_000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def table(rows, head):
    """Aligned columns; the first is text, so is the last."""
    rows = [head, *rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
    return "\n".join(lines)


def show(measured):
    """The figures of a row as a table, then its notes."""
    head = ("figure", "measured", "bar", "peer", "ratio", "holds", "peer is")
    rows = []
    for figure in measured.figures:
        holds = "" if not figure.bar else "yes" if figure.holds else "NO"
        value = f"{number(figure.value)} {figure.unit}".strip()
        ratio = number(figure.ratio)
        rows.append((figure.what, value, figure.bar, number(figure.peer), ratio, holds, figure.peer_name))
    return "\n".join([table(rows, head), *measured.notes])
