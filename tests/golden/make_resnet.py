#!/usr/bin/env python3
"""Writes resnet_pytorch.safetensors and resnet_spectral_pytorch.safetensors beside itself.

As make.py, with the tensors of a residual network under the names of a PyTorch module; `grad.` stands before a name for the
weighted gradient. Without norm and with spectral norm (exact singular values), with group norm and without spectral norm.
"""
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

HERE = Path(__file__).resolve().parent
SHAPE, CHANNELS, BLOCKS, GROUPS, CONFINEMENT = (2, 10, 13), [4, 6, 6], 2, 2, 0.001


class Block(torch.nn.Module):
    def __init__(self, before, after, norm):
        super().__init__()
        self.norm1 = torch.nn.GroupNorm(GROUPS, before) if norm else torch.nn.Identity()
        self.conv1 = torch.nn.Conv2d(before, after, 3, padding=1)
        self.norm2 = torch.nn.GroupNorm(GROUPS, after) if norm else torch.nn.Identity()
        self.conv2 = torch.nn.Conv2d(after, after, 3, padding=1)
        self.skip = torch.nn.Conv2d(before, after, 1, bias=False) if before != after else torch.nn.Identity()

    def forward(self, x):
        return self.skip(x) + self.conv2(F.silu(self.norm2(self.conv1(F.silu(self.norm1(x))))))


class ResNet(torch.nn.Module):
    def __init__(self, norm):
        super().__init__()
        self.stem = torch.nn.Conv2d(SHAPE[0], CHANNELS[0], 3, padding=1)
        ends = [(i, o) for a, b in zip([CHANNELS[0]] + CHANNELS, CHANNELS) for i, o in [(a, b)] + [(b, b)] * (BLOCKS - 1)]
        self.blocks = torch.nn.ModuleList(Block(i, o, norm) for i, o in ends)
        self.linear = torch.nn.Linear(CHANNELS[-1], 1)

    def forward(self, x):
        u = 0.5 * CONFINEMENT * x.flatten(1).square().sum(1)
        x = self.stem(x)
        for i, block in enumerate(self.blocks):
            if i > 0 and i % BLOCKS == 0:
                x = F.avg_pool2d(x, 2)
            x = block(x)
        return u + self.linear(F.silu(x).sum((2, 3))).squeeze(1)


def reference(model, theta, x, w, spectral):
    """U, its gradient in x, and the weighted gradients in theta."""
    theta = {name: value.clone().requires_grad_(True) for name, value in theta.items()}
    x = x.clone().requires_grad_(True)

    def used(value):
        return value / torch.linalg.matrix_norm(value.flatten(1), 2) if spectral and value.dim() == 4 else value

    energy = torch.func.functional_call(model, {name: used(value) for name, value in theta.items()}, (x,))
    (energy_grad,) = torch.autograd.grad(energy.sum(), x, retain_graph=True)
    grads = torch.autograd.grad((w * energy).sum(), list(theta.values()))
    out = {"energy": energy.detach(), "energy_grad": energy_grad.flatten(1)}
    return out | {f"grad.{name}": grad for name, grad in zip(theta, grads)}


def write(name, norm, spectral, seed):
    generator = torch.Generator().manual_seed(seed)
    model = ResNet(norm)
    theta = {}
    for key, value in model.state_dict().items():
        fan_in = value[0].numel() if value.dim() > 1 else 1
        scale, centre = ((2 / fan_in) ** 0.5, 0.0) if value.dim() > 1 else (0.1, float("norm" in key and "weight" in key))
        theta[key] = centre + scale * torch.randn(value.shape, generator=generator)
    x = torch.randn((4, *SHAPE), generator=generator)
    w = torch.rand(4, generator=generator) + 0.1
    w = w / w.sum()
    double = {key: value.double() for key, value in theta.items()}
    exact = reference(model, double, x.double(), w.double(), spectral)
    single = reference(model, theta, x, w, spectral)
    for key, value in exact.items():
        off = float((single[key].double() - value).abs().max() / value.abs().max())
        assert off < 1e-5, f"{name} {key}: float32 is off by {off}"
    tensors = theta | {"position": x.flatten(1), "weights": w} | {key: value.float() for key, value in exact.items()}
    config = f'kind = "resnet"\nshape = {list(SHAPE)}\nchannels = {CHANNELS}\nblocks_per_stage = {BLOCKS}\nactivation = "silu"\n'
    config += f'norm = "{"group" if norm else "none"}"\ngroups = {GROUPS}\npool = "average"\n'
    config += ("spectral_norm = true\n" if spectral else "") + f"confinement = {CONFINEMENT}\n"
    tensors = {key: value.contiguous() for key, value in tensors.items()}
    save_file(tensors, HERE / f"{name}_pytorch.safetensors", metadata={"ember.config": config})
    count = sum(value.numel() for value in theta.values())
    print(f"{name}: {count} parameters, mean energy {float(exact['energy'].mean()):.6f}")


torch.set_num_threads(1)
write("resnet", norm=True, spectral=False, seed=2)
write("resnet_spectral", norm=False, spectral=True, seed=3)
