"""DiLoCo in float64 with optimizers of torch as the outer one: diloco.json.

Each case holds the outer optimizer as this crate's configuration files name it, the parameters before the first exchange,
how far each rank moves them before each exchange, and the parameters after each exchange.
"""

import json
import pathlib

import torch

LEN, RANKS, EXCHANGES = 5, 3, 12

OUTER = [
    ("sgd", torch.optim.SGD, {"lr": 0.7, "momentum": 0.9, "nesterov": True}),
    ("sgd", torch.optim.SGD, {"lr": 1.0}),
    ("adamw", torch.optim.AdamW, {"lr": 0.3, "betas": [0.9, 0.95], "weight_decay": 0.1}),
]


def cases():
    generator = torch.Generator().manual_seed(7)
    for name, optimizer_class, options in OUTER:
        start = torch.randn(LEN, generator=generator).double()
        moves = torch.randn(EXCHANGES, RANKS, LEN, generator=generator).double()
        param = start.clone().requires_grad_()
        optimizer = optimizer_class([param], **options)
        params = []
        for of_ranks in moves:
            local = param.detach() + of_ranks
            param.grad = (param.detach() - local).mean(0)
            optimizer.step()
            params.append(param.tolist())
        yield {"outer": {"name": name, **options}, "start": start.tolist(), "moves": moves.tolist(), "params": params}


if __name__ == "__main__":
    text = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases())
    (pathlib.Path(__file__).parent / "diloco.json").write_text(f"[\n{text}\n]\n")
