"""Mosaic metrics in plain loops, written from the papers."""


def build(cells):
    """Bohle et al. 2021: n x n images side by side; cells[k][c][y][x] to mosaic[c][y][x]."""
    n = round(len(cells) ** 0.5)
    channels, height, width = len(cells[0]), len(cells[0][0]), len(cells[0][0][0])
    return [
        [
            [
                cells[(y // height) * n + x // width][c][y % height][x % width]
                for x in range(n * width)
            ]
            for y in range(n * height)
        ]
        for c in range(channels)
    ]


def cell_share(a, n, wanted):
    """Rao et al. 2022: positive attribution in the wanted cells over all positive attribution."""
    height, width = len(a), len(a[0])
    inside = total = 0.0
    for y in range(height):
        for x in range(width):
            value = max(0.0, a[y][x])
            total += value
            if (y * n // height) * n + x * n // width in wanted:
                inside += value
    return inside / total if total > 0 else 0.0
