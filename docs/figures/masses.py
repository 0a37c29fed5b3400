#!/usr/bin/env python3
"""Draws docs/masses.svg: the data's density, and the densities that Ember and persistent contrastive divergence (PCD) learn.

  ember train configs/mixture50_jarzynski.toml
  ember train configs/mixture50_pcd.toml
  python3 docs/figures/masses.py runs/mixture50_jarzynski-seed0 runs/mixture50_pcd-seed0 docs/masses.svg

Needs Python alone. Shown is the first coordinate, the one along which the two modes lie apart. Every mode has unit covariance, so its
density there is sum_k mass_k N(x; mean_k, 1). It is read from model.safetensors, exactly; the walkers come from walkers.safetensors.
"""
import json
import math
import struct
import sys
from pathlib import Path

DATA = [(0.25, -10.0), (0.75, 6.0)]  # mass and mean of each mode: [dataset] of both configs
LEFT, RIGHT, TOP = -14.0, 10.0, 0.41  # of the axes
WIDTH, HEIGHT, GAP, HEAD, FOOT = 276, 132, 12, 30, 44  # of a panel and what is around it, in pixels
FORMATS = {"F32": ("f", 4), "F64": ("d", 8), "I64": ("q", 8), "I32": ("i", 4)}


def tensors(path):
    """Every tensor of a safetensors file as (shape, flat values)."""
    blob = path.read_bytes()
    (size,) = struct.unpack("<Q", blob[:8])
    header, body, found = json.loads(blob[8 : 8 + size]), blob[8 + size :], {}
    for name, entry in header.items():
        if name != "__metadata__" and entry["dtype"] in FORMATS:
            letter, width = FORMATS[entry["dtype"]]
            begin, end = entry["data_offsets"]
            found[name] = (entry["shape"], struct.unpack(f"<{(end - begin) // width}{letter}", body[begin:end]))
    return found


def newest(run):
    return run / "checkpoints" / (run / "checkpoints" / "latest").read_text().strip()


def model(run):
    """Mass and first coordinate of the mean of each mode."""
    found = tensors(newest(run) / "model.safetensors")
    (_, dim), means = found["means"]
    return [(math.exp(mass), means[k * dim]) for k, mass in enumerate(found["log_masses"][1])]


def walkers(run, width=0.5):
    """The histogram of the walkers' first coordinate, by weight."""
    found = tensors(newest(run) / "walkers.safetensors")
    (count, dim), position = found["position"]
    log_weights = found["log_weights"][1] if "log_weights" in found else [0.0] * count
    most = max(log_weights)
    weights = [math.exp(a - most) for a in log_weights]
    bins = [0.0] * round((RIGHT - LEFT) / width)
    for i, weight in enumerate(weights):
        place = math.floor((position[i * dim] - LEFT) / width)
        if 0 <= place < len(bins):
            bins[place] += weight
    total = sum(weights) * width
    return [(LEFT + k * width, value / total) for k, value in enumerate(bins)], width


def density(modes, x):
    return sum(mass / math.sqrt(2 * math.pi) * math.exp(-0.5 * (x - mean) ** 2) for mass, mean in modes)


def panel(place, title, colour, modes, histogram):
    x0, y0 = GAP + place * (WIDTH + GAP), HEAD + HEIGHT

    def px(x):
        return x0 + (x - LEFT) / (RIGHT - LEFT) * WIDTH

    def py(y):
        return y0 - min(y, TOP) / TOP * HEIGHT

    grid = [LEFT + i * (RIGHT - LEFT) / 240 for i in range(241)]
    curve = " ".join(f"{px(x):.1f},{py(density(modes, x)):.1f}" for x in grid)
    parts = [
        f'<text x="{x0 + WIDTH / 2}" y="20" font-weight="600">{title}</text>',
        f'<polygon points="{px(LEFT)},{y0} {curve} {px(RIGHT)},{y0}" fill="{colour}" fill-opacity="0.75"/>',
    ]
    if histogram:
        bars, width = histogram
        line = " ".join(f"{px(x):.1f},{py(y):.1f} {px(x + width):.1f},{py(y):.1f}" for x, y in bars)
        parts.append(f'<polyline points="{line}" fill="none" stroke="#222" stroke-width="1"/>')
    parts.append(f'<line x1="{x0}" y1="{y0}" x2="{x0 + WIDTH}" y2="{y0}" stroke="#222"/>')
    for mass, mean in modes:
        text = f"{mass:.4f}".lstrip("0") if min(modes)[0] < 0.01 else f"{mass:.2f}".lstrip("0")
        parts.append(f'<text x="{px(mean):.1f}" y="{y0 + 18}">mass {text}</text>')
    return "\n".join(parts)


def main():
    ember, pcd, out = (Path(argument) for argument in sys.argv[1:4])
    panels = [
        panel(0, "the data", "#9aa0a6", DATA, None),
        panel(1, "Ember", "#e8710a", model(ember), walkers(ember)),
        panel(2, "PCD", "#1a73e8", model(pcd), walkers(pcd)),
    ]
    width, height = 3 * WIDTH + 4 * GAP, HEAD + HEIGHT + FOOT
    note = "filled: the density, on one scale.  black line: the samples that training ends with, by weight"
    out.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="Helvetica, Arial, sans-serif" font-size="13" text-anchor="middle" fill="#222">\n'
        f'<rect width="{width}" height="{height}" fill="#fff"/>\n' + "\n".join(panels) + "\n"
        f'<text x="{width / 2}" y="{height - 7}" font-size="12">{note}</text>\n</svg>\n'
    )


main()
