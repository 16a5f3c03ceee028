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
import numpy
import torch
from safetensors.numpy import load_file, save_file

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent.parent / "scripts"))
import torch_checkpoint  # noqa: E402

# Codes for the weight, f32 for the bias.
SHAPES = {"weight": (65, 64), "bias": (5,)}
CASES = {"adamw": ("AdamW8bit", {"lr": 0.01}), "lion": ("Lion8bit", {"lr": 0.01, "weight_decay": 0.1}),
         "ademamix": ("AdEMAMix8bit", {"lr": 0.01, "alpha": 4.0})}
STEPS = 3


def gradients(step):
    rng = numpy.random.default_rng(step)
    return {name: rng.standard_normal(shape).astype("f4") for name, shape in SHAPES.items()}


def start(case):
    name, options = CASES[case]
    parameters = {name: torch.nn.Parameter(torch.from_numpy(values)) for name, values in gradients(100).items()}
    return parameters, getattr(bitsandbytes.optim, name)(parameters.values(), **options)


def step(parameters, optimizer, number):
    for name, values in gradients(number).items():
        parameters[name].grad = torch.from_numpy(values)
    optimizer.step()


def numbers(parameters):
    return {name: parameter.detach().numpy().copy() for name, parameter in parameters.items()}


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
    expected.update({f"grad/{name}": values for name, values in gradients(STEPS).items()})
    save_file(expected, folder / "expected.safetensors")


def check(folder):
    """Continues the crate's checkpoints in bitsandbytes. Both have the same parameters a step later, but for rounding."""
    worst = 0.0
    for case in CASES:
        parameters, optimizer = start(case)
        step(parameters, optimizer, 50)
        torch_checkpoint.load(folder / f"{case}.safetensors", optimizer, parameters)
        step(parameters, optimizer, STEPS)
        expected = load_file(folder / f"{case}.expected")
        for name, values in numbers(parameters).items():
            difference = float(abs(values - expected[name]).max() / abs(values).max())
            assert difference < 2e-6, (case, name, difference)
            worst = max(worst, difference)
    print(f"{len(CASES)} checkpoints continued in bitsandbytes {bitsandbytes.__version__}; largest difference {worst:.1e}")


if __name__ == "__main__":
    check(pathlib.Path(sys.argv[2])) if sys.argv[1:2] == ["check"] else generate()
