"""Times other optimizers beside ours, by turns in one run, and prints one table.

    python compare.py cpu              # torch's fused AdamW on the CPU beside the CPU engine
    python compare.py burn             # burn on wgpu beside ours, on the adapter wgpu finds
    python compare.py cuda             # torch, apex and bitsandbytes on CUDA beside ours through Vulkan

Each round measures every side of every case once, ours first. The table shows medians over all rounds. `--json FILE`
stores the rows, after every side. A side that fails is named with its reason; the others are measured. Cargo builds our
side, unless `--throughput FILE` names the built program.
"""

import argparse
import collections
import gc
import importlib
import importlib.metadata
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MEBI = 1 << 20

# Seconds of steps before the first time counts.
WARM_UP = 0.2
# Batches that medians are taken over, at least.
MIN_BATCHES = 3
# Steps of one batch, at most; the same as in examples/throughput.
MAX_TURNS = 64
# Longest kernel, in seconds, that keeps the device busy while the host fills the queue.
MAX_HOLD = 0.5

# Bytes of a fused f32 AdamW: parameter, two states read and written, gradient read. Clipping reads the gradient again.
ADAMW_BYTES, CLIP_BYTES = 28, 4
# The same with 8-bit states. bitsandbytes keeps 32-bit states for smaller tensors.
EIGHT_BIT_BYTES, EIGHT_BIT_TENSOR = 16, 4096

MISSING = {}


def without(what, why):
    """Prints once what is left out, and why."""
    if what not in MISSING:
        lines = [line for line in str(why).splitlines() if line.strip()]
        MISSING[what] = lines[-1].strip() if lines else type(why).__name__
        print(f"without {what}: {MISSING[what]}", file=sys.stderr)


def run(command, folder, what):
    """Runs a program and returns its output, also after a failure."""
    try:
        done = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True)
    except OSError as error:
        without(what, f"{command[0]} cannot be run: {error.strerror}")
        return ""
    if done.returncode != 0:
        without(what, done.stderr or f"exit code {done.returncode}")
    return done.stdout


def bytes_of(elements, clip):
    """Bytes of a fused step of AdamW."""
    return (ADAMW_BYTES + (CLIP_BYTES if clip else 0)) * elements


def ours(program, engine, elements, tensors, seconds):
    """Yields the rows of examples/throughput for AdamW, also those written before a failure."""
    what = f"wgpu-optim ({engine}) at {elements:,} parameters in {tensors:,} tensors"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.json"
        built = ["cargo", "run", "--quiet", "--release", "--package", "throughput", "--"]
        command = ([str(program)] if program else built) + ["--engine", engine]
        command += ["--rules", "adamw", "--sizes", str(elements), "--tensors", str(tensors)]
        command += ["--seconds", str(seconds), "--json", str(path)]
        run(command, ROOT, what)
        try:
            rows = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            without(what, f"no rows: {error}")
            return
    for row in rows:
        more = {"engine": f"wgpu-optim ({row['engine']})", "by": f"{row['adapter']}, {row['driver']}"}
        yield row | more | {"clock": "wall" if row["engine"] == "cpu" else "device"}


class Side:
    """An optimizer of another library. `make` builds it for a list of parameters; imports happen there."""

    def __init__(self, name, make, clip=False, bytes_per_parameter=ADAMW_BYTES):
        self.name, self.make, self.clip = name, make, clip
        self.bytes_per_parameter = bytes_per_parameter + (CLIP_BYTES if clip else 0)

    def label(self):
        return self.name + (", clipped" if self.clip else "")


def sides(torch, device, elements, tensors):
    """Lists the optimizers to measure."""

    def adamw(**how):
        return lambda mine: torch.optim.AdamW(mine, lr=1e-3, weight_decay=0.01, **how)

    def apex(mine):
        return importlib.import_module("apex.optimizers").FusedAdam(mine, lr=1e-3, weight_decay=0.01)

    def eight_bit(mine):
        return importlib.import_module("bitsandbytes").optim.AdamW8bit(mine, lr=1e-3, weight_decay=0.01)

    name = f"torch {torch.__version__}"
    listed = [
        Side(f"{name} {how}", adamw(**{how: True}), clip) for how in ("fused", "foreach") for clip in (False, True)
    ]
    if device == "cuda":
        per_parameter = EIGHT_BIT_BYTES if elements // tensors >= EIGHT_BIT_TENSOR else ADAMW_BYTES
        listed.append(Side("apex FusedAdam", apex))
        listed.append(Side(f"{versioned('bitsandbytes')} 8-bit", eight_bit, bytes_per_parameter=per_parameter))
    return listed


def versioned(library):
    try:
        return f"{library} {importlib.metadata.version(library)}"
    except importlib.metadata.PackageNotFoundError:
        return library


def steps(torch, device, side, elements, tensors):
    """Returns a function that takes a step, and the number of copies of all buffers.

    Steps go round the copies: together they exceed every cache, as in examples/throughput.
    """

    def parameters():
        cuts = [elements * i // tensors for i in range(tensors + 1)]
        made = [torch.nn.Parameter(torch.ones(b - a, device=device)) for a, b in zip(cuts, cuts[1:])]
        for parameter in made:
            parameter.grad = torch.full_like(parameter, 1e-3)
        return made

    copies = collections.deque()
    for _ in range(min(max(-(-(256 * MEBI) // (16 * elements)), 1), 64)):
        mine = parameters()
        copies.append((mine, side.make(mine)))

    def step():
        copies.rotate(-1)
        mine, optimizer = copies[0]
        if side.clip:
            torch.nn.utils.clip_grad_norm_(mine, 1.0)
        optimizer.step()

    return step, len(copies)


def warm_up(step, copies, synchronize):
    """Steps every copy once, which allocates its states, and goes on for `WARM_UP` seconds."""
    until, taken = time.perf_counter() + WARM_UP, 0
    while taken < copies or time.perf_counter() < until:
        step()
        # Keeps the queue short: it would run long after the warm-up.
        synchronize()
        taken += 1


def wall_times(step, seconds):
    """Times single steps by the clock on the wall."""
    times, until = [], time.perf_counter() + seconds
    while len(times) < MIN_BATCHES or time.perf_counter() < until:
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return {
        "clock": "wall", "seconds_median": statistics.median(times), "seconds_min": min(times),
        "wall_seconds_median": statistics.median(times),
    }


def wall_batch(cuda, step, turns):
    """Takes steps back to back. Returns seconds until the last is submitted, and until it is done."""
    start = time.perf_counter()
    for _ in range(turns):
        step()
    submitted = time.perf_counter() - start
    cuda.synchronize()
    return submitted, time.perf_counter() - start


def device_batch(cuda, step, turns, cycles):
    """Submits steps while a kernel of so many cycles holds the device.

    Returns whether all were submitted before the first began, and the device's seconds for each.
    """
    begins, ends = ([cuda.Event(enable_timing=True) for _ in range(turns)] for _ in range(2))
    cuda._sleep(cycles)
    for begin, end in zip(begins, ends):
        begin.record()
        step()
        end.record()
    queued = not begins[0].query()
    cuda.synchronize()
    return queued, [begin.elapsed_time(end) / 1e3 for begin, end in zip(begins, ends)]


def cycles_per_second(cuda):
    """Measures the clock that `_sleep` counts."""
    cycles = 2_000_000
    _, (seconds,) = device_batch(cuda, lambda: cuda._sleep(cycles), 1, cycles)
    return cycles / seconds


def cuda_times(cuda, step, seconds):
    """Times steps on the device and on the wall, by turns.

    Device times exclude the host: the queue is full before the first step begins. A queue that cannot hold a batch
    (CUDA holds about 1,024 launches) halves the batch. Times of a single step that does not fit include the host's gaps:
    `queued` is false.
    """
    rate = cycles_per_second(cuda)
    _, once = wall_batch(cuda, step, 1)
    turns = min(max(int(seconds / (2 * MIN_BATCHES) / once), 1), MAX_TURNS)
    walls, times, loose, until = [], [], [], time.perf_counter() + seconds
    while len(walls) < MIN_BATCHES or not (times or loose) or time.perf_counter() < until:
        submitted, wall = wall_batch(cuda, step, turns)
        walls.append(wall / turns)
        # Threefold, as events cost launches too.
        hold = min(3 * submitted + 1e-3, MAX_HOLD)
        queued, found = device_batch(cuda, step, turns, int(hold * rate))
        if queued:
            times += found
        elif turns == 1:
            loose += found
        else:
            turns //= 2
    found = times or loose
    return {
        "clock": "device", "seconds_median": statistics.median(found), "seconds_min": min(found),
        "wall_seconds_median": statistics.median(walls), "queued": bool(times),
    }


def torch_rows(device, elements, tensors, seconds):
    """Yields a row for each optimizer that works."""
    import torch

    cuda = torch.cuda if device == "cuda" else None
    by = cuda.get_device_name() if cuda else f"threads: {torch.get_num_threads()}"
    for side in sides(torch, device, elements, tensors):
        what = f"{side.label()} at {elements:,} parameters in {tensors:,} tensors"
        if side.label() in MISSING or what in MISSING:
            continue
        try:
            times = measured(torch, device, side, elements, tensors, seconds)
        except ImportError as error:
            # The same at every size.
            without(side.label(), error)
        except Exception as error:
            # Out of memory, a kernel that the card lacks, native code that does not load.
            without(what, error)
        else:
            yield {
                "engine": side.name, "by": by, "rule": "adamw", "precision": "f32", "clip": side.clip,
                "elements": elements, "tensors": tensors, "bytes_per_step": side.bytes_per_parameter * elements,
            } | times
        # Returns memory to the driver: torch stores it otherwise, and the next side needs it.
        gc.collect()
        if cuda:
            try:
                cuda.empty_cache()
            except Exception as error:
                # A kernel that failed may end the whole context.
                without(f"memory after {what}", error)


def measured(torch, device, side, elements, tensors, seconds):
    """Builds a side and times it. Its memory is free on return."""
    step, copies = steps(torch, device, side, elements, tensors)
    warm_up(step, copies, torch.cuda.synchronize if device == "cuda" else lambda: None)
    return cuda_times(torch.cuda, step, seconds) if device == "cuda" else wall_times(step, seconds)


def burn_rows(elements, tensors):
    command = ["cargo", "run", "--quiet", "--release", "--", f"{elements}:{tensors}"]
    folder = Path(__file__).resolve().parent / "burn"
    output = run(command, folder, f"burn at {elements:,} parameters in {tensors:,} tensors")
    for row in (json.loads(line) for line in output.splitlines() if line.startswith("{")):
        more = {"by": "wgpu", "clock": "wall", "wall_seconds_median": row["seconds_median"]}
        yield row | more | {"bytes_per_step": bytes_of(elements, row["clip"])}


def has_torch(device, threads):
    """Sets torch's threads. Returns whether torch is there, with a device of the kind."""
    try:
        torch = importlib.import_module("torch")
    except Exception as error:
        without("torch", error)
        print("  install it: pip install -r requirements.txt", file=sys.stderr)
        return False
    torch.set_num_threads(threads)
    if device == "cuda" and not torch.cuda.is_available():
        without("torch on CUDA", "torch finds no NVIDIA GPU")
        return False
    return True


def measure(args, with_torch, elements, tensors):
    """Yields a row of each side once."""
    yield from ours(args.throughput, "cpu" if args.with_ == "cpu" else "gpu", elements, tensors, args.seconds)
    if args.with_ == "burn":
        yield from burn_rows(elements, tensors)
    elif with_torch:
        yield from torch_rows(args.with_, elements, tensors, args.seconds)


def save(rows, path):
    """Replaces the file: a kill leaves the old one whole."""
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(rows, indent=1) + "\n")
    os.replace(part, path)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("with_", metavar="WITH", choices=["cpu", "burn", "cuda"])
    parser.add_argument("--cases", nargs="+", metavar="ELEMENTS:TENSORS", help="default: by what is compared")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0, help="per side, case and round")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of both sides, on the CPU")
    parser.add_argument("--throughput", type=Path, metavar="FILE", help="the built program examples/throughput")
    parser.add_argument("--json", type=Path, help="write the rows, after every side")
    args = parser.parse_args()
    os.environ["RAYON_NUM_THREADS"] = str(args.threads)
    with_torch = args.with_ != "burn" and has_torch(args.with_, args.threads)
    by_default = {
        "cpu": [f"{MEBI}:1", f"{16 * MEBI}:1", f"{64 * MEBI}:1"],
        "burn": [f"{16 * MEBI}:1", "100000:200"],
        "cuda": [f"{MEBI}:1", f"{16 * MEBI}:1", f"{64 * MEBI}:1", f"{1024 * MEBI}:1", "100000:200"],
    }
    cases = [tuple(map(int, case.split(":"))) for case in args.cases or by_default[args.with_]]
    rows = []
    for _ in range(args.rounds):
        for elements, tensors in cases:
            for row in measure(args, with_torch, elements, tensors):
                rows.append(row)
                if args.json:
                    save(rows, args.json)
    if args.json:
        save(rows, args.json)
    table(rows)


def table(rows):
    """Prints medians over the rounds, and each as a multiple of ours with the same elements, tensors and clipping.

    Device times stand beside device times, and wall times beside wall times.
    """
    cases = {}
    for row in rows:
        case = (row["elements"], row["tensors"], row["clip"])
        cases.setdefault(case, {}).setdefault((row["engine"], row["by"]), []).append(row)
    print("| parameters | tensors | clipped | engine | on | device ms | wall ms | GB/s | device / ours | wall / ours |")
    print("|---" * 10 + "|")
    for (elements, tensors, clip), engines in cases.items():
        mine = next((measured for (engine, _), measured in engines.items() if engine.startswith("wgpu-optim")), [])
        device_ours, wall_ours = times_of(mine)
        for (engine, by), measured in engines.items():
            device, wall = times_of(measured)
            rate = measured[0]["bytes_per_step"] / (device or wall) / 1e9
            # Includes gaps of the host.
            most = "" if all(row.get("queued", True) for row in measured) else "≤ "
            cells = [f"{elements:,}", tensors, "yes" if clip else "no", engine, by]
            cells += [f"{most}{device * 1e3:.3f}" if device else "-", f"{wall * 1e3:.3f}", f"{rate:.1f}"]
            cells += [f"{most}{device / device_ours:.2f}" if device and device_ours else "-"]
            cells += [f"{wall / wall_ours:.2f}" if wall_ours else "-"]
            print("| " + " | ".join(map(str, cells)) + " |")
    for what, why in MISSING.items():
        print(f"\nNot measured: {what} ({why}).")


def times_of(rows):
    """Returns medians of device and wall times; none where there are none."""
    device = [row["seconds_median"] for row in rows if row["clock"] == "device"]
    wall = [row["wall_seconds_median"] for row in rows]
    return statistics.median(device) if device else None, statistics.median(wall) if wall else None


if __name__ == "__main__":
    main()
