"""torch.optim in float64 under schedulers that cycle the momentum, or beta1, into momentum.json.

Each case holds optimizer and schedule as this crate's configuration files name them, the parameters before the first step,
the gradients, which are f32, and the parameters after each step.
"""

import json
import pathlib

import torch
from torch.optim import lr_scheduler

LEN, STEPS = 6, 14

OPTIMIZERS = [
    ("sgd", torch.optim.SGD, {"momentum": 0.9, "weight_decay": 0.01}),
    ("sgd", torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
    ("sgd", torch.optim.SGD, {"momentum": 0.5, "dampening": 0.25}),
    ("rmsprop", torch.optim.RMSprop, {"momentum": 0.9, "alpha": 0.95}),
    ("adam", torch.optim.Adam, {"betas": [0.9, 0.99]}),
    ("adamw", torch.optim.AdamW, {"amsgrad": True, "weight_decay": 0.1}),
    ("nadam", torch.optim.NAdam, {"betas": [0.5, 0.99]}),
    ("radam", torch.optim.RAdam, {"betas": [0.9, 0.9]}),
    ("adamax", torch.optim.Adamax, {"betas": [0.9, 0.99]}),
]

SCHEDULES = [
    ("one_cycle", lr_scheduler.OneCycleLR, {"max_lr": 0.05, "total_steps": STEPS}),
    ("cyclic", lr_scheduler.CyclicLR, {"base_lr": 0.01, "max_lr": 0.05, "step_size_up": 3, "base_momentum": 0.5}),
]


def cases():
    generator = torch.Generator().manual_seed(5)
    for name, optimizer_class, options in OPTIMIZERS:
        for schedule_name, scheduler_class, given in SCHEDULES:
            start = torch.randn(LEN, generator=generator).double()
            grads = torch.randn(STEPS, LEN, generator=generator).double() + 0.5
            param = start.clone().requires_grad_()
            optimizer = optimizer_class([param], lr=1.0, **options)
            scheduler = scheduler_class(optimizer, **given)
            params = []
            for step, grad in enumerate(grads):
                param.grad = grad.clone()
                optimizer.step()
                params.append(param.tolist())
                if step + 1 < STEPS:
                    scheduler.step()
            yield {"optimizer": {"name": name, **options}, "schedule": {"name": schedule_name, **given},
                   "start": start.tolist(), "grads": grads.tolist(), "params": params}


if __name__ == "__main__":
    text = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases())
    (pathlib.Path(__file__).parent / "momentum.json").write_text(f"[\n{text}\n]\n")
