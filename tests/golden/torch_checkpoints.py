"""Checkpoints of PyTorch's optimizers, written by `scripts/torch_checkpoint.py`, into torch_checkpoints/.

For each case: CASE.safetensors after three steps, and in expected.safetensors the gradients of the next two with the
parameters after them.

    python torch_checkpoints.py                    # writes the vectors
    python torch_checkpoints.py check FOLDER       # continues checkpoints that the crate wrote, and compares

For `check`, FOLDER holds CASE.safetensors by the crate, and CASE.expected with its parameters two steps later.
"""

import pathlib
import sys

import numpy
import torch
from safetensors.numpy import load_file, save_file

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent.parent / "scripts"))
import torch_checkpoint  # noqa: E402

SHAPES = {"weight": (3, 5), "bias": (3,)}
CASES = {
    "adadelta": ("Adadelta", {"lr": 0.5}), "adafactor": ("Adafactor", {}), "adagrad": ("Adagrad", {"lr_decay": 0.1}),
    "adagrad_initial": ("Adagrad", {"initial_accumulator_value": 0.5}), "adam": ("Adam", {"weight_decay": 0.1}),
    "adam_amsgrad": ("Adam", {"amsgrad": True}), "adamw": ("AdamW", {"betas": (0.8, 0.95)}), "adamax": ("Adamax", {}),
    "nadam": ("NAdam", {"momentum_decay": 0.01}), "radam": ("RAdam", {}), "rmsprop": ("RMSprop", {}),
    "rmsprop_all": ("RMSprop", {"centered": True, "momentum": 0.9}), "rprop": ("Rprop", {}), "sgd": ("SGD", {"lr": 0.1}),
    "sgd_momentum": ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    "adamw_groups": ("AdamW", {}),
}
STEPS, MORE = 3, 2


def gradients(step, shapes=SHAPES):
    rng = numpy.random.default_rng(step)
    return {name: rng.standard_normal(shape).astype("f4") for name, shape in shapes.items()}


def start(case):
    """The parameters before the first step, and their optimizer."""
    name, options = CASES[case]
    parameters = {name: torch.nn.Parameter(torch.from_numpy(values)) for name, values in gradients(100).items()}
    groups = [{"params": [parameters["weight"]]}, {"params": [parameters["bias"]], "lr": 5e-4, "weight_decay": 0.0}]
    optimizer = getattr(torch.optim, name)(groups if case.endswith("groups") else parameters.values(), **options)
    return parameters, optimizer


def step(parameters, optimizer, number):
    for name, values in gradients(number, {name: tuple(values.shape) for name, values in parameters.items()}).items():
        parameters[name].grad = torch.from_numpy(values)
    optimizer.step()


def numbers(parameters):
    return {name: parameter.detach().numpy().copy() for name, parameter in parameters.items()}


def generate():
    folder, expected = HERE / "torch_checkpoints", {}
    for case in CASES:
        parameters, optimizer = start(case)
        for number in range(STEPS):
            step(parameters, optimizer, number)
        path = folder / f"{case}.safetensors"
        torch_checkpoint.save(path, optimizer, parameters, steps=STEPS)
        # The way back gives what was there.
        other, resumed = start(case)
        torch_checkpoint.load(path, resumed, other)
        assert all((other[name] == parameters[name]).all() for name in parameters)
        for number, state in optimizer.state_dict()["state"].items():
            back = resumed.state_dict()["state"].get(number, {})
            assert state.keys() == back.keys(), (case, state.keys(), back.keys())
            for key, value in state.items():
                assert value is None or (value.shape == back[key].shape and (value == back[key]).all()), (case, key)
        for number in range(STEPS, STEPS + MORE):
            step(parameters, optimizer, number)
        expected.update({f"{case}/{name}": values for name, values in numbers(parameters).items()})
    for number in range(STEPS + MORE):
        expected.update({f"grad{number}/{name}": values for name, values in gradients(number).items()})
    expected.update({f"start/{name}": values for name, values in gradients(100).items()})
    save_file(expected, folder / "expected.safetensors")


def largest_difference(case, parameters, folder):
    """Relative to the largest parameter, from those in CASE.expected."""
    expected, worst = load_file(folder / f"{case}.expected"), 0.0
    for name, values in numbers(parameters).items():
        difference = float(abs(values - expected[name]).max() / abs(values).max())
        assert difference < 2e-6, (case, name, difference)
        worst = max(worst, difference)
    return worst


def check(folder):
    """Continues the crate's checkpoints in torch. Both have the same parameters two steps later, but for rounding."""
    worst = 0.0
    for case in CASES:
        parameters, optimizer = start(case)
        torch_checkpoint.load(folder / f"{case}.safetensors", optimizer, parameters)
        for number in range(STEPS, STEPS + MORE):
            step(parameters, optimizer, number)
        worst = max(worst, largest_difference(case, parameters, folder))
    print(f"{len(CASES)} checkpoints continued in torch {torch.__version__}; largest difference {worst:.1e}")


if __name__ == "__main__":
    check(pathlib.Path(sys.argv[2])) if sys.argv[1:2] == ["check"] else generate()
