"""The rows of benches/peers.sh, which says how to run them."""
import os, shutil, sys, tempfile
from pathlib import Path
from measure import BENCHES, ROOT, Contender, Row, fail, model_files, python_has, read, run_row, table, versions

EMBER = os.environ.get('EMBER', str(ROOT / 'target/release/ember'))
TORCH, JAX = os.environ.get('TORCH_PYTHON', 'python3'), os.environ.get('JAX_PYTHON', 'python3')
METRIC = os.environ.get('METRIC', 'wall')
BUDGET = os.environ.get('BUDGET', '20')
STEPS = os.environ.get('STEPS')
SEEDS = os.environ.get('SEEDS', ' '.join(map(str, range(10))))
MIXTURE = ROOT / 'configs/mixture50_jarzynski.toml'


class Work:
    """Makes the contenders of one number of threads."""

    def __init__(self, yardsticks, scratch, threads):
        self.yardsticks, self.scratch, self.threads = yardsticks, scratch, threads
        cores = os.environ.get('CPUS', ','.join(map(str, range(threads)))).split(',')[:threads]
        self.pin = ['taskset', '-c', ','.join(cores)] if shutil.which('taskset') else []
        self.env = {'BENCH_THREADS': str(threads), 'RAYON_NUM_THREADS': str(threads), 'JAX_PLATFORMS': 'cpu'}

    def ours(self, *arguments, value, cpu_value=None, energy=None, name='ember'):
        command = [*self.pin, EMBER, 'bench', *arguments, '--json', '--device', 'flex', '--threads', self.threads]
        return Contender(name, command, value, cpu_value, energy, env=self.env)

    def peer(self, name, python, modules, program, *arguments, value, cpu_value='per_cpu_s', energy=None, note=''):
        path = program if isinstance(program, Path) else self.yardsticks / program
        missing = python_has(python, modules) or (None if path.exists() else f'{path} is not there')
        return Contender(name, [*self.pin, python, path, *arguments], value, cpu_value, energy, missing, note, self.env)

    def langevin(self, kind, shape, steps, peers):
        """`kind`: ula (weighted) or mala. `shape`: the options that make_model.py and bench_langevin.py share."""
        steps = STEPS or str(steps)
        ours_steps = STEPS or str(5 * int(steps))
        rate = dict(value='steps_per_s', energy='mean_E_x0')
        common = [*shape, '--kind', 'jarz' if kind == 'ula' else 'mala', '--steps', steps, '--budget', BUDGET]
        made = {
            'torch eager': (TORCH, ['torch'], 'torch-eager', common, ''), 'torch compiled': (TORCH, ['torch'], 'torch-compile', common, ''), 'JAX': (JAX, ['jax'], 'jax', common, ''),
            'torchebm': (TORCH, ['torch', 'torchebm'], 'torchebm', [*shape, '--kind', 'ula', '--steps', steps, '--budget', BUDGET], 'unweighted steps: less work'),
            'BlackJAX': (JAX, ['jax', 'blackjax'], 'blackjax', common, ''), 'flowMC': (JAX, ['jax', 'flowMC'], 'flowmc', common, ''),
        }
        contenders = [self.ours('langevin', *model_files(self.yardsticks, self.scratch, (TORCH, JAX), shape), '--kernel', kind, '--step-size', '0.01', '--steps', ours_steps, '--weighted',
                                value='steps_per_s', cpu_value='steps_per_cpu_s', energy='mean_energy_start')]
        for name in peers:
            python, modules, backend, arguments, note = made[name]
            contenders.append(self.peer(name, python, modules, 'bench_langevin.py', '--backend', backend, *arguments, note=note, **rate))
        return contenders

    def update(self, config, updates, *arguments):
        peers = [('torch eager', TORCH, ['torch'], 'torch-eager'), ('torch compiled', TORCH, ['torch'], 'torch-compile'), ('JAX', JAX, ['jax', 'optax'], 'jax')]
        iters = STEPS or str(updates)
        return [self.ours('train', BENCHES / 'configs' / config, '--updates', STEPS or str(5 * updates), value='updates_per_s', cpu_value='updates_per_cpu_s')] + [
            self.peer(name, python, modules, 'bench_update.py', '--backend', backend, *arguments, '--iters', iters, '--budget', BUDGET, value='updates_per_s') for name, python, modules, backend in peers]

    def score(self, form):
        program, iters = BENCHES / 'peers/score.py', STEPS or '40'
        peers = [('torch eager', TORCH, ['torch'], 'torch-eager'), ('torch compiled', TORCH, ['torch'], 'torch-compile'), ('JAX', JAX, ['jax', 'optax'], 'jax'), ('ebmkit', TORCH, ['torch', 'ebm'], 'ebmkit')]
        if form == 'denoising':
            peers.append(('torchebm', TORCH, ['torch', 'torchebm'], 'torchebm'))
        return [self.ours('train', BENCHES / f'configs/score_{form}.toml', '--updates', STEPS or '200', value='updates_per_s', cpu_value='updates_per_cpu_s')] + [
            self.peer(name, python, modules, program, '--backend', backend, '--form', form, '--updates', iters, value='updates_per_s', cpu_value='updates_per_cpu_s') for name, python, modules, backend in peers]

    def mixture(self):
        updates = STEPS or '400'
        peer = lambda name, form: self.peer(name, JAX, ['jax'], BENCHES / 'peers/mixture.py', MIXTURE, '--form', form, '--updates', updates, value='updates_per_s', cpu_value='updates_per_cpu_s')
        return [self.ours('train', MIXTURE, '--updates', updates, value='updates_per_s', cpu_value='updates_per_cpu_s'), peer('JAX', 'autodiff'), peer('JAX, closed form', 'closed')]

    def mass(self):
        arguments = [MIXTURE, '--seeds', *SEEDS.split(), *(['--steps', str(max(50, int(STEPS)))] if STEPS else [])]
        program = BENCHES / 'peers/mixture.py'
        value = dict(value='median_cpu_s', cpu_value='median_cpu_s')
        ours = self.peer('ember', sys.executable, [], program, *arguments, '--form', 'ember', '--program', EMBER, **value)
        return [ours] + [self.peer(name, JAX, ['jax'], program, *arguments, '--mass', '--form', form, **value) for name, form in (('JAX', 'autodiff'), ('JAX, closed form', 'closed'))]

    def resample(self):
        iters = STEPS or '20'
        peer = lambda name, python, modules, backend: self.peer(name, python, modules, 'bench_resample.py', '--backend', backend, '--n', '1000000', '--iters', iters, '--budget', BUDGET, value='per_s')
        return [self.ours('resample', '--count', '1000000', '--scheme', 'systematic', value='per_s', cpu_value='per_cpu_s'), peer('torch eager', TORCH, ['torch'], 'torch'),
                peer('torch compiled', TORCH, ['torch'], 'torch-compile'), peer('NumPy', TORCH, ['numpy'], 'numpy'), peer('particles', TORCH, ['particles'], 'particles'),
                peer('BlackJAX', JAX, ['jax', 'blackjax'], 'blackjax')]

    def flow(self, what, key):
        shape = ['--dim', '32', '--layers', '8', '--hidden', '128', '--batch', '4096']
        iters = STEPS or '10'
        peers = [('normflows', TORCH, ['torch', 'normflows'], 'normflows', ''), ('nflows', TORCH, ['torch', 'nflows'], 'nflows', ''), ('zuko', TORCH, ['torch', 'zuko'], 'zuko', ''),
                 ('FrEIA', TORCH, ['torch', 'FrEIA'], 'freia', ''), ('flowMC', JAX, ['jax', 'flowMC', 'equinox'], 'flowmc', 'less work: one hidden layer in each network' + (', no step of an optimiser' if what == 'train' else ''))]
        return [self.ours('flow', *shape, value=f'{key}_batches_per_s', cpu_value=f'{key}_batches_per_cpu_s')] + [
            self.peer(name, python, modules, 'bench_realnvp.py', '--backend', backend, '--what', what, *shape, '--iters', iters, '--budget', BUDGET, value='batches_per_s', note=note)
            for name, python, modules, backend, note in peers]

    def start(self):
        return [self.ours('train', BENCHES / 'configs/update_mlp.toml', '--updates', '1', value='seconds_to_first_update')]


FRAMES = ['torch eager', 'torch compiled', 'JAX']
MLP = ['--energy', 'mlp', '--hidden', '128', '--dim', '2']
MLP_64D = ['--energy', 'mlp', '--hidden', '256', '--dim', '64', '--walkers', '4096']
CONV = ['--energy', 'conv', '--channels', '32', '--walkers', '64']
SMALL, LARGE = [*MLP, '--walkers', '4096'], [*MLP, '--walkers', '65536']
LOCAL = [*FRAMES, 'torchebm']
METROPOLIS = [*FRAMES, 'BlackJAX', 'flowMC']
ROWS = {
    'ula_mlp': lambda w: Row('ula_mlp', 'weighted ULA, MLP 2→3×128→1, 4,096 walkers', 'steps/s', w.langevin('ula', SMALL, 200, LOCAL), 1.0, 1.3),
    'ula_mlp64d': lambda w: Row('ula_mlp64d', 'weighted ULA, MLP 64→3×256→1, 4,096 walkers', 'steps/s', w.langevin('ula', MLP_64D, 40, LOCAL), 1.0, 1.3),
    'ula_mlp65536': lambda w: Row('ula_mlp65536', 'weighted ULA, MLP 2→3×128→1, 65,536 walkers', 'steps/s', w.langevin('ula', LARGE, 12, LOCAL), 1.0, 1.3),
    'mala_mlp': lambda w: Row('mala_mlp', 'MALA, MLP 2→3×128→1, 4,096 walkers', 'steps/s', w.langevin('mala', SMALL, 200, METROPOLIS), 1.0, 1.3),
    'mala_mlp64d': lambda w: Row('mala_mlp64d', 'MALA, MLP 64→3×256→1, 4,096 walkers', 'steps/s', w.langevin('mala', MLP_64D, 40, METROPOLIS), 1.0, 1.3),
    'mala_mlp65536': lambda w: Row('mala_mlp65536', 'MALA, MLP 2→3×128→1, 65,536 walkers', 'steps/s', w.langevin('mala', LARGE, 12, METROPOLIS), 1.0, 1.3),
    'ula_conv': lambda w: Row('ula_conv', 'weighted ULA, conv 32 base channels, 64 × 3×32×32', 'steps/s', w.langevin('ula', CONV, 10, LOCAL), 1.0),
    'update_mlp': lambda w: Row('update_mlp', 'weighted update, MLP 2→3×128→1, 4,096 walkers + 4,096 data, k = 1', 'updates/s', w.update('update_mlp.toml', 40, *MLP, '--walkers', '4096', '--k', '1'), 1.5, 1.75),
    'update_conv': lambda w: Row('update_conv', 'weighted update, conv 32 base channels, 64 + 64, k = 10', 'updates/s', w.update('update_conv.toml', 3, *CONV, '--k', '10'), 1.0, 1.2),
    'score_denoising': lambda w: Row('score_denoising', 'denoising score matching, MLP 2→3×128→1, 4,096 points', 'updates/s', w.score('denoising'), 1.2),
    'score_sliced': lambda w: Row('score_sliced', 'sliced score matching (variance reduced), MLP 2→3×128→1, 4,096 points', 'updates/s', w.score('sliced'), 1.2),
    'mixture': lambda w: Row('mixture', 'mixture d = 50, 10⁴ walkers', 'updates/CPU-s', w.mixture(), 2.0, cpu=True),
    'mixture_mass': lambda w: Row('mixture_mass', f'mixture, until the mass stays within .02 of the training fraction, median of seeds {SEEDS}', 'CPU-s', w.mass(), lower_is_better=True, rounds=1),
    'resample': lambda w: Row('resample', 'systematic resampling, N = 10⁶', 'per s', w.resample(), 2.0),
    'flow_log_prob': lambda w: Row('flow_log_prob', 'RealNVP d = 32, log_prob of 4,096', 'batches/s', w.flow('logprob', 'log_prob'), 1.2),
    'flow_train': lambda w: Row('flow_train', 'RealNVP d = 32, training on 4,096', 'batches/s', w.flow('train', 'train'), 1.2),
    'start': lambda w: Row('start', 'program start to the first update (MLP, 4,096 walkers)', 's', w.start(), 0.3, lower_is_better=True, absolute=True),
}


def main():
    yardsticks, out, names = Path(sys.argv[1]).resolve(), Path(sys.argv[2]), sys.argv[3:]
    run = names != ['table']
    names = [name for name in names if name != 'table'] or list(ROWS)
    if unknown := [name for name in names if name not in ROWS]:
        fail(f'no row {unknown[0]}; rows: {" ".join(ROWS)}')
    if not (yardsticks / 'bench_langevin.py').exists():
        fail(f'{yardsticks} holds no bench_langevin.py: the folder of the peers\' programs is expected')
    if run and shutil.which(EMBER) is None:
        fail(f'{EMBER} is not there: build it (cargo build --release) or let EMBER name it')
    if METRIC not in ('wall', 'cpu'):
        fail(f'METRIC={METRIC}: expected wall or cpu')
    if run and not any(python_has(python, ['numpy', 'safetensors']) is None for python in (TORCH, JAX)):
        fail('neither TORCH_PYTHON nor JAX_PYTHON has numpy and safetensors, which the common weights need')
    out.mkdir(parents=True, exist_ok=True)
    measured = []
    with tempfile.TemporaryDirectory() as scratch:
        for threads in map(int, os.environ.get('THREADS', '1 2').split()):
            work = Work(yardsticks, Path(scratch), threads)
            for name in names:
                if name in ('mixture_mass', 'start') and threads > 1:
                    continue
                row = ROWS[name](work)
                path = out / f'{name}-t{threads}.jsonl'
                if run:
                    run_row(row, path)
                if path.exists():
                    measured.append((row, threads, read(path), METRIC))
    measured.sort(key=lambda entry: (list(ROWS).index(entry[0].name), entry[1]))
    text = table(measured, FRAMES) + f'\n\nMedians, by the {"wall clock" if METRIC == "wall" else "CPU-seconds of each process"}. {versions(measured)}\n'
    if run or not (out / 'table.md').exists():
        (out / 'table.md').write_text(text)
    print(text)


main()
