"""PyTorch's parameter groups into param_groups.json: `param_groups[0]` of every optimizer that this crate has, under its
name here: with the default options alone, and with named parameters and the scheduler that adds most keys.

Every group has the default options, which are those of the rule.
"""

import json
import pathlib

import torch
from torch.optim import lr_scheduler

OPTIMIZERS = {"adadelta": "Adadelta", "adafactor": "Adafactor", "adagrad": "Adagrad", "adam": "Adam", "adamw": "AdamW",
              "adamax": "Adamax", "nadam": "NAdam", "radam": "RAdam", "rmsprop": "RMSprop", "rprop": "Rprop",
              "sgd": "SGD"}


def groups():
    for name, optimizer in OPTIMIZERS.items():
        module = torch.nn.Linear(2, 1)
        make = getattr(torch.optim, optimizer)
        yield name, make(module.parameters())
        scheduled = make(module.named_parameters())
        lr = scheduled.param_groups[0]["lr"]
        lr_scheduler.OneCycleLR(scheduled, 2 * lr, 10, div_factor=2, cycle_momentum=False)
        yield name, scheduled


if __name__ == "__main__":
    # `state_dict` numbers the parameters.
    dumps = ({"name": name, **optimizer.state_dict()["param_groups"][0]} for name, optimizer in groups())
    text = ",\n".join(json.dumps(group, separators=(",", ":")) for group in dumps)
    (pathlib.Path(__file__).parent / "param_groups.json").write_text(f"[\n{text}\n]\n")
