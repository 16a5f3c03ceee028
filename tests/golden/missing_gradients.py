"""torch.optim in float64 with grad=None for some tensors of some steps, into missing_gradients.json.

Each case holds the optimizer as this crate's configuration files name it, the maximum norm of clip_grad_norm_ or null, the
parameters before the first step, the gradients, which are f32 or null, and the parameters after each step.
"""

import json
import pathlib

import torch

SHAPES = [(3, 5), (4,), (7,)]
# The tensors that have a gradient, step by step: all, one at first, one at last, none twice in a row.
PRESENT = ["abc", "a", "ac", "b", "b", "abc", "c", "bc", "ab", "a", "abc", "c", "ac"]

OPTIMIZERS = [
    ("sgd", torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}),
    ("sgd", torch.optim.SGD, {"lr": 0.1, "momentum": 0.5, "dampening": 0.25}),
    ("adam", torch.optim.Adam, {"lr": 0.1}),
    ("adamw", torch.optim.AdamW, {"lr": 0.1, "amsgrad": True, "weight_decay": 0.1}),
    ("radam", torch.optim.RAdam, {"lr": 0.1, "betas": [0.9, 0.9]}),
    ("nadam", torch.optim.NAdam, {"lr": 0.1}),
]


def cases():
    generator = torch.Generator().manual_seed(7)
    # Some tensors have no gradient in the first step, either.
    for late in [False, True]:
        for name, optimizer_class, options in OPTIMIZERS:
            for max_norm in [None, 0.5]:
                present = PRESENT[1:] if late else PRESENT
                start = [torch.randn(shape, generator=generator).double() for shape in SHAPES]
                params = [tensor.clone().requires_grad_() for tensor in start]
                optimizer = optimizer_class(params, **options)
                grads, after = [], []
                for names in present:
                    given = [
                        torch.randn(shape, generator=generator).double() + 0.5 if tensor in names else None
                        for tensor, shape in zip("abc", SHAPES)
                    ]
                    for param, grad in zip(params, given):
                        param.grad = None if grad is None else grad.clone()
                    if max_norm is not None:
                        torch.nn.utils.clip_grad_norm_(params, max_norm)
                    optimizer.step()
                    grads.append([None if grad is None else grad.flatten().tolist() for grad in given])
                    after.append([param.flatten().tolist() for param in params])
                yield {"optimizer": {"name": name, **options}, "max_norm": max_norm,
                       "start": [tensor.flatten().tolist() for tensor in start], "grads": grads, "params": after}


if __name__ == "__main__":
    text = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases())
    (pathlib.Path(__file__).parent / "missing_gradients.json").write_text(f"[\n{text}\n]\n")
