"""Checkpoints of bitsandbytes' optimizers, written by `scripts/torch_checkpoint.py`, into bitsandbytes_checkpoints/.

For each rule: RULE.safetensors after three steps, and in expected.safetensors the gradients of the next step with the
parameters after it.

    python bitsandbytes_checkpoints.py                 # writes the vectors
    python bitsandbytes_checkpoints.py check FOLDER    # continues checkpoints that the crate wrote, and compares

For `check`, FOLDER holds RULE.safetensors by the crate, and RULE.expected with its parameters one step later.
"""

import pathlib
import sys

import bitsandbytes
import torch
from safetensors.numpy import save_file
from torch_checkpoints import HERE, gradients, largest_difference, numbers, step, torch_checkpoint

# Codes for the weight, f32 for the bias.
SHAPES = {"weight": (65, 64), "bias": (5,)}
CASES = {"adamw": ("AdamW8bit", {"lr": 0.01}), "lion": ("Lion8bit", {"lr": 0.01, "weight_decay": 0.1}),
         "ademamix": ("AdEMAMix8bit", {"lr": 0.01, "alpha": 4.0})}
STEPS = 3


def start(case):
    name, options = CASES[case]
    parameters = {name: torch.nn.Parameter(torch.from_numpy(values)) for name, values in gradients(100, SHAPES).items()}
    return parameters, getattr(bitsandbytes.optim, name)(parameters.values(), **options)


def generate():
    folder, expected = HERE / "bitsandbytes_checkpoints", {}
    folder.mkdir(exist_ok=True)
    for case in CASES:
        parameters, optimizer = start(case)
        for number in range(STEPS):
            step(parameters, optimizer, number)
        path = folder / f"{case}.safetensors"
        torch_checkpoint.save(path, optimizer, parameters)
        # The way back gives what was there.
        other, resumed = start(case)
        step(other, resumed, 50)
        torch_checkpoint.load(path, resumed, other)
        for name in parameters:
            assert (other[name] == parameters[name]).all(), (case, name)
            ours, theirs = resumed.state[other[name]], optimizer.state[parameters[name]]
            assert ours.keys() == theirs.keys(), (case, name, ours.keys(), theirs.keys())
            for key, value in theirs.items():
                assert (torch.as_tensor(ours[key]) == torch.as_tensor(value)).all(), (case, name, key)
        step(parameters, optimizer, STEPS)
        expected.update({f"{case}/{name}": values for name, values in numbers(parameters).items()})
    expected.update({f"grad/{name}": values for name, values in gradients(STEPS, SHAPES).items()})
    save_file(expected, folder / "expected.safetensors")


def check(folder):
    """Continues the crate's checkpoints in bitsandbytes. Both have the same parameters a step later, but for rounding."""
    worst = 0.0
    for case in CASES:
        parameters, optimizer = start(case)
        step(parameters, optimizer, 50)
        torch_checkpoint.load(folder / f"{case}.safetensors", optimizer, parameters)
        step(parameters, optimizer, STEPS)
        worst = max(worst, largest_difference(case, parameters, folder))
    print(f"{len(CASES)} checkpoints continued in bitsandbytes {bitsandbytes.__version__}; largest difference {worst:.1e}")


if __name__ == "__main__":
    check(pathlib.Path(sys.argv[2])) if sys.argv[1:2] == ["check"] else generate()
