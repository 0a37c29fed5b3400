"""One weighted training update of the image network or of an MLP in PyTorch on an accelerator: k weighted ULA steps, then one Adam step on as much data. One JSON line.

  update.py YARDSTICKS --how eager|compile [--energy conv|mlp] [--device cuda|cpu] [--precision fp32|tf32] [--walkers N] [--k K] [--channels C]

YARDSTICKS/spec.py gives network, weights and start points, as it does for bench_update.py, which measures processors. `compile` records the Langevin step as a CUDA graph
(`reduce-overhead`); the loss is compiled without. Times are between device synchronisations, after warm-up; the median of --reps repetitions.
"""
import argparse, json, math, statistics, sys, time
parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument('yardsticks')
parser.add_argument('--how', choices=['eager', 'compile'], default='eager')
parser.add_argument('--energy', choices=['conv', 'mlp'], default='conv')
parser.add_argument('--device', default='cuda')
parser.add_argument('--precision', choices=['fp32', 'tf32'], default='fp32')
parser.add_argument('--walkers', type=int, default=256)
parser.add_argument('--k', type=int, default=60)
parser.add_argument('--channels', type=int, default=64)
parser.add_argument('--iters', type=int, help='updates of a repetition: 3, of an MLP 50')
parser.add_argument('--reps', type=int, default=5)
a = parser.parse_args()
sys.path.insert(0, a.yardsticks)
import numpy as np, spec, torch, torch.nn.functional as F  # noqa: E402

a.iters = a.iters or (3 if a.energy == 'conv' else 50)
conf, h, shape = 1.0, 1e-2, (a.walkers, 3, 32, 32) if a.energy == 'conv' else (a.walkers, 2)
torch.manual_seed(0)
torch.set_default_device(a.device)
torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = a.precision == 'tf32'
torch.backends.cudnn.benchmark = True
P = [torch.nn.Parameter(torch.tensor(value, device=a.device)) for pair in (spec.conv_weights(a.channels) if a.energy == 'conv' else spec.mlp_weights(2, 128, 3)) for value in pair]
layers = len(P) // 2
D = torch.tensor(spec.x0(shape, 2), device=a.device)
square = lambda v: v.flatten(1).square().sum(1)


def energy(P, x):
    y = x
    for i in range(layers):
        if a.energy == 'conv':
            y = F.conv2d(y, P[2 * i], P[2 * i + 1], stride=spec.CONV[i][1], padding=spec.CONV[i][2])
        else:
            y = torch.addmm(P[2 * i + 1], y, P[2 * i])
        if i < layers - 1:
            y = F.silu(y)
    return y.flatten(1).squeeze(1) + 0.5 * conf * square(x)


def energy_and_grad(P, x):
    g, u = torch.func.grad(lambda y: (lambda u: (u.sum(), u))(energy(P, y)), has_aux=True)(x)
    return u, g


def move(P, x, u, g, A):
    y = x - h * g + math.sqrt(2 * h) * torch.randn_like(x)
    uy, gy = energy_and_grad(P, y)
    step = (y - x).flatten(1)
    A = A + (u + 0.5 * (step * g.flatten(1)).sum(1) + 0.25 * h * square(g)) - (uy - 0.5 * (step * gy.flatten(1)).sum(1) + 0.25 * h * square(gy))
    return y, uy, gy, A


def loss(P, x, w):
    return energy(P, D).mean() - (w * energy(P, x)).sum()


compiled, graphs = a.how == 'compile', a.how == 'compile' and a.device == 'cuda'
if compiled:
    move = torch.compile(move, mode='reduce-overhead' if graphs else 'default')
    loss = torch.compile(loss)
optimizer = torch.optim.Adam(P, 1e-4)
x = torch.tensor(spec.x0(shape), device=a.device)
with torch.no_grad():
    state = (x, *energy_and_grad(P, x), torch.zeros(a.walkers))
    start = float(state[1].mean())


def update():
    global state
    fixed = [p.detach() for p in P]
    with torch.no_grad():
        for _ in range(a.k):
            state = move(fixed, *state)
            if graphs:  # the next replay overwrites what a graph returns
                state = tuple(v.clone() for v in state)
    optimizer.zero_grad(set_to_none=True)
    loss(P, state[0], torch.softmax(state[3], 0)).backward()
    optimizer.step()


def sync():
    if a.device == 'cuda':
        torch.cuda.synchronize()


update(), update(), sync()
rates = []
for _ in range(a.reps):
    began = time.perf_counter()
    for _ in range(a.iters):
        update()
    sync()
    rates.append(a.iters / (time.perf_counter() - began))
print(json.dumps(dict(bench='update', how=a.how, version=f'torch {torch.__version__}', energy=a.energy, device=a.device, precision=a.precision, walkers=a.walkers, k=a.k, channels=a.channels,
                      updates_per_s=round(statistics.median(rates), 4), mean_energy_start=round(start, 4), finite=bool(np.isfinite(state[3].cpu().numpy()).all()))))
