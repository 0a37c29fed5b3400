"""The rows of benches/gpu.sh, which says how to run them."""
import json, os, shutil, signal, subprocess, sys, tempfile, time
from pathlib import Path
from measure import BENCHES, ROOT, ROUNDS, Contender, Row, fail, figures, model_files, python_has, read, run_program, show, table, versions

TORCH, JAX = os.environ.get('TORCH_PYTHON', 'python3'), os.environ.get('JAX_PYTHON', 'python3')
TINY = bool(os.environ.get('TINY'))
DEVICE, PEERS_ON = os.environ.get('DEVICE', 'wgpu'), 'cpu' if TINY else 'cuda'
DATA = os.environ.get('DATA')
BUDGET = float(os.environ.get('BUDGET', 300))
# Two operations a multiply-add; forward and back.
MLP_FLOP, CONV_FLOP = 4 * (2 * 128 + 2 * 128 ** 2 + 128), 2 * 204_881_920
LAYERS = ('{{ out = {0}, kernel = 3, padding = 1 }}, {{ out = {1}, kernel = 4, stride = 2, padding = 1 }}, {{ out = {2}, kernel = 4, stride = 2, padding = 1 }}, '
          '{{ out = {3}, kernel = 4, stride = 2, padding = 1 }}, {{ out = 1, kernel = 4 }}')


class Work:
    """Makes the contenders: ours first, then the peers, the one that is usually fastest first."""

    def __init__(self, program, yardsticks, scratch):
        self.program, self.yardsticks, self.scratch = program, yardsticks, scratch
        self.precision = {bench: '--precision' in subprocess.run([program, 'bench', bench, '--help'], capture_output=True, text=True).stdout for bench in ('langevin', 'train')}

    def ours(self, *arguments, value, energy=None, missing=None, note='', name='ember', device=DEVICE):
        return Contender(name, [self.program, 'bench', *arguments, '--json', '--device', device], value, None, energy, missing, note)

    def peer(self, name, python, modules, program, *arguments, value, energy=None, missing=None):
        path = program if isinstance(program, Path) else self.yardsticks / program
        missing = missing or python_has(python, modules) or (None if path.exists() else f'{path} is not there')
        env = {'JAX_PLATFORMS': 'cpu'} if TINY and 'jax' in modules else {}
        return Contender(name, [python, path, *arguments], value, None, energy, missing, env=env)

    def ours_at(self, bench, precision):
        """Options for this precision, or why there are none. f32 is what a program without the option has."""
        if self.precision[bench]:
            return ['--precision', precision], None
        return [], None if precision == 'f32' else f'`ember bench {bench}` has no --precision'

    def langevin(self, energy, walkers, case, steps, precision='f32', channels=64, kernel='ula'):
        shape = ['--energy', energy, '--walkers', str(walkers), *(['--channels', str(channels)] if energy == 'conv' else [])]
        files = model_files(self.yardsticks, self.scratch, (TORCH, JAX), shape) if (self.yardsticks / 'make_model.py').exists() else None
        note = ''
        if files is None:
            outs = LAYERS.format(*(channels * factor for factor in (1, 2, 4, 8)))
            table_ = '{ kind = "mlp", dim = 2, hidden = [128, 128, 128], confinement = 1.0 }' if energy == 'mlp' else f'{{ kind = "conv", shape = [3, 32, 32], confinement = 1.0, layers = [{outs}] }}'
            files, note = ['--energy', table_, '--walkers', str(walkers)], 'random weights of its own: no make_model.py, or no Python here has numpy and safetensors, so that energies are not compared'
        options, missing = self.ours_at('langevin', precision)
        ours = self.ours('langevin', *files, '--kernel', kernel, '--step-size', '0.01', '--steps', str(steps), *(['--weighted'] if kernel == 'ula' else []), *options,
                         value='steps_per_s', energy=None if note else 'mean_energy_start', missing=missing, note=note)
        if kernel == 'mala':
            # bench_langevin.py measures processors; its JAX takes the accelerator where there is one.
            return [ours, self.peer('JAX', JAX, ['jax', 'numpy'], 'bench_langevin.py', '--backend', 'jax', '--kind', 'mala', *shape, '--steps', steps, '--reps', 3, '--budget', 5, value='steps_per_s')]
        common = ['--device', PEERS_ON, '--precision', {'f32': 'fp32'}.get(precision, precision), '--cases', case or 'none', '--reps', 3]
        missing = None if case else 'TINY: bench_gpu.py has no small case of it'
        peer = lambda name, python, modules, backend: self.peer(name, python, modules, 'bench_gpu.py', *common, '--backends', backend, value='steps_per_s', energy='mean_energy_start', missing=missing)
        return [ours, peer('JAX', JAX, ['jax', 'numpy'], 'jax'), peer('torch compiled', TORCH, ['torch', 'numpy'], 'compile'), peer('torch eager', TORCH, ['torch', 'numpy'], 'eager')]

    def mlp(self, walkers, case, steps, kernel='ula'):
        return self.langevin('mlp', 64, 'tiny', 5, kernel=kernel) if TINY else self.langevin('mlp', walkers, case, steps, kernel=kernel)

    def conv(self, precision):
        return self.langevin('conv', 4, None, 2, precision, 4) if TINY else self.langevin('conv', 256, 'conv256', 120, precision)

    def update_peers(self, energy, precision, walkers, steps, *size):
        """One weighted update in PyTorch and JAX. `size`: options that both know."""
        peer = lambda name, how: self.peer(name, TORCH, ['torch', 'numpy'], BENCHES / 'peers/update.py', self.yardsticks, '--how', how, '--device', PEERS_ON, '--precision',
                                           {'f32': 'fp32'}.get(precision, precision), '--energy', energy, '--walkers', walkers, '--k', steps, '--reps', 3, *size, value='updates_per_s')
        jax = self.peer('JAX', JAX, ['jax', 'optax', 'numpy'], 'bench_update.py', '--backend', 'jax', '--energy', energy, '--walkers', walkers, '--k', steps, '--iters', 3 if energy == 'conv' else 50, '--reps', 3,
                        '--budget', 10, *size, value='updates_per_s')
        jax.env = {**jax.env, 'JAX_DEFAULT_MATMUL_PRECISION': 'float32' if precision == 'f32' else 'tensorfloat32'}
        return [jax, peer('torch compiled', 'compile'), peer('torch eager', 'eager')]

    def train(self, config, updates, *sets, precision='f32', missing=None, **more):
        options, lacking = self.ours_at('train', precision)
        return self.ours('train', config, *(word for text in sets for word in ('--set', text)), '--updates', '2' if TINY else str(updates), *options, value='updates_per_s', missing=missing or lacking, **more)

    def update_mlp(self):
        walkers = 64 if TINY else 4096
        sets = [f'walkers.count={walkers}', f'dataset.train_size={walkers}', f'dataset.batch_size={walkers}']
        return [self.train(BENCHES / 'configs/update_mlp.toml', 300, *sets), *self.update_peers('mlp', 'f32', walkers, 1)]

    def update_conv(self, precision):
        walkers, steps, channels = (4, 2, 4) if TINY else (256, 60, 64)
        sets = [f'energy.layers=[{LAYERS.format(*(channels * factor for factor in (1, 2, 4, 8)))}]', f'walkers.count={walkers}', f'dataset.train_size={walkers}', f'dataset.batch_size={walkers}',
                f'kernel.steps_per_update={steps}']
        return [self.train(BENCHES / 'configs/update_conv.toml', 5, *sets, precision=precision), *self.update_peers('conv', precision, walkers, steps, '--channels', channels)]

    def mixture(self):
        config = ROOT / 'configs/mixture50_jarzynski.toml'
        sets = ['walkers.count=200', 'dataset.train_size=200', 'dataset.batch_size=200'] if TINY else []
        peer = lambda form: self.peer('JAX' if form == 'autodiff' else 'JAX, closed form', JAX, ['jax', 'numpy'], BENCHES / 'peers/mixture.py', config, '--form', form, '--updates', 300, value='updates_per_s',
                                      missing='TINY: mixture.py has no small size' if TINY else None)
        return [self.train(config, 300, *sets), self.train(config, 300, *sets, name='ember on flex', device='flex'), peer('closed'), peer('autodiff')]

    def flow(self):
        dim, layers, hidden, batch = (4, 2, 8, 32) if TINY else (32, 8, 128, 4096)
        size = ['--dim', dim, '--layers', layers, '--hidden', hidden, '--batch', batch]
        ours = self.ours('flow', *map(str, size), value='train_batches_per_s')
        peer = lambda name, python, modules, how: self.peer(name, python, modules, BENCHES / 'peers/real_nvp.py', '--how', how, '--device', PEERS_ON, *size, value='train_batches_per_s')
        return [ours, peer('JAX', JAX, ['jax', 'optax', 'numpy'], 'jax'), peer('torch compiled', TORCH, ['torch', 'numpy'], 'compile'), peer('torch eager', TORCH, ['torch', 'numpy'], 'eager')]

    def cifar(self):
        sets = [f'dataset.dir={DATA}', 'kernel.steps_per_update=60'] + (['walkers.count=8', 'walkers.moved_per_update=4', 'kernel.steps_per_update=2', 'dataset.batch_size=4'] if TINY else [])
        return [self.train(ROOT / 'configs/cifar10_jarzynski.toml', 5, *sets, missing=None if DATA else 'DATA names no folder of CIFAR-10')]

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


# In order of weight: when time is short, the last ones are missing.
ROWS = {
    'ula_4096': lambda w: Row('ula_4096', 'weighted ULA, MLP 2→3×128→1, 4,096 walkers', 'steps/s', w.mlp(4096, 'mlp4k', 1500), 2.0),
    'update_mlp': lambda w: Row('update_mlp', 'weighted update, MLP 2→3×128→1, 4,096 walkers + 4,096 data, one step', 'updates/s', w.update_mlp(), 1.5),
    'conv_f32': lambda w: Row('conv_f32', 'weighted ULA, CIFAR-10 network, 256 walkers, f32', 'steps/s', w.conv('f32'), 1.0),
    'update_f32': lambda w: Row('update_f32', 'weighted update, CIFAR-10 network, 256 walkers × 60 steps + 256 data, f32', 'updates/s', w.update_conv('f32'), 1.2),
    'mala_4096': lambda w: Row('mala_4096', 'MALA, MLP 2→3×128→1, 4,096 walkers', 'steps/s', w.mlp(4096, None, 1000, kernel='mala'), 1.0),
    'mixture': lambda w: Row('mixture', 'update of mixture50_jarzynski (d = 50, 10⁴ walkers)', 'updates/s', w.mixture(), 1.0),
    'real_nvp': lambda w: Row('real_nvp', 'RealNVP training, d = 32, 8 couplings of 128, batches of 4,096', 'batches/s', w.flow(), 1.0),
    'ula_65536': lambda w: Row('ula_65536', 'weighted ULA, MLP 2→3×128→1, 65,536 walkers', 'steps/s', w.mlp(65536, 'mlp64k', 500), 1.5),
    'ula_1m': lambda w: Row('ula_1m', 'weighted ULA, MLP 2→3×128→1, 2²⁰ walkers', 'steps/s', w.mlp(1 << 20, 'mlp1m', 100), 1.2),
    'resample': lambda w: Row('resample', 'systematic resampling with the gather of 3,072-float walkers, N = 2¹⁸', 'share of the copy rate', w.resample(), 0.6, absolute=True),
    'start': lambda w: Row('start', 'program start to the first update (MLP, 4,096 walkers)', 's', w.start(), 0.3, lower_is_better=True, absolute=True),
    'conv_tf32': lambda w: Row('conv_tf32', 'weighted ULA, CIFAR-10 network, 256 walkers, tf32', 'steps/s', w.conv('tf32'), 1.0),
    'update_tf32': lambda w: Row('update_tf32', 'weighted update, CIFAR-10 network, 256 walkers × 60 steps + 256 data, tf32', 'updates/s', w.update_conv('tf32'), 1.2),
    'cifar': lambda w: Row('cifar', 'update of cifar10_jarzynski (MALA, Gaussian base), 256 of 4,096 walkers × 60 steps', 'updates/s', w.cifar()),
    'matmul': lambda w: Row('matmul', 'matrix rate of the chip', 'TFLOP/s', w.matmul(), rounds=1),
}
# Seconds that one program of a row may take.
LIMITS = {'conv_f32': 45, 'conv_tf32': 45, 'update_f32': 60, 'update_tf32': 60, 'cifar': 60}
LIMIT = float(os.environ.get('TIMEOUT', 0))


class Stopped(BaseException):
    """SIGINT or SIGTERM: the program that is running is ended, and the table is of what there is."""

    def __init__(self, number, _frame=None):
        super().__init__(number)
        self.number = number


def stop(number, frame):
    raise Stopped(number)


class Session:
    """Runs programs one at a time until the budget is spent, and writes each result when it is there."""

    def __init__(self, out, rows):
        self.out, self.rows, self.end = out, rows, time.monotonic() + BUDGET
        self.records = {row.name: read(self.path(row)) if self.path(row).exists() else [] for row in rows}
        self.spent = False

    def path(self, row):
        return self.out / f'{row.name}.jsonl'

    def add(self, row, record):
        self.records[row.name].append(record)
        with self.path(row).open('a') as file:
            file.write(json.dumps(record) + '\n')

    def measure(self, row, contender, turn):
        """One program once, unless its result is there, it failed before, or time is up."""
        own = [record for record in self.records[row.name] if record['contender'] == contender.name]
        if any(record['round'] == turn or 'not_run' in record or 'error' in record['result'] for record in own):
            return
        record = {'row': row.name, 'contender': contender.name, 'round': turn}
        if contender.missing:
            self.records[row.name].append({**record, 'not_run': contender.missing})
            return
        left = self.end - time.monotonic()
        limit = LIMIT or LIMITS.get(row.name, 40)
        if left < 1:
            self.spent = True
            return
        print(f'== {row.name} round {turn + 1}: {contender.name} ({left:.0f} s left)', file=sys.stderr)
        started = time.time()
        result = contender.run(min(limit, left))
        if 'error' in result:
            print(f'   {result["error"]}', file=sys.stderr)
            if left < limit and result['error'].startswith('not done after'):
                # Cut by the budget, not by its own limit: another call may go on with it.
                self.spent = True
                return
        self.add(row, {**record, 'command': [str(part) for part in contender.command], 'started': round(started), 'seconds': round(time.time() - started, 1), 'load': round(os.getloadavg()[0], 2), 'result': result})

    def run(self):
        """Ours in every row, then in every row the peer that is usually fastest, then the others: a table cut short still compares."""
        for turn in range(ROUNDS):
            for place in range(max(len(row.contenders) for row in self.rows)):
                for row in self.rows:
                    if place < len(row.contenders) and turn < (row.rounds or ROUNDS):
                        self.measure(row, row.contenders[place], turn)

    def measured(self, why):
        """What `table` takes. `why`: what is said of a program that was not reached."""
        for row in self.rows:
            known = {record['contender'] for record in self.records[row.name]}
            self.records[row.name] += [{'row': row.name, 'contender': c.name, 'round': 0, 'not_run': c.missing or why} for c in row.contenders if c.name not in known]
        return [(row, DEVICE, self.records[row.name], 'wall') for row in self.rows]


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


def device_check(program, out, limit):
    """`ember devices --check`, kept in check.txt: figures of a device that computes wrong say nothing. A sentence for the table."""
    try:
        code, text, err = run_program([program, 'devices', '--check', DEVICE], os.environ, limit)
    except subprocess.TimeoutExpired:
        return f'`ember devices --check {DEVICE}` was not done after {limit:.0f} s.'
    (out / 'check.txt').write_text(text + err)
    if code == 0:
        return f'`ember devices --check {DEVICE}`: {text.strip().splitlines()[-1]}.'
    said = [line for line in err.splitlines() if line.startswith('error: ')] or ['no message']
    return f'**`ember devices --check {DEVICE}` ended with {code}**: {said[0][:400]}'


def write_table(out, session, checked, why):
    measured = session.measured(why)
    shown = [entry for entry in measured if entry[0].name != 'matmul']
    text = (table(shown, ['JAX', 'torch compiled', 'torch eager'], 'device') + '\n\n' + memory_and_matrix_rates(measured) + (f'\n\n{checked}' if checked else '')
            + f'\n\nBy the wall clock, medians of {ROUNDS} round(s); peers on {PEERS_ON}. {versions(measured)}' + ('\n\nTINY: no figure here says anything about speed.' if TINY else '') + '\n')
    (out / 'table.md').write_text(text)
    print(text, flush=True)


def main():
    program, yardsticks, out, names = shutil.which(sys.argv[1]), Path(sys.argv[2]).resolve(), Path(sys.argv[3]), sys.argv[4:]
    if program is None:
        fail(f'{sys.argv[1]} is not there, or no program')
    run = names != ['table']
    names = [name for name in ROWS if name in names or not run or not names]
    if unknown := [name for name in sys.argv[4:] if name not in ROWS and name != 'table']:
        fail(f'no row {unknown[0]}; rows: {" ".join(ROWS)}')
    out.mkdir(parents=True, exist_ok=True)
    program, code, checked, why = str(Path(program).resolve()), 0, '', f'not reached: the {BUDGET:g} s (BUDGET) were over; the same call goes on'
    with tempfile.TemporaryDirectory() as scratch:
        session = None
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, stop)
        try:
            devices = subprocess.run([program, 'devices'], capture_output=True, text=True).stdout
            (out / 'devices.txt').write_text(devices)
            print(devices, file=sys.stderr)
            work = Work(program, yardsticks, Path(scratch))
            rows = [ROWS[name](work) for name in names]
            for row in rows if TINY else []:
                row.title, row.target = f'TINY, not: {row.title}', None
            session = Session(out, rows)
            if run:
                checked = device_check(program, out, min(60, BUDGET / 4))
                session.run()
        except Stopped as stopped:
            code, why = 128 + stopped.number, f'not reached: stopped by {signal.Signals(stopped.number).name}; the same call goes on'
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        if session is not None:
            write_table(out, session, checked, why if run else 'not in the files')
    sys.exit(code)


main()
