"""The rows of benches/gpu.sh, which says how to run them."""
import os, shutil, subprocess, sys, tempfile
from pathlib import Path
from measure import BENCHES, ROOT, Contender, Row, fail, figures, model_files, python_has, read, run_row, show, table, versions

TORCH, JAX = os.environ.get('TORCH_PYTHON', 'python3'), os.environ.get('JAX_PYTHON', 'python3')
TINY = bool(os.environ.get('TINY'))
DEVICE, PEERS_ON = os.environ.get('DEVICE', 'wgpu'), 'cpu' if TINY else 'cuda'
DATA = os.environ.get('DATA')
# Two operations a multiply-add; forward and back.
MLP_FLOP, CONV_FLOP = 4 * (2 * 128 + 2 * 128 ** 2 + 128), 2 * 204_881_920
LAYERS = ('{{ out = {0}, kernel = 3, padding = 1 }}, {{ out = {1}, kernel = 4, stride = 2, padding = 1 }}, {{ out = {2}, kernel = 4, stride = 2, padding = 1 }}, '
          '{{ out = {3}, kernel = 4, stride = 2, padding = 1 }}, {{ out = 1, kernel = 4 }}')


class Work:
    """Makes the contenders."""

    def __init__(self, program, yardsticks, scratch):
        self.program, self.yardsticks, self.scratch = program, yardsticks, scratch
        self.precision = {bench: '--precision' in subprocess.run([program, 'bench', bench, '--help'], capture_output=True, text=True).stdout for bench in ('langevin', 'train')}

    def ours(self, *arguments, value, energy=None, missing=None, note=''):
        return Contender('ember', [self.program, 'bench', *arguments, '--json', '--device', DEVICE], value, None, energy, missing, note)

    def peer(self, name, python, modules, program, *arguments, value, energy=None, missing=None):
        path = program if isinstance(program, Path) else self.yardsticks / program
        missing = missing or python_has(python, modules) or (None if path.exists() else f'{path} is not there')
        return Contender(name, [python, path, *arguments], value, None, energy, missing)

    def ours_at(self, bench, precision):
        """Options for this precision, or why there are none. f32 is what a program without the option has."""
        if self.precision[bench]:
            return ['--precision', precision], None
        return [], None if precision == 'f32' else f'`ember bench {bench}` has no --precision'

    def langevin(self, energy, walkers, case, steps, precision='f32', channels=64):
        shape = ['--energy', energy, '--walkers', str(walkers), *(['--channels', str(channels)] if energy == 'conv' else [])]
        files = model_files(self.yardsticks, self.scratch, (TORCH, JAX), shape)
        note = ''
        if files is None:
            outs = LAYERS.format(*(channels * factor for factor in (1, 2, 4, 8)))
            table_ = '{ kind = "mlp", dim = 2, hidden = [128, 128, 128], confinement = 1.0 }' if energy == 'mlp' else f'{{ kind = "conv", shape = [3, 32, 32], confinement = 1.0, layers = [{outs}] }}'
            files, note = ['--energy', table_, '--walkers', str(walkers)], 'random weights of its own: no Python here has numpy and safetensors, so that energies are not compared'
        options, missing = self.ours_at('langevin', precision)
        ours = self.ours('langevin', *files, '--kernel', 'ula', '--step-size', '0.01', '--steps', str(steps), '--weighted', *options,
                         value='steps_per_s', energy=None if note else 'mean_energy_start', missing=missing, note=note)
        common = ['--device', PEERS_ON, '--precision', {'f32': 'fp32'}.get(precision, precision), '--cases', case or 'none']
        missing = None if case else 'TINY: bench_gpu.py has no small case of it'
        peer = lambda name, python, modules, backend: self.peer(name, python, modules, 'bench_gpu.py', *common, '--backends', backend, value='steps_per_s', energy='mean_energy_start', missing=missing)
        return [ours, peer('torch eager', TORCH, ['torch'], 'eager'), peer('torch compiled', TORCH, ['torch'], 'compile'), peer('JAX', JAX, ['jax'], 'jax')]

    def mlp(self, walkers, case, steps):
        return self.langevin('mlp', 64, 'tiny', 5) if TINY else self.langevin('mlp', walkers, case, steps)

    def conv(self, precision):
        return self.langevin('conv', 4, None, 2, precision, 4) if TINY else self.langevin('conv', 256, 'conv256', 300, precision)

    def update(self, precision):
        walkers, steps, channels = (4, 2, 4) if TINY else (256, 60, 64)
        options, missing = self.ours_at('train', precision)
        sets = [f'energy.layers=[{LAYERS.format(*(channels * factor for factor in (1, 2, 4, 8)))}]', f'walkers.count={walkers}', f'dataset.train_size={walkers}', f'dataset.batch_size={walkers}',
                f'kernel.steps_per_update={steps}']
        ours = self.ours('train', BENCHES / 'configs/update_conv.toml', *(word for text in sets for word in ('--set', text)), '--updates', '2' if TINY else '10', *options,
                         value='updates_per_s', missing=missing)
        peer_precision = {'f32': 'fp32'}.get(precision, precision)
        peer = lambda name, how: self.peer(name, TORCH, ['torch', 'numpy'], BENCHES / 'peers/update.py', self.yardsticks, '--how', how, '--device', PEERS_ON, '--precision', peer_precision,
                                           '--walkers', walkers, '--k', steps, '--channels', channels, value='updates_per_s')
        jax = self.peer('JAX', JAX, ['jax', 'optax', 'numpy'], 'bench_update.py', '--backend', 'jax', '--energy', 'conv', '--walkers', walkers, '--k', steps, '--channels', channels, '--iters', 3,
                        value='updates_per_s')
        jax.env = {'JAX_DEFAULT_MATMUL_PRECISION': 'float32' if precision == 'f32' else 'tensorfloat32', **({'JAX_PLATFORMS': 'cpu'} if TINY else {})}
        return [ours, peer('torch eager', 'eager'), peer('torch compiled', 'compile'), jax]

    def cifar(self):
        sets = [f'dataset.dir={DATA}', 'kernel.steps_per_update=60'] + (['walkers.count=8', 'walkers.moved_per_update=4', 'kernel.steps_per_update=2', 'dataset.batch_size=4'] if TINY else [])
        return [self.ours('train', ROOT / 'configs/cifar10_jarzynski.toml', *(word for text in sets for word in ('--set', text)), '--updates', '2' if TINY else '10', value='updates_per_s',
                          missing=None if DATA else 'DATA names no folder of CIFAR-10')]

    def resample(self):
        count, dim = ('4096', '16') if TINY else (str(1 << 18), '3072')
        return [self.ours('resample', '--count', count, '--scheme', 'systematic', '--gather', dim, value='share_of_copy')]

    def start(self):
        return [self.ours('train', BENCHES / 'configs/update_mlp.toml', '--updates', '1', *(['--set', 'walkers.count=64'] if TINY else []), value='seconds_to_first_update')]

    def matmul(self):
        python = TORCH if python_has(TORCH, ['torch']) is None else JAX
        modules = ['torch'] if python == TORCH and python_has(TORCH, ['torch']) is None else ['jax']
        peer = lambda precision: self.peer(precision, python, modules, BENCHES / 'peers/matmul.py', '--device', PEERS_ON, '--precision', precision, *(['--size', '256'] if TINY else []), value='tflop_per_s')
        return [peer('fp32'), peer('tf32'), peer('bf16')]


ROWS = {
    'ula_4096': lambda w: Row('ula_4096', 'weighted ULA, MLP 2→3×128→1, 4,096 walkers', 'steps/s', w.mlp(4096, 'mlp4k', 1500), 2.0),
    'ula_65536': lambda w: Row('ula_65536', 'weighted ULA, MLP 2→3×128→1, 65,536 walkers', 'steps/s', w.mlp(65536, 'mlp64k', 1000), 1.5),
    'ula_1m': lambda w: Row('ula_1m', 'weighted ULA, MLP 2→3×128→1, 2²⁰ walkers', 'steps/s', w.mlp(1 << 20, 'mlp1m', 150), 1.2),
    'conv_f32': lambda w: Row('conv_f32', 'weighted ULA, CIFAR-10 network, 256 walkers, f32', 'steps/s', w.conv('f32'), 1.0),
    'conv_tf32': lambda w: Row('conv_tf32', 'weighted ULA, CIFAR-10 network, 256 walkers, tf32', 'steps/s', w.conv('tf32'), 1.0),
    'update_f32': lambda w: Row('update_f32', 'weighted update, CIFAR-10 network, 256 walkers × 60 steps + 256 data, f32', 'updates/s', w.update('f32'), 1.2),
    'update_tf32': lambda w: Row('update_tf32', 'weighted update, CIFAR-10 network, 256 walkers × 60 steps + 256 data, tf32', 'updates/s', w.update('tf32'), 1.2),
    'cifar': lambda w: Row('cifar', 'update of cifar10_jarzynski (MALA, Gaussian base), 256 of 4,096 walkers × 60 steps', 'updates/s', w.cifar()),
    'resample': lambda w: Row('resample', 'systematic resampling with the gather of 3,072-float walkers, N = 2¹⁸', 'share of the copy rate', w.resample(), 0.6, absolute=True),
    'start': lambda w: Row('start', 'program start to the first update (MLP, 4,096 walkers)', 's', w.start(), 0.3, lower_is_better=True, absolute=True),
    'matmul': lambda w: Row('matmul', 'matrix rate of the chip', 'TFLOP/s', w.matmul(), rounds=1),
}


def memory_and_matrix_rates(measured):
    """Sentences on what the rates are of what the chip can do."""
    by_name = {row.name: (row, records) for row, _, records, _ in measured}
    lines, chip = [], {}
    if 'matmul' in by_name:
        chip = {name: value for name, value in figures(*by_name['matmul'])[0].items()}
        lines.append('Matrix rate (8,192², one product): ' + ', '.join(f'{name} {value if isinstance(value, str) else show(value) + " TFLOP/s"}' for name, value in chip.items()) + '.')
    for name, walkers, flop, precision in [('ula_4096', 4096, MLP_FLOP, 'fp32'), ('ula_65536', 65536, MLP_FLOP, 'fp32'), ('ula_1m', 1 << 20, MLP_FLOP, 'fp32'), ('conv_f32', 256, CONV_FLOP, 'fp32'),
                                           ('conv_tf32', 256, CONV_FLOP, 'tf32')]:
        rate = figures(*by_name[name])[0]['ember'] if name in by_name else 'not run'
        if isinstance(rate, str) or TINY:
            continue
        tflops = rate * walkers * flop / 1e12
        whole = chip.get(precision, 'not measured')
        share = f'share of the matrix rate not measured ({whole})' if isinstance(whole, str) else f'{100 * tflops / whole:.1f} % of the measured {precision} rate'
        lines.append(f'{by_name[name][0].title}: {show(tflops)} TFLOP/s, {share}.')
    if 'resample' in by_name:
        results = [record['result'] for record in by_name['resample'][1] if 'bytes_per_s' in record.get('result', {})]
        lines += [f'Resampling: {result["bytes_per_s"] / 1e9:.1f} GB/s moved, a copy {result["copy_bytes_per_s"] / 1e9:.1f} GB/s.' for result in results]
    for _, records in by_name.values():
        counted = [record for record in records if record['contender'] == 'ember' and 'dispatches_per_step' in record.get('result', {})]
        lines += [f'{record["row"]}: {record["result"]["dispatches_per_step"]} dispatches a step.' for record in counted[:1]]
    return '\n'.join(f'* {line}' for line in lines)


def main():
    program, yardsticks, out, names = shutil.which(sys.argv[1]), Path(sys.argv[2]).resolve(), Path(sys.argv[3]), sys.argv[4:]
    if program is None:
        fail(f'{sys.argv[1]} is not there, or no program')
    if not (yardsticks / 'bench_gpu.py').exists():
        fail(f'{yardsticks} holds no bench_gpu.py: the folder of the peers\' programs is expected')
    run = names != ['table']
    names = [name for name in names if name != 'table'] or list(ROWS)
    if unknown := [name for name in names if name not in ROWS]:
        fail(f'no row {unknown[0]}; rows: {" ".join(ROWS)}')
    out.mkdir(parents=True, exist_ok=True)
    devices = subprocess.run([program, 'devices'], capture_output=True, text=True).stdout
    (out / 'devices.txt').write_text(devices)
    print(devices, file=sys.stderr)
    measured = []
    with tempfile.TemporaryDirectory() as scratch:
        work = Work(str(Path(program).resolve()), yardsticks, Path(scratch))
        for name in names:
            row, path = ROWS[name](work), out / f'{name}.jsonl'
            if TINY:
                row.title, row.target = f'TINY, not: {row.title}', None
            if run:
                run_row(row, path)
            if path.exists():
                measured.append((row, DEVICE, read(path), 'wall'))
    shown = [entry for entry in measured if entry[0].name != 'matmul']
    text = (table(shown, ['torch eager', 'torch compiled', 'JAX'], 'device') + '\n\n' + memory_and_matrix_rates(measured)
            + f'\n\nMedians by the wall clock; peers on {PEERS_ON}. {versions(measured)}' + ('\n\nTINY: no figure here says anything about speed.' if TINY else '') + '\n')
    (out / 'table.md').write_text(text)
    print(text)


main()
