"""Score matching, and PCD beside it, as the tools of other frameworks do them: the same perceptron, data and number of updates. One JSON line.

  score.py --backend jax|torch-eager|torch-compile --form denoising|sliced --updates K    updates per second of a 2→3×128→1 perceptron on 4,096 points,
                                                                             Adam, by the wall clock and per CPU-second, compiled before
  score.py --backend ebmkit|torchebm --form denoising|sliced --updates K     the same with that library's own loss
  score.py --backend ebmkit|torchebm|jax --form FORM --train CONFIG.toml     a whole training of the 8gaussians config with numbers from it; KL by a grid, masses
                                                                             and seconds. FORM also: implicit, sliced-plain, pcd
  score.py --backend ember --program PATH --form FORM --train CONFIG.toml    the same of `ember train`

`sliced` is the variance-reduced form, one slice; `sliced-plain` the other one. torchebm's sliced form is the plain one.
"""
import argparse, json, math, os, resource, statistics, subprocess, sys, tempfile, time, tomllib
from pathlib import Path

THREADS = int(os.environ.get('BENCH_THREADS', '1'))
for name in ('OMP_NUM_THREADS', 'MKL_NUM_THREADS'):
    os.environ[name] = str(THREADS)
import numpy as np

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument('--backend', required=True, choices=['jax', 'torch-eager', 'torch-compile', 'ebmkit', 'torchebm', 'ember'])
parser.add_argument('--form', required=True, choices=['denoising', 'sliced', 'sliced-plain', 'implicit', 'pcd'])
parser.add_argument('--updates', type=int, default=100)
parser.add_argument('--sigma', type=float, default=0.1)
parser.add_argument('--repeats', type=int, default=5)
parser.add_argument('--train', help='a config')
parser.add_argument('--steps', type=int, help='updates of a training, instead of the config\'s')
parser.add_argument('--seed', type=int, default=0)
parser.add_argument('--program', default='ember')
a = parser.parse_args()
config = tomllib.loads(Path(a.train).read_text()) if a.train else None
hidden = config['energy']['hidden'] if config else [128] * 3
confinement = config['energy']['confinement'] if config else 1.0
rows = config['dataset']['batch_size'] if config else 4096
rate = config['optimizer']['learning_rate'] if config else 1e-4
beta1 = config['optimizer'].get('beta1', 0.9) if config else 0.9
steps = a.steps or (config['steps'] if config else a.updates)
random = np.random.RandomState(a.seed)
STD, CENTRES = 0.5 / math.sqrt(2), 2 * math.sqrt(2) * np.array([[math.cos(math.pi * k / 4), math.sin(math.pi * k / 4)] for k in range(8)])


def weights():
    """W of [in, out] from N(0, 1/in), zeros for biases and, of a training, for the last layer, as Ember starts."""
    sizes, made = [2, *hidden, 1], []
    for i, (n, m) in enumerate(zip(sizes, sizes[1:])):
        last = config is not None and i == len(hidden)
        made.append(((random.randn(n, m) / math.sqrt(n) * (0 if last else 1)).astype('f4'), np.zeros(m, 'f4')))
    return made


def data(n):
    return (CENTRES[random.randint(8, size=n)] + STD * random.randn(n, 2)).astype('f4')


def judged(energy):
    """KL(data's law ‖ model) and masses by a grid; `energy` of [n, 2] points."""
    side = np.linspace(-6, 6, 481)
    points = np.stack(np.meshgrid(side, side, indexing='ij'), -1).reshape(-1, 2)
    cell = (side[1] - side[0]) ** 2
    u = np.concatenate([np.asarray(energy(part.astype('f4'))) for part in np.array_split(points, 64)]).astype('f8')
    log_z = np.log(np.exp(-(u - u.min())).sum() * cell) - u.min()
    squares = ((points[:, None, :] - CENTRES) ** 2).sum(-1)
    truth = np.exp(-squares / (2 * STD ** 2)).mean(1) / (2 * math.pi * STD ** 2)
    kl = (truth * (np.log(np.maximum(truth, 1e-300)) + u + log_z)).sum() * cell
    p, nearest = np.exp(-u - log_z) * cell, squares.argmin(1)
    masses = [p[nearest == k].sum() for k in range(8)]
    return dict(kl=round(float(kl), 5), mass_error=round(float(np.abs(np.array(masses) - 0.125).max()), 5))


def emit(**result):
    print(json.dumps({'bench': 'score', 'backend': a.backend, 'form': a.form, 'threads': THREADS, **result}))


def timed(run):
    """Updates per second and per CPU-second: medians of repetitions."""
    run(3)
    rates = []
    for _ in range(a.repeats):
        cpu, wall = time.process_time(), time.perf_counter()
        run(a.updates)
        rates.append((a.updates / (time.perf_counter() - wall), a.updates / (time.process_time() - cpu)))
    emit(updates_per_s=statistics.median(r for r, _ in rates), updates_per_cpu_s=statistics.median(r for _, r in rates), rows=rows, hidden=hidden)


def with_jax():
    import jax, jax.numpy as jnp, optax
    params = [tuple(map(jnp.asarray, layer)) for layer in weights()]

    def energies(params, x):
        y = x
        for i, (w, b) in enumerate(params):
            y = y @ w + b
            if i + 1 < len(params):
                y = jax.nn.silu(y)
        return y[:, 0] + 0.5 * confinement * jnp.sum(x * x, 1)

    force = jax.grad(lambda params, x: energies(params, x).sum(), argnums=1)

    def loss_of(params, x, key):
        if a.form == 'denoising':
            noise = jax.random.normal(key, x.shape)
            residual = noise - a.sigma * force(params, x + a.sigma * noise)
            return 0.5 * jnp.sum(residual * residual, 1).mean()
        bent = lambda v: jax.jvp(lambda y: force(params, y), (x,), (v,))
        if a.form == 'implicit':
            units = [jnp.broadcast_to(unit, x.shape) for unit in jnp.eye(x.shape[1])]
            g = force(params, x)
            return (0.5 * jnp.sum(g * g, 1) - sum(jnp.sum(v * bent(v)[1], 1) for v in units)).mean()
        v = jax.random.rademacher(key, x.shape, x.dtype)
        g, curved = bent(v)
        first = jnp.sum(g * g, 1) if a.form == 'sliced' else jnp.sum(v * g, 1) ** 2
        return (0.5 * first - jnp.sum(v * curved, 1)).mean()

    schedule = optax.cosine_decay_schedule(rate, steps) if config else rate
    optimizer = optax.adam(schedule, b1=beta1)

    @jax.jit
    def update(params, state, x, key):
        loss, grads = jax.value_and_grad(loss_of)(params, x, key)
        changes, state = optimizer.update(grads, state)
        return optax.apply_updates(params, changes), state, loss

    held = dict(params=params, state=optimizer.init(params), key=jax.random.key(a.seed))

    def run(n, batch):
        for _ in range(n):
            held['key'], key = jax.random.split(held['key'])
            held['params'], held['state'], loss = update(held['params'], held['state'], batch(), key)
        jax.block_until_ready(loss)

    points = jnp.asarray(data(config['dataset']['train_size'] if config else rows))
    if not config:
        return timed(lambda n: run(n, lambda: points))
    run(1, lambda: points[:rows])
    start, cpu = time.perf_counter(), time.process_time()
    order = np.random.RandomState(a.seed + 1)
    run(steps, lambda: points[order.randint(len(points), size=rows)])
    spent = dict(seconds=round(time.perf_counter() - start, 2), cpu_seconds=round(time.process_time() - cpu, 2))
    emit(steps=steps, version=jax.__version__, **spent, **judged(lambda x: energies(held['params'], x)))


def with_torch():
    import torch
    torch.set_num_threads(THREADS)
    torch.manual_seed(a.seed)
    layers = [(torch.tensor(w), torch.tensor(b)) for w, b in weights()]
    base = torch.nn.Module
    if a.backend == 'torchebm':
        from torchebm.core import BaseModel as base

    class Net(base):
        def __init__(self):
            super().__init__()
            self.w = torch.nn.ParameterList([torch.nn.Parameter(w) for w, _ in layers])
            self.b = torch.nn.ParameterList([torch.nn.Parameter(b) for _, b in layers])

        def forward(self, x):
            y = x
            for i, (w, b) in enumerate(zip(self.w, self.b)):
                y = torch.addmm(b, y, w)
                if i + 1 < len(self.w):
                    y = torch.nn.functional.silu(y)
            return y.squeeze(-1) + 0.5 * confinement * x.square().sum(-1)

    net = Net()
    loss_of = own_loss(torch, net) if a.backend.startswith('torch-') else library_loss(torch, net)
    optimizer = torch.optim.Adam(net.parameters(), rate, betas=(beta1, 0.999))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps) if config else None
    points = torch.tensor(data(config['dataset']['train_size'] if config else rows))

    def run(n, batch):
        for _ in range(n):
            optimizer.zero_grad(set_to_none=True)
            loss_of(batch()).backward()
            optimizer.step()
            if schedule:
                schedule.step()

    if not config:
        return timed(lambda n: run(n, lambda: points))
    start, cpu = time.perf_counter(), time.process_time()
    run(steps, lambda: points[torch.randint(len(points), (rows,))])
    spent = dict(seconds=round(time.perf_counter() - start, 2), cpu_seconds=round(time.process_time() - cpu, 2))
    with torch.no_grad():
        emit(steps=steps, version=torch.__version__, **spent, **judged(lambda x: net(torch.tensor(x)).numpy()))


def own_loss(torch, net):
    energy = torch.compile(net) if a.backend == 'torch-compile' else net

    def loss(x):
        if a.form == 'denoising':
            noise = torch.randn_like(x)
            x = (x + a.sigma * noise).requires_grad_(True)
            g, = torch.autograd.grad(energy(x).sum(), x, create_graph=True)
            return 0.5 * (noise - a.sigma * g).square().sum(-1).mean()
        v = torch.randint(0, 2, x.shape).to(x) * 2 - 1
        x = x.clone().requires_grad_(True)
        g, = torch.autograd.grad(energy(x).sum(), x, create_graph=True)
        along = (g * v).sum(-1)
        bent, = torch.autograd.grad(along.sum(), x, create_graph=True)
        first = g.square().sum(-1) if a.form == 'sliced' else along.square()
        return (0.5 * first - (bent * v).sum(-1)).mean()

    return loss


def library_loss(torch, net):
    if a.backend == 'ebmkit':
        from ebm import losses
        made = {'denoising': lambda: losses.DenoisingScoreMatching(a.sigma), 'sliced': lambda: losses.SlicedScoreMatching(1, vr=True),
                'sliced-plain': lambda: losses.SlicedScoreMatching(1, vr=False), 'implicit': losses.ExactScoreMatching}
        if a.form == 'pcd':
            from ebm.buffer import ReplayBuffer
            from ebm.losses import ContrastiveDivergence
            from ebm.samplers import LangevinDynamics
            kernel = config['kernel']
            sampler = LangevinDynamics(kernel['step_size'], kernel['steps_per_update'])
            wide = lambda shape: torch.randn(shape) / math.sqrt(confinement)
            buffer = ReplayBuffer(config['walkers']['count'], (2,), reinit_prob=0.0, init_fn=wide)
            loss = ContrastiveDivergence(sampler, buffer)
        else:
            loss = made[a.form]()
        return lambda x: loss(net, x).loss
    from torchebm import losses
    if a.form == 'pcd':
        from torchebm.samplers import LangevinDynamics
        kernel = config['kernel']
        sampler = LangevinDynamics(net, step_size=kernel['step_size'], noise_scale=1.0)
        loss = losses.PersistentContrastiveDivergence(net, sampler, k_steps=kernel['steps_per_update'], buffer_size=config['walkers']['count'],
                                                      init_steps=0, new_sample_ratio=0.0, energy_reg_weight=0.0)
        return lambda x: loss(x)[0]
    made = {'denoising': lambda: losses.DenoisingScoreMatching(net, noise_scale=a.sigma), 'implicit': lambda: losses.ScoreMatching(net, hessian_method='exact'),
            'sliced-plain': lambda: losses.SlicedScoreMatching(net, n_projections=1)}
    if a.form not in made:
        sys.exit(f'torchebm has no form {a.form}')
    return made[a.form]()


def with_ember():
    forms = {'denoising': f'form = "denoising", sigma = {a.sigma}', 'sliced': 'form = "sliced"', 'sliced-plain': 'form = "sliced", variance_reduced = false', 'implicit': 'form = "implicit"'}
    with tempfile.TemporaryDirectory() as scratch:
        run = Path(scratch) / 'run'
        sets = [f'seed={a.seed}', f'steps={steps}', f'optimizer.schedule.horizon={steps}']
        if a.form in forms:
            sets += ['objective={ kind = "score_matching", ' + forms[a.form] + ' }', 'walkers.count=100']
        command = [a.program, 'train', a.train, '--out', run, '--device', 'flex', *(word for change in sets for word in ('--set', change))]
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        found = json.loads(subprocess.run([a.program, 'eval', run, '--json'], check=True, capture_output=True, text=True).stdout)
        masses = found['mode_weights']
        emit(steps=steps, seconds=round(seconds, 2), cpu_seconds=round(cpu, 2), kl=round(found['kl_grid'], 5), mass_error=round(max(abs(mass - 0.125) for mass in masses), 5))


if a.backend == 'ember':
    if not config:
        parser.error('--backend ember is for --train; its speed is that of ember bench train')
    with_ember()
elif a.backend == 'jax':
    if a.form == 'pcd':
        parser.error('pcd is for the libraries')
    with_jax()
else:
    with_torch()
