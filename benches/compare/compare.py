"""Times other optimizers beside ours, by turns in one run, and prints one table.

    python compare.py cpu              # torch's fused AdamW on the CPU beside the CPU engine
    python compare.py burn             # burn on wgpu beside ours, on the adapter wgpu finds
    python compare.py cuda             # torch, apex and bitsandbytes by CUDA events beside ours through Vulkan

Every round measures each side once, ours first; the medians are over all rounds. `--json FILE` keeps the rows. What is
not installed, or finds no device or memory, is named and left out; the others are measured all the same. Cargo builds our
side, unless `--throughput FILE` names the built program.
"""

import argparse
import importlib
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


MISSING = {}


def without(what, why):
    """Says once what is left out, and why."""
    if what not in MISSING:
        lines = [line for line in str(why).splitlines() if line.strip()]
        MISSING[what] = lines[-1] if lines else type(why).__name__
        print(f"without {what}: {MISSING[what]}", file=sys.stderr)


def run(command, folder, what):
    """A program's output; none where it cannot be run."""
    try:
        return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout
    except FileNotFoundError:
        without(what, f"{command[0]} is not installed")
    except subprocess.CalledProcessError as error:
        without(what, error.stderr or error)


def bytes_of(elements, clip):
    """What a step of AdamW moves: 28 bytes per parameter, and the gradients once more where their norm is taken."""
    return (32 if clip else 28) * elements


def ours(program, engine, elements, tensors, seconds):
    """The rows of examples/throughput for AdamW."""
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows.json"
        built = ["cargo", "run", "--quiet", "--release", "--package", "throughput", "--"]
        command = ([str(program)] if program else built) + ["--engine", engine]
        command += ["--rules", "adamw", "--sizes", str(elements), "--tensors", str(tensors)]
        command += ["--seconds", str(seconds), "--json", str(rows)]
        if run(command, ROOT, f"wgpu-optim ({engine}) at {elements:,} parameters") is None:
            return []
        found = json.loads(rows.read_text())
    return [row | {"engine": f"wgpu-optim ({row['engine']})", "by": f"{row['adapter']}, {row['driver']}"} for row in found]


def library(name):
    """A Python library, if it is there and loads: those with native code fail in many ways."""
    try:
        return importlib.import_module(name)
    except Exception as error:
        without(name.partition(".")[0], error)


def torch_steps(device, elements, tensors):
    """Torch's ways to take a step, by name: a function each, and whether it clips."""
    import torch

    def parameters():
        cuts = [elements * i // tensors for i in range(tensors + 1)]
        made = [torch.nn.Parameter(torch.ones(b - a, device=device)) for a, b in zip(cuts, cuts[1:])]
        for parameter in made:
            parameter.grad = torch.full_like(parameter, 1e-3)
        return made

    def by_turns(make, clip=False):
        """Goes round as many copies as keep each out of the caches, as our side does; `make` makes an optimizer."""
        copies = []
        for _ in range(min(max(-(-(256 * MEBI) // (16 * elements)), 1), 64)):
            mine = parameters()
            copies.append((mine, make(mine)))

        def run():
            copies.append(copies.pop(0))
            mine, optimizer = copies[0]
            if clip:
                torch.nn.utils.clip_grad_norm_(mine, 1.0)
            optimizer.step()

        return run

    def fused(mine):
        return torch.optim.AdamW(mine, lr=1e-3, weight_decay=0.01, fused=True)

    def foreach(mine):
        return torch.optim.AdamW(mine, lr=1e-3, weight_decay=0.01, foreach=True)

    name = f"torch {torch.__version__} fused"
    yield name, by_turns(fused), False
    yield name, by_turns(fused, clip=True), True
    yield f"torch {torch.__version__} foreach", by_turns(foreach), False
    yield f"torch {torch.__version__} foreach", by_turns(foreach, clip=True), True
    if device == "cuda":
        if (apex := library("apex.optimizers")) is not None:
            yield "apex FusedAdam", by_turns(lambda mine: apex.FusedAdam(mine, lr=1e-3, weight_decay=0.01)), False
        if (bitsandbytes := library("bitsandbytes")) is not None:

            def eight(mine):
                return bitsandbytes.optim.AdamW8bit(mine, lr=1e-3, weight_decay=0.01)

            yield f"bitsandbytes {bitsandbytes.__version__} 8-bit", by_turns(eight), False


def torch_rows(device, elements, tensors, seconds):
    import torch

    def timed(step):
        if device != "cuda":
            start = time.perf_counter()
            step()
            return time.perf_counter() - start
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        step()
        end.record()
        torch.cuda.synchronize()
        return begin.elapsed_time(end) / 1e3

    def measured(step):
        # As many as there may be copies: the first step of each touches its memory.
        for _ in range(64 if elements < 64 * MEBI else 2):
            step()
        times, until = [], time.perf_counter() + seconds
        while len(times) < 7 or time.perf_counter() < until:
            times.append(timed(step))
        return times

    by = torch.cuda.get_device_name() if device == "cuda" else f"threads: {torch.get_num_threads()}"
    steps = torch_steps(device, elements, tensors)
    while True:
        # Returns the memory of the side before: torch keeps it otherwise, and ours needs it next.
        step = None
        if device == "cuda":
            torch.cuda.empty_cache()
        try:
            name, step, clip = next(steps)
            times = measured(step)
        except StopIteration:
            return
        except RuntimeError as error:
            # Out of memory, or a kernel that the card does not have. A generator that has failed itself makes no more steps.
            without(f"some of torch's at {elements:,} parameters", error)
            continue
        yield {
            "engine": name, "by": by, "rule": "adamw", "precision": "f32", "clip": clip, "elements": elements,
            "tensors": tensors, "seconds_median": statistics.median(times), "seconds_min": min(times),
        }


def burn_rows(elements, tensors):
    command = ["cargo", "run", "--quiet", "--release", "--", f"{elements}:{tensors}"]
    folder = Path(__file__).resolve().parent / "burn"
    output = run(command, folder, f"burn at {elements:,} parameters") or ""
    return [json.loads(line) | {"by": "wgpu"} for line in output.splitlines() if line.startswith("{")]


def has_torch(device, threads):
    """Whether torch is there, and a device of the kind; sets its threads."""
    torch = library("torch")
    if torch is None:
        print("  install it: pip install -r requirements.txt", file=sys.stderr)
        return False
    torch.set_num_threads(threads)
    if device == "cuda" and not torch.cuda.is_available():
        without("torch on CUDA", "torch finds no NVIDIA GPU")
        return False
    return True


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("with_", metavar="WITH", choices=["cpu", "burn", "cuda"])
    parser.add_argument("--cases", nargs="+", metavar="ELEMENTS:TENSORS", help="default: by what is compared")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0, help="per side, case and round")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of both sides, on the CPU")
    parser.add_argument("--throughput", type=Path, metavar="FILE", help="the built program examples/throughput")
    parser.add_argument("--json", type=Path, help="write the rows, after every round")
    args = parser.parse_args()
    os.environ["RAYON_NUM_THREADS"] = str(args.threads)
    with_torch = args.with_ != "burn" and has_torch(args.with_, args.threads)
    by_default = {
        "cpu": [f"{MEBI}:1", f"{16 * MEBI}:1", f"{64 * MEBI}:1"],
        "burn": [f"{16 * MEBI}:1", "100000:200"],
        "cuda": [f"{MEBI}:1", f"{16 * MEBI}:1", f"{64 * MEBI}:1", f"{1024 * MEBI}:1", "100000:200"],
    }
    rows = []
    for case in args.cases or by_default[args.with_]:
        elements, tensors = map(int, case.split(":"))
        for _ in range(args.rounds):
            engine = "cpu" if args.with_ == "cpu" else "gpu"
            rows += ours(args.throughput, engine, elements, tensors, args.seconds)
            if args.with_ == "burn":
                rows += burn_rows(elements, tensors)
            elif with_torch:
                rows += torch_rows(args.with_, elements, tensors, args.seconds)
            if args.json:
                args.json.write_text(json.dumps(rows, indent=1) + "\n")
    table(rows)


def table(rows):
    """The median over the rounds, and each as a multiple of ours with the same elements, tensors and clipping."""
    cases = {}
    for row in rows:
        case = (row["elements"], row["tensors"], row["clip"])
        cases.setdefault(case, {}).setdefault((row["engine"], row["by"]), []).append(row["seconds_median"])
    print("| parameters | tensors | clipped | engine | on | ms | GB/s | time / ours |\n|---|---|---|---|---|---|---|---|")
    for (elements, tensors, clip), engines in cases.items():
        medians = {engine: statistics.median(times) for engine, times in engines.items()}
        mine = next((seconds for (engine, _), seconds in medians.items() if engine.startswith("wgpu-optim")), None)
        for (engine, by), seconds in medians.items():
            rate = bytes_of(elements, clip) / seconds / 1e9
            cells = [f"{elements:,}", tensors, "yes" if clip else "no", engine, by]
            cells += [f"{seconds * 1e3:.2f}", f"{rate:.1f}", f"{seconds / mine:.2f}" if mine else "-"]
            print("| " + " | ".join(map(str, cells)) + " |")
    for what, why in MISSING.items():
        print(f"\nNot measured: {what} ({why}).")


if __name__ == "__main__":
    main()
