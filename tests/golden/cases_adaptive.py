"""Cases of the rules with a step size of their own per element: Adagrad and its kin, from PyTorch and optax."""

import jax
import numpy as np
import optax
import torch

from generate import LONG, WARMUP, Case, groups

PACKAGES = ("torch", "optax", "jax", "numpy")

jax.config.update("jax_enable_x64", True)


class OptaxOptimizer(torch.optim.Optimizer):
    """An optax optimizer in torch's clothes, so that groups, schedules, clipping and scaling are the same for both.
    Options that a case leaves out have optax's own defaults."""

    def __init__(self, params, lr, convention, **options):
        assert convention == "optax"
        super().__init__(params, {"lr": lr})
        self.options = options
        self.trees = {}
        for group in self.param_groups:
            for param in group["params"]:
                self.trees[param] = self.transformation(lr).init(param.detach().numpy())
                self.name_states(param)

    def transformation(self, lr):
        return self.make(lr, **self.options)

    def name_states(self, param):
        named = self.states(self.trees[param])
        self.state[param] = {name: torch.from_numpy(np.array(values)) for name, values in named.items()}

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for param in (param for param in group["params"] if param.grad is not None):
                transformation = self.transformation(group["lr"])
                updates, self.trees[param] = transformation.update(param.grad.numpy(), self.trees[param])
                param += torch.from_numpy(np.array(updates))
                self.name_states(param)


class OptaxAdagrad(OptaxOptimizer):
    make = staticmethod(optax.adagrad)

    @staticmethod
    def states(tree):
        return {"sum": tree[0].sum_of_squares}


Adagrad = torch.optim.Adagrad

CASES = {
    "adagrad": {
        "default": Case(Adagrad, "mixed", {"lr": 0.01}),
        "lr_decay": Case(Adagrad, "mixed", {"lr": 0.3, "lr_decay": 0.1, "eps": 1e-3}),
        "weight_decay_initial": Case(
            Adagrad, "tame", {"lr": 0.02, "weight_decay": 0.1, "initial_accumulator_value": 0.1}),
        "maximize": Case(Adagrad, "mixed", {"lr": 0.1, "initial_accumulator_value": 1e-4, "maximize": True}),
        "clip_schedule": Case(Adagrad, "swinging", {"lr_decay": 0.01},
                              schedule=WARMUP | {"peak": 0.1, "min_lr": 1e-3}, max_norm=1.0),
        "groups": Case(Adagrad, "tame", {"lr": 0.05, "weight_decay": 0.02, "initial_accumulator_value": 0.3},
                       groups=groups(0.05)),
        "scale_clip": Case(Adagrad, "scaled", {"lr": 0.1, "lr_decay": 0.5}, grad_scale=1024.0, max_norm=0.5),
        "optax": Case(OptaxAdagrad, "mixed", {"lr": 0.1, "convention": "optax"}),
        "optax_clip_schedule": Case(
            OptaxAdagrad, "swinging", {"initial_accumulator_value": 0.0, "eps": 1e-3, "convention": "optax"},
            schedule=WARMUP | {"peak": 0.1, "min_lr": 1e-3}, max_norm=1.0),
        "optax_groups": Case(OptaxAdagrad, "tame", {"lr": 0.05, "convention": "optax"},
                             groups=[{"elements": 20}, {"elements": 5, "frozen": True},
                                     {"elements": 12, "lr_scale": 0.1}]),
        "long": Case(Adagrad, "tame", {"lr": 0.05, "lr_decay": 1e-3, "weight_decay": 1e-3}, steps=LONG),
    },
}
