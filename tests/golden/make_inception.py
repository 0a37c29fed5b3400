#!/usr/bin/env python3
"""Writes inception_pytorch.safetensors beside itself: the features of a few small images under the FID Inception-v3, as PyTorch computes them.

Needs torch and safetensors (which writes through numpy). The network is Inception-v3 as the FID reference implementation
has it (Szegedy et al. 2016; Heusel et al. 2017; PyTorch port: pytorch-fid): average pools leave the padding out, the last
block pools by the maximum, batch normalisation has epsilon 1e-3. Names of tensors are those of pytorch-fid's .pth file.

The 21.8 million weights and the bytes of the images are not stored: they are `uniform(name, i)` below, an integer hash
that tests/tests/features.rs computes too. The file holds, float32:
  features.{case} [n, 2048]     for the images of CASES, computed in float64 and rounded once
"""
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

HERE = Path(__file__).resolve().parent
# n, channels, height, width: colour, grey (its channel is repeated), larger than the network's input
CASES = {"colour": (2, 3, 32, 36), "grey": (1, 1, 28, 28), "large": (1, 3, 310, 40)}


def uniform(name, count):
    """`count` numbers in [0, 1) with 24 bits: FNV-1a of the name, then the finaliser of MurmurHash3 on `hash + 0x9E3779B9 i`."""
    seed = 0x811C9DC5
    for byte in name.encode():
        seed = (seed ^ byte) * 0x01000193 & 0xFFFFFFFF
    x = (np.arange(count, dtype=np.uint64) * 0x9E3779B9 + seed & 0xFFFFFFFF).astype(np.uint32)
    x ^= x >> 16
    x *= np.uint32(0x85EBCA6B)
    x ^= x >> 13
    x *= np.uint32(0xC2B2AE35)
    x ^= x >> 16
    return (x >> 8).astype(np.float32) * np.float32(2.0**-24)


def tensor(name, shape):
    """Convolutions: variance 2 / fan_in. Batch normalisation: scale and variance in [.75, 1.25), shift and mean in [-.1, .1)."""
    u = uniform(name, int(np.prod(shape)))
    if name.endswith("conv.weight"):
        u = (u - np.float32(0.5)) * np.float32((24.0 / np.prod(shape[1:])) ** 0.5)
    elif name.endswith(("bn.weight", "bn.running_var")):
        u = np.float32(0.75) + u * np.float32(0.5)
    else:
        u = (u - np.float32(0.5)) * np.float32(0.2)
    return torch.from_numpy(u.reshape(shape))


def images(case, shape):
    """Bytes: blocks of 4 x 4 pixels of one colour plus fine noise, so that images differ at the scale the network sees."""
    n, c, h, w = shape
    coarse = uniform(f"coarse.{case}", n * c * (-(-h // 4)) * (-(-w // 4))).reshape(n, c, -(-h // 4), -(-w // 4))
    coarse = coarse.repeat(4, 2).repeat(4, 3)[:, :, :h, :w]
    fine = uniform(f"fine.{case}", n * c * h * w).reshape(shape)
    return np.floor(coarse * np.float32(200) + fine * np.float32(55)).astype(np.uint8)


class Unit(nn.Module):
    def __init__(self, i, o, kernel, stride=1, padding=0):
        super().__init__()
        self.conv = nn.Conv2d(i, o, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(o, eps=1e-3)

    def forward(self, x):
        return F.relu(self.bn(self.conv(x)))


def average(x):
    return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)


def padded_average(x):
    return F.avg_pool2d(x, 3, 1, 1)


class A(nn.Module):
    def __init__(self, i, pool):
        super().__init__()
        self.branch1x1 = Unit(i, 64, 1)
        self.branch5x5_1, self.branch5x5_2 = Unit(i, 48, 1), Unit(48, 64, 5, padding=2)
        self.branch3x3dbl_1, self.branch3x3dbl_2 = Unit(i, 64, 1), Unit(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = Unit(96, 96, 3, padding=1)
        self.branch_pool = Unit(i, pool, 1)

    def forward(self, x):
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch1x1(x), self.branch5x5_2(self.branch5x5_1(x)), double, self.branch_pool(average(x))], 1)


class B(nn.Module):
    def __init__(self, i):
        super().__init__()
        self.branch3x3 = Unit(i, 384, 3, 2)
        self.branch3x3dbl_1, self.branch3x3dbl_2 = Unit(i, 64, 1), Unit(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = Unit(96, 96, 3, 2)

    def forward(self, x):
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), double, F.max_pool2d(x, 3, 2)], 1)


class C(nn.Module):
    def __init__(self, i, c):
        super().__init__()
        row, column = {"kernel": (1, 7), "padding": (0, 3)}, {"kernel": (7, 1), "padding": (3, 0)}
        self.branch1x1 = Unit(i, 192, 1)
        self.branch7x7_1, self.branch7x7_2, self.branch7x7_3 = Unit(i, c, 1), Unit(c, c, **row), Unit(c, 192, **column)
        self.branch7x7dbl_1, self.branch7x7dbl_2 = Unit(i, c, 1), Unit(c, c, **column)
        self.branch7x7dbl_3, self.branch7x7dbl_4 = Unit(c, c, **row), Unit(c, c, **column)
        self.branch7x7dbl_5 = Unit(c, 192, **row)
        self.branch_pool = Unit(i, 192, 1)

    def forward(self, x):
        single = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return torch.cat([self.branch1x1(x), single, double, self.branch_pool(average(x))], 1)


class D(nn.Module):
    def __init__(self, i):
        super().__init__()
        self.branch3x3_1, self.branch3x3_2 = Unit(i, 192, 1), Unit(192, 320, 3, 2)
        self.branch7x7x3_1, self.branch7x7x3_2 = Unit(i, 192, 1), Unit(192, 192, (1, 7), padding=(0, 3))
        self.branch7x7x3_3, self.branch7x7x3_4 = Unit(192, 192, (7, 1), padding=(3, 0)), Unit(192, 192, 3, 2)

    def forward(self, x):
        seven = self.branch7x7x3_4(self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x))))
        return torch.cat([self.branch3x3_2(self.branch3x3_1(x)), seven, F.max_pool2d(x, 3, 2)], 1)


class E(nn.Module):
    def __init__(self, i, pool):
        super().__init__()
        self.pool = pool
        row, column = {"kernel": (1, 3), "padding": (0, 1)}, {"kernel": (3, 1), "padding": (1, 0)}
        self.branch1x1 = Unit(i, 320, 1)
        self.branch3x3_1 = Unit(i, 384, 1)
        self.branch3x3_2a, self.branch3x3_2b = Unit(384, 384, **row), Unit(384, 384, **column)
        self.branch3x3dbl_1, self.branch3x3dbl_2 = Unit(i, 448, 1), Unit(448, 384, 3, padding=1)
        self.branch3x3dbl_3a, self.branch3x3dbl_3b = Unit(384, 384, **row), Unit(384, 384, **column)
        self.branch_pool = Unit(i, 192, 1)

    def forward(self, x):
        single = self.branch3x3_1(x)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        return torch.cat([
            self.branch1x1(x), self.branch3x3_2a(single), self.branch3x3_2b(single),
            self.branch3x3dbl_3a(double), self.branch3x3dbl_3b(double), self.branch_pool(self.pool(x)),
        ], 1)


class Inception(nn.Module):
    def __init__(self, last_pool=lambda x: F.max_pool2d(x, 3, 1, 1)):
        super().__init__()
        self.Conv2d_1a_3x3, self.Conv2d_2a_3x3 = Unit(3, 32, 3, 2), Unit(32, 32, 3)
        self.Conv2d_2b_3x3 = Unit(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1, self.Conv2d_4a_3x3 = Unit(64, 80, 1), Unit(80, 192, 3)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = A(192, 32), A(256, 64), A(288, 64)
        self.Mixed_6a = B(288)
        self.Mixed_6b, self.Mixed_6c, self.Mixed_6d, self.Mixed_6e = C(768, 128), C(768, 160), C(768, 160), C(768, 192)
        self.Mixed_7a = D(768)
        self.Mixed_7b, self.Mixed_7c = E(1280, average), E(2048, last_pool)

    def forward(self, x):
        """`[n, 3, h, w]` in [0, 1] to `[n, 2048]`."""
        x = F.interpolate(x, size=(299, 299), mode="bilinear", align_corners=False)
        x = 2 * x - 1
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(F.max_pool2d(x, 3, 2)))
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(F.max_pool2d(x, 3, 2))))
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))))
        x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))
        return x.mean((2, 3))


def filled(network):
    weights = {name: tensor(name, value.shape) for name, value in network.state_dict().items() if "tracked" not in name}
    network.load_state_dict(weights, strict=False)
    return network.eval().requires_grad_(False)


def relative(a, b):
    return float((a.double() - b).abs().max() / b.abs().max())


if __name__ == "__main__":
    torch.set_num_threads(1)
    single, exact = filled(Inception()), filled(Inception()).double()
    # torchvision's network in two of its differences, one at a time
    pool, padded = filled(Inception(average)).double(), filled(Inception()).double()
    padded.Mixed_7b.pool = padded_average
    found = {}
    for case, shape in CASES.items():
        x = torch.from_numpy(images(case, shape)).double() / 255
        x = x.expand(-1, 3, -1, -1)
        features = exact(x)
        found[f"features.{case}"] = features.float().contiguous()
        print(f"{case}: mean {features.mean():.5f}, std over features {features.std(1).mean():.5f}, largest {features.max():.4f}")
        off = [relative(network(y), features) for network, y in [(single, x.float()), (pool, x), (padded, x)]]
        print("  off: float32 {:.1e}, an average as the last pool {:.1e}, padding counted in one block {:.1e}".format(*off))
        assert off[0] < 1e-5 < 1e-2 < min(off[1:])
    a, b = found["features.colour"]
    print(f"the two colour images differ by {relative(a, b.double()):.2e} of the largest feature")
    save_file(found, HERE / "inception_pytorch.safetensors")
