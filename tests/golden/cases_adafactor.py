"""Adafactor as PyTorch has it. Each group of a case is a tensor, of the shape it names.

The step is relative to the tensor's RMS, so that an error of the parameters grows with them, by about 1 + lr per step.
"""

import numpy as np
import torch

PACKAGES = ()


class Adafactor(torch.optim.Adafactor):
    @staticmethod
    def absent_state(param, name):
        """Of frozen vectors zeros; vectors have no rows, and matrices nothing else."""
        return torch.zeros(param.numel() if (name == "variance") == (param.ndim < 2) else 0)


def cases(Case, groups, WARMUP, LONG):
    # float64 has another machine epsilon.
    eps = {"eps": (float(np.finfo(np.float32).eps), 1e-3)}
    one_of_each = [{"elements": 1, "shape": []}, {"elements": 12, "shape": [3, 4]}, {"elements": 5},
                   {"elements": 12, "shape": [2, 3, 2]}, {"elements": 7, "shape": [7, 1]}]
    options = [{"elements": 12, "shape": [4, 3]}, {"elements": 6, "frozen": True},
               {"elements": 8, "shape": [2, 2, 2], "lr_scale": 0.1, "weight_decay": 0.0},
               {"elements": 11, "lr_scale": 2.0, "weight_decay": 0.1}]
    return {"adafactor": {
        "default": Case(Adafactor, "mixed", {"lr": 0.01} | eps, groups=one_of_each),
        "vector": Case(Adafactor, "mixed", {"lr": 0.01} | eps),
        "matrix": Case(Adafactor, "tame", {"lr": 0.02, "weight_decay": 0.1} | eps,
                       groups=[{"elements": 35, "shape": [5, 7]}, {"elements": 2, "shape": [1, 2]}]),
        "eps": Case(Adafactor, "tame", {"lr": 0.05, "eps": (0.2, 2.0), "d": 1.5}, groups=one_of_each),
        "slow": Case(Adafactor, "tame", {"lr": 0.01, "beta2_decay": -1.5, "weight_decay": 0.02} | eps, groups=one_of_each),
        "constant": Case(Adafactor, "tame", {"lr": 0.01, "beta2_decay": 0.0} | eps, groups=one_of_each),
        # From the twelfth step on 1/sqrt(t) is less than lr. More steps, and the bounds grow beyond use.
        "without_lr": Case(Adafactor, "tame", {"lr": 0.3, "beta2_decay": -0.5} | eps, groups=one_of_each,
                           steps=16),
        "maximize": Case(Adafactor, "tame", {"lr": 0.02, "maximize": True} | eps, groups=one_of_each),
        "clip_schedule": Case(Adafactor, "swinging", {"weight_decay": 0.02} | eps, groups=one_of_each,
                              schedule=WARMUP | {"peak": 0.05, "min_lr": 1e-3}, max_norm=0.5),
        "groups": Case(Adafactor, "tame", {"lr": 0.02, "weight_decay": 0.02} | eps, groups=options),
        "scale": Case(Adafactor, "scaled", {"lr": 0.02} | eps, groups=one_of_each, grad_scale=1024.0),
        "long": Case(Adafactor, "long", {"lr": 1e-3, "weight_decay": 0.01} | eps, groups=one_of_each, steps=LONG),
    }}
