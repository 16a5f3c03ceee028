"""Makes grad_scaler.json with torch.amp.GradScaler: the scale after each step and whether it was skipped."""

import json
import pathlib

import torch

OVERFLOWS = [3, 4, 11, 12, 13, 20]
CASES = [
    {"init_scale": 65536.0, "growth_factor": 2.0, "backoff_factor": 0.5, "growth_interval": 3},
    {"init_scale": 1024.0, "growth_factor": 4.0, "backoff_factor": 0.25, "growth_interval": 1},
    {"init_scale": 8.0, "growth_factor": 2.0, "backoff_factor": 0.125, "growth_interval": 5},
]


def run(options):
    param = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
    optimizer = torch.optim.SGD([param], lr=0.125)
    scaler = torch.amp.GradScaler("cpu", **options)
    steps = []
    for step in range(24):
        scaler.scale(torch.zeros(1))
        param.grad = torch.tensor([0.5, 0.25]) * scaler.get_scale()
        if step in OVERFLOWS:
            param.grad[1] = float("inf") if step % 2 else float("nan")
        before = param.detach().clone()
        scaler.step(optimizer)
        scaler.update()
        skipped = bool(torch.equal(before, param.detach()))
        steps.append({"scale": scaler.get_scale(), "skipped": skipped, "params": param.tolist()})
    return {"options": options, "overflows": OVERFLOWS, "steps": steps}


cases = [run(options) for options in CASES]
path = pathlib.Path(__file__).with_suffix(".json")
path.write_text(json.dumps({"torch": torch.__version__, "cases": cases}, indent=1) + "\n")
