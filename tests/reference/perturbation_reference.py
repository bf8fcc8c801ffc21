"""Perturbation methods as the papers write them: plain loops, one image, numpy."""

import itertools
import math

import numpy as np
import torch
import torch.nn.functional as F


def bilinear(grid, size):
    """Enlarge (h, w) to size, pixel centers at half-integers, edges replicated."""
    out = np.zeros(size)
    for y in range(size[0]):
        for x in range(size[1]):
            sy = min(max((y + 0.5) * grid.shape[0] / size[0] - 0.5, 0), grid.shape[0] - 1)
            sx = min(max((x + 0.5) * grid.shape[1] / size[1] - 0.5, 0), grid.shape[1] - 1)
            y0, x0 = int(sy), int(sx)
            y1, x1 = min(y0 + 1, grid.shape[0] - 1), min(x0 + 1, grid.shape[1] - 1)
            ty, tx = sy - y0, sx - x0
            top = grid[y0, x0] * (1 - tx) + grid[y0, x1] * tx
            bottom = grid[y1, x0] * (1 - tx) + grid[y1, x1] * tx
            out[y, x] = top * (1 - ty) + bottom * ty
    return out


def rise(score, image, fill, grids, offsets, p, centered):
    """Petsiuk 2018, section 3: S = 1 / (N E[M]) sum f(I * M_i) M_i, masks as in section 3.2."""
    height, width = image.shape[1:]
    s = grids.shape[1]
    cell_y, cell_x = math.ceil(height / s), math.ceil(width / s)
    masks, scores = [], []
    for grid, (dy, dx) in zip(grids, offsets, strict=True):
        big = bilinear(grid, ((s + 1) * cell_y, (s + 1) * cell_x))
        mask = big[dy : dy + height, dx : dx + width]
        masks.append(mask)
        scores.append(score(image * mask + fill * (1 - mask)))
    mean = np.mean(masks, axis=0) if centered else 0.0
    total = np.zeros((height, width))
    for mask, value in zip(masks, scores, strict=True):
        total += value * (mask - mean)
    return total / (len(masks) * p)


def occlusion(score, image, fill, window, stride):
    """Zeiler and Fergus 2014: the mean drop over windows that cover a pixel."""
    height, width = image.shape[1:]

    def starts(size):
        found = [0]
        while found[-1] + window < size:
            found.append(min(found[-1] + stride, size - window))
        return found

    total, cover = np.zeros((height, width)), np.zeros((height, width))
    clean = score(image)
    for y in starts(height):
        for x in starts(width):
            hidden = image.copy()
            hidden[:, y : y + window, x : x + window] = fill[:, y : y + window, x : x + window]
            total[y : y + window, x : x + window] += clean - score(hidden)
            cover[y : y + window, x : x + window] += 1
    assert cover.min() >= 1
    return total / cover


def shapley(value, players):
    """Shapley 1953: sum over S without i of |S|! (n - |S| - 1)! / n! (v(S + i) - v(S))."""
    phi = np.zeros(players)
    known = {
        chosen: value(frozenset(chosen))
        for size in range(players + 1)
        for chosen in itertools.combinations(range(players), size)
    }
    for i in range(players):
        others = [j for j in range(players) if j != i]
        for size in range(players):
            factor = math.factorial(size) * math.factorial(players - size - 1)
            for chosen in itertools.combinations(others, size):
                gain = known[tuple(sorted((*chosen, i)))] - known[chosen]
                phi[i] += factor / math.factorial(players) * gain
    return phi


def sobol_total(score, first, second):
    """Jansen 1999 as used by Fel 2021: 1/(2N) sum (f(A) - f(C_i))^2 / V."""
    n, d = first.shape
    whole = [score(row) for row in first]
    mean = sum(whole) / n
    variance = sum((value - mean) ** 2 for value in whole) / (n - 1)
    index = np.zeros(d)
    for i in range(d):
        for j in range(n):
            mixed = first[j].copy()
            mixed[i] = second[j, i]
            index[i] += (whole[j] - score(mixed)) ** 2 / (2 * n * variance)
    return index


def hsic(masks, scores):
    """Gretton 2005: tr(K H L H) / n^2, K the binary kernel, L Gaussian of median width."""
    n, d = masks.shape
    distances = [abs(scores[i] - scores[j]) for i in range(n) for j in range(i)]
    width = sorted(distances)[(len(distances) - 1) // 2]
    out = np.zeros(d)
    centering = np.eye(n) - np.ones((n, n)) / n
    gauss = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            gauss[i, j] = math.exp(-((scores[i] - scores[j]) ** 2) / (2 * width**2))
    for cell in range(d):
        kernel = np.zeros((n, n))
        for i in range(n):
            for j in range(n):
                kernel[i, j] = 0.5 - (masks[i, cell] - masks[j, cell]) ** 2
        out[cell] = np.trace(kernel @ centering @ gauss @ centering) / n**2
    return out


def enlarge(mask, size):
    return F.interpolate(mask[None, None], size=size, mode="bilinear")[0, 0]


def meaningful_perturbation(score, image, blurred, start, shifts, settings):
    """Fong and Vedaldi 2017, equation 6, one image, autograd through everything."""
    mask = start.clone().requires_grad_(True)
    optimizer = torch.optim.Adam([mask], lr=settings["rate"])
    for dy, dx in shifts:
        big = enlarge(mask, image.shape[1:])
        shown = (big * image + (1 - big) * blurred).roll((dy, dx), (1, 2))
        loss = score(shown) + settings["l1"] * (1 - mask).sum()
        loss = loss + settings["tv"] * (mask[1:] - mask[:-1]).abs().pow(settings["beta"]).sum()
        loss = (
            loss + settings["tv"] * (mask[:, 1:] - mask[:, :-1]).abs().pow(settings["beta"]).sum()
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            mask.clamp_(0, 1)
    return 1 - enlarge(mask.detach(), image.shape[1:])


def smooth_mask(bumps, sigma):
    """Fong 2019, section 3.2: m(u) = smax_i k(u - u_i) p_i in the cells and a margin of cells."""
    rows, columns = bumps.shape
    margin, reach = math.ceil(sigma), 1 + math.ceil(sigma)
    lines = []
    for cy in range(-margin, rows + margin):
        for cx in range(-margin, columns + margin):
            values = []
            for i in range(cy - reach, cy + reach + 1):
                for j in range(cx - reach, cx + reach + 1):
                    if 0 <= i < rows and 0 <= j < columns:
                        z = math.hypot(cy - i, cx - j) / sigma
                        values.append(math.exp(-2 * max(0.0, z - 0.5) ** 2) * bumps[i, j])
                    else:
                        values.append(torch.zeros(()))
            stacked = torch.stack(values)
            lines.append((stacked * (20 * stacked).softmax(0)).sum())
    return torch.stack(lines).view(rows + 2 * margin, -1)


def extremal_perturbation(score, levels, shape, sigma, area, steps):
    """Fong 2019: gradient ascent on f(m * x) - l_t |sort(m) - r_a|^2, one image and area."""
    size = levels[0].shape[1:]
    margin = math.ceil(sigma)
    bumps = torch.ones(shape).requires_grad_(True)
    speed = min(8.0, 800 / steps)
    points = (shape[0] + 2 * margin) * (shape[1] + 2 * margin)
    rate = 0.01 * speed * points / 38**2
    optimizer = torch.optim.SGD([bumps], lr=rate, momentum=0.9, dampening=0.9)

    def inside(mask):
        return enlarge(mask[margin:-margin, margin:-margin], size)

    for step in range(steps):
        mask = smooth_mask(bumps, sigma)
        depth = inside(mask) * (len(levels) - 1)
        shown = torch.zeros_like(levels[0])
        for k in range(len(levels) - 1):  # linear between the two nearest levels
            here = depth.detach().floor().clamp(max=len(levels) - 2) == k
            between = levels[k] + (depth - k) * (levels[k + 1] - levels[k])
            shown = shown + here * between
        if step % 2 == 0:
            shown = shown.flip(2)
        reward = score(shown)
        (gain,) = torch.autograd.grad(reward, mask, retain_graph=True)
        keys = zip((mask * 1000).round().flatten().tolist(), gain.flatten().tolist(), strict=True)
        order = [k for _, k in sorted((key, k) for k, key in enumerate(keys))]
        ordered = mask.flatten()[order]
        wanted = torch.zeros_like(ordered)
        wanted[-round(area * shape[0] * shape[1]) :] = 1
        weight = 300 * 1.0035 ** (step * speed)
        loss = -reward + weight * ((ordered - wanted) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            bumps.clamp_(0, 1)
    return inside(smooth_mask(bumps.detach(), sigma))
