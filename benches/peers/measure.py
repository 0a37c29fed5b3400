"""What the side-by-side scripts share: programs that print one JSON line, run in turn, kept in files, and set in a table. Python ≥ 3.11, no packages."""
import json, os, shutil, signal, statistics, subprocess, sys, time
from dataclasses import dataclass, field
from pathlib import Path

BENCHES = Path(__file__).resolve().parent.parent
ROOT = BENCHES.parent
ROUNDS = int(os.environ.get('ROUNDS', 3))
TIMEOUT = float(os.environ.get('TIMEOUT', 1800))


def fail(message):
    """Ends the script: bad usage."""
    print(f'error: {message}', file=sys.stderr)
    sys.exit(2)


@dataclass
class Contender:
    """One program on one piece of work.

    `value`: the key of its rate. `energy`: the key of the mean energy at the start, where it has one. `missing`: why it can't be run. `note`: how its work
    differs from ours, for the table.
    """
    name: str
    command: list
    value: str
    cpu_value: str | None = None
    energy: str | None = None
    missing: str | None = None
    note: str = ''
    env: dict = field(default_factory=dict)

    def run(self, limit=TIMEOUT):
        """Its result, or the reason why there is none; ended after `limit` seconds. Nothing that it started outlives it."""
        try:
            code, out, err = run_program(self.command, {**os.environ, **self.env}, limit)
        except subprocess.TimeoutExpired:
            return {'error': f'not done after {limit:.3g} s'}
        except OSError as error:
            return {'error': f'{self.command[0]}: {error.strerror}'}
        lines = [line for line in out.splitlines() if line.startswith('{')]
        if code == 0 and lines:
            return json.loads(lines[-1])
        said = [line.strip() for line in err.splitlines() if line.strip()] or ['no message']
        # Ours names what is wrong first, Python last.
        first = next((line for line in said if line.startswith('error: ')), said[-1])
        return {'error': f'exit code {code}: {first[:300]}'}


def run_program(command, env, limit):
    """Exit code, stdout and stderr of a program in a process group of its own, which is gone when this returns or raises: the next measurement has the machine alone."""
    child = subprocess.Popen([str(part) for part in command], env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        out, err = child.communicate(timeout=limit)
        return child.returncode, out, err
    finally:
        try:
            os.killpg(child.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        child.wait()


@dataclass
class Row:
    """A row of the table. `contenders[0]` is ours. `target`, `stretch`: ours ÷ the best peer, or an absolute limit where `absolute`.
    `limit`: seconds that one program may take."""
    name: str
    title: str
    unit: str
    contenders: list
    target: float | None = None
    stretch: float | None = None
    lower_is_better: bool = False
    absolute: bool = False
    cpu: bool = False
    rounds: int | None = None
    limit: float = TIMEOUT


def python_has(python, modules):
    """None, or why `python` can't run a program that imports `modules`."""
    if shutil.which(python) is None:
        return f'no interpreter {python}'
    code = 'import importlib.util as u, sys; print(*[m for m in sys.argv[1:] if u.find_spec(m) is None])'
    done = subprocess.run([python, '-c', code, *modules], capture_output=True, text=True)
    if done.returncode != 0:
        return f'{python} does not run'
    lacking = done.stdout.split()
    return f'no {", ".join(lacking)}' if lacking else None


def model_files(yardsticks, scratch, pythons, shape):
    """The options of `ember bench langevin` for the peers' weights and start points, by make_model.py; None where no Python can make them. `shape`: options of make_model.py."""
    python = next((python for python in pythons if python_has(python, ['numpy', 'safetensors']) is None), None)
    if python is None:
        return None
    prefix = scratch / '_'.join(option.lstrip('-') for option in shape)
    files = [Path(f'{prefix}.{part}.safetensors') for part in ('model', 'positions')]
    if not all(file.exists() for file in files):
        # Both are written before PyTorch is needed, for reference values that nothing here reads.
        done = subprocess.run([python, yardsticks / 'make_model.py', prefix, *shape], capture_output=True, text=True)
        if not all(file.exists() for file in files):
            fail(f'make_model.py made no {files[0].name}: {done.stderr.strip()[-300:]}')
    return ['--model', files[0], '--positions', files[1]]


def run_row(row, path):
    """Runs the row's contenders in turn, ROUNDS times, unless `path` is there. A contender that fails once isn't tried again."""
    if path.exists():
        print(f'== {path.stem}: there', file=sys.stderr)
        return
    records, failed = [], set()
    for turn in range(row.rounds or ROUNDS):
        for contender in row.contenders:
            record = {'row': row.name, 'contender': contender.name, 'round': turn}
            if contender.missing:
                if turn == 0:
                    records.append({**record, 'not_run': contender.missing})
                continue
            if contender.name in failed:
                continue
            print(f'== {path.stem} round {turn + 1}: {contender.name}', file=sys.stderr)
            started = time.time()
            result = contender.run()
            if 'error' in result:
                failed.add(contender.name)
                print(f'   {result["error"]}', file=sys.stderr)
            records.append({**record, 'command': [str(part) for part in contender.command], 'started': round(started), 'load': round(os.getloadavg()[0], 2), 'result': result})
    new = path.with_suffix('.new')
    new.write_text(''.join(json.dumps(record) + '\n' for record in records))
    new.rename(path)


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def figures(row, records, metric='wall'):
    """Per contender: the median of its values, or why there is none; and what is wrong with the row (energies that differ)."""
    found, problems, energies = {}, [], {}
    for contender in row.contenders:
        own = [record for record in records if record['contender'] == contender.name]
        key = contender.cpu_value if (row.cpu or metric == 'cpu') and contender.cpu_value else contender.value
        results = [record['result'] for record in own if 'result' in record]
        values = [result[key] for result in results if isinstance(result.get(key), (int, float))]
        if values:
            found[contender.name] = statistics.median(values)
        else:
            why = [record['not_run'] for record in own if 'not_run' in record] + [result.get('error', 'not reached' if key in result else f'no {key} in its result') for result in results]
            found[contender.name] = why[0] if why else 'not in the file'
        if contender.energy:
            energies |= {contender.name: result[contender.energy] for result in results if contender.energy in result}
    ours = energies.get(row.contenders[0].name)
    for name, energy in energies.items():
        if ours is not None and abs(energy - ours) > 1e-3 * abs(ours):
            problems.append(f'mean energies at the start differ: ours {ours:.6g}, {name} {energy:.6g}')
    return found, problems


def show(value):
    """Three digits."""
    return f'{value:,.0f}' if abs(value) >= 1000 else f'{value:.3g}'


def verdict(row, found, problems):
    """ours ÷ the best peer, the target, and whether it is met."""
    ours = found[row.contenders[0].name]
    target = '–' if row.target is None else f'{"≤" if row.absolute and row.lower_is_better else "≥"} {row.target:g}' + (f', stretch {row.stretch:g}' if row.stretch else '')
    if problems:
        return 'not comparable', target, '; '.join(problems)
    if isinstance(ours, str):
        return 'not run', target, ours
    peers = [found[c.name] for c in row.contenders[1:] if not isinstance(found[c.name], str)]
    if row.absolute:
        ratio, shown = ours, show(ours)
    elif not peers:
        return 'no peer', target, '–'
    else:
        ratio = min(peers) / ours if row.lower_is_better else ours / max(peers)
        shown = f'**{ratio:.2f}**'
    if row.target is None:
        return shown, target, '–'
    met = ratio <= row.target if row.absolute and row.lower_is_better else ratio >= row.target
    if met and row.stretch and ratio >= row.stretch:
        return shown, target, 'met, the stretch too'
    return shown, target, 'met' if met else 'missed'


def cell(found, names):
    """`name value` of each, where several stand together."""
    shown = [(name, found[name]) for name in names if name in found]
    return '; '.join(f'{name} {show(value)}' for name, value in shown if not isinstance(value, str)) or '–'


def table(measured, columns, extra='threads'):
    """Markdown. `measured`: (row, a label such as the number of threads, records, metric); `columns`: names that have a column of their own."""
    lines = [f'| work | {extra} | ember | ' + ' | '.join(columns) + ' | others | ours ÷ best | target | |', '|---|---|---|' + '---|' * len(columns) + '---|---|---|---|']
    notes = []
    for row, label, records, metric in measured:
        found, problems = figures(row, records, metric)
        peers = {c.name: found[c.name] for c in row.contenders[1:]}
        own = [show(peers[name]) if name in peers and not isinstance(peers[name], str) else '–' for name in columns]
        ours = found[row.contenders[0].name]
        ratio, target, met = verdict(row, found, problems)
        unit = row.unit.replace('/s', '/CPU-s') if metric == 'cpu' and not row.absolute else row.unit
        lines.append(f'| {row.title}, {unit} | {label} | {"–" if isinstance(ours, str) else show(ours)} | ' + ' | '.join(own)
                     + f' | {cell(peers, [name for name in peers if name not in columns])} | {ratio} | {target} | {met} |')
        notes += [f'* {row.title} ({label}): {name} not run: {value}' for name, value in found.items() if isinstance(value, str)]
        notes += [f'* {row.title} ({label}): {c.name}: {c.note}' for c in row.contenders if c.note and not isinstance(found[c.name], str)]
    return '\n'.join(lines + [''] + list(dict.fromkeys(notes)))


def versions(measured):
    """What the peers said they are."""
    said = {record['result']['version'] for _, _, records, _ in measured for record in records if record.get('result', {}).get('version')}
    return ' · '.join(sorted(said))
