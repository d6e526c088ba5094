"""A plot of bytes as SVG: bars for each pair, on a logarithmic scale, the reference as a line across them."""

from math import ceil, floor, log10
from xml.sax.saxutils import escape

LABEL_WIDTH, BAR_WIDTH, VALUE_WIDTH = 300, 420, 90
BAR_HEIGHT, BAR_STEP, PAIR_HEAD, MARGIN = 16, 22, 34, 16
COLOURS = {True: "#1b6ca8", False: "#9aa5b1"}


def bars(pairs):
    """The plot of {pair: {contestant: bytes}}; the key `reference` of a pair is its line, and the first other key is ours."""
    amounts = [amount for column in pairs.values() for amount in column.values()]
    low, high = floor(log10(min(amounts))), ceil(log10(max(amounts)))
    width = 2 * MARGIN + LABEL_WIDTH + BAR_WIDTH + VALUE_WIDTH

    def across(amount):
        return MARGIN + LABEL_WIDTH + BAR_WIDTH * (log10(amount) - low) / max(1, high - low)

    parts, top = [], MARGIN
    for title, column in pairs.items():
        bars_of = {name: amount for name, amount in column.items() if name != "reference"}
        bottom = top + PAIR_HEAD + BAR_STEP * len(bars_of)
        parts.append(text(MARGIN, top + 20, title, weight="bold"))
        for power in range(low, high + 1):
            x = across(10 ** power)
            parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top + PAIR_HEAD - 4}" y2="{bottom}" stroke="#e3e7eb"/>')
            parts.append(text(x, top + PAIR_HEAD - 8, unit(10 ** power), anchor="middle", size=10))
        for number, (name, amount) in enumerate(bars_of.items()):
            y, right = top + PAIR_HEAD + BAR_STEP * number, across(amount)
            left = MARGIN + LABEL_WIDTH
            parts.append(text(left - 8, y + 12, name, anchor="end"))
            parts.append(f'<rect x="{left}" y="{y}" width="{max(1, right - left):.1f}" height="{BAR_HEIGHT}" fill="{COLOURS[number == 0]}"/>')
            parts.append(text(right + 6, y + 12, f"{amount / 1e6:.2f} MB"))
        x = across(column["reference"])
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top + PAIR_HEAD - 4}" y2="{bottom}" stroke="#c0392b" stroke-dasharray="4 3"/>')
        top = bottom + MARGIN
    parts.append(text(MARGIN, top + 8, "Bytes of one update, logarithmic. Dashed: the cheapest known way for each changed file.", size=11))
    height = top + 2 * MARGIN
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
            f'font-family="sans-serif">\n<rect width="{width}" height="{height}" fill="white"/>\n' + "\n".join(parts) + "\n</svg>\n")


def text(x, y, words, anchor="start", size=12, weight="normal"):
    """Words at a place."""
    return (f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" font-weight="{weight}" text-anchor="{anchor}" '
            f'fill="#222">{escape(words)}</text>')


def unit(amount):
    """A power of ten in the unit in which it is short."""
    for factor, name in ((10 ** 9, "GB"), (10 ** 6, "MB"), (10 ** 3, "kB")):
        if amount >= factor:
            return f"{amount // factor} {name}"
    return f"{amount} B"
