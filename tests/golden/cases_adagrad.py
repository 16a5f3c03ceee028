"""Cases of the rules with a step size of their own per element: Adagrad and its kin, from PyTorch and optax."""

import jax
import numpy as np
import optax
import torch

jax.config.update("jax_enable_x64", True)


class OptaxOptimizer(torch.optim.Optimizer):
    """An optax optimizer in torch's clothes, so that groups, schedules, clipping and scaling are the same for both.
    Options that a case leaves out have optax's own defaults."""

    made_by = ("optax", "jax")

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
        options = {self.renamed.get(name, name): value for name, value in self.options.items()}
        return self.make(lr, **options)

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
    make, renamed = staticmethod(optax.adagrad), {}

    @staticmethod
    def states(tree):
        return {"sum": tree[0].sum_of_squares}


class OptaxRMSprop(OptaxOptimizer):
    make, renamed = staticmethod(optax.rmsprop), {"alpha": "decay"}

    @staticmethod
    def states(tree):
        states = {"square_avg": tree[0].nu}
        if hasattr(tree[0], "mu"):
            states["grad_avg"] = tree[0].mu
        if hasattr(tree[2], "trace"):
            states["momentum_buffer"] = -tree[2].trace  # of updates, which have the opposite sign
        return states


Adagrad, RMSprop, Adadelta = torch.optim.Adagrad, torch.optim.RMSprop, torch.optim.Adadelta
Adamax, Rprop = torch.optim.Adamax, torch.optim.Rprop


def cases(Case, groups, WARMUP, LONG):
    return {
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
        "rmsprop": {
            "default": Case(RMSprop, "mixed", {"lr": 0.01}),
            "alpha_eps": Case(RMSprop, "mixed", {"lr": 0.02, "alpha": 0.9, "eps": 1e-4}),
            "weight_decay": Case(RMSprop, "tame", {"lr": 2e-3, "weight_decay": 0.02}),
            "centered": Case(RMSprop, "mixed", {"lr": 0.01, "centered": True}),
            "momentum_maximize": Case(RMSprop, "mixed", {"lr": 3e-3, "momentum": 0.9, "maximize": True}),
            "centered_momentum_weight_decay": Case(
                RMSprop, "tame", {"lr": 2e-3, "alpha": 0.95, "momentum": 0.8, "centered": True, "weight_decay": 0.01}),
            "clip_schedule": Case(RMSprop, "swinging", {"momentum": 0.9},
                                  schedule=WARMUP | {"peak": 0.01, "min_lr": 1e-3}, max_norm=1.0),
            # Slow, as is what decays above: no parameter may reach 0 by L2 decay alone.
            "groups": Case(RMSprop, "tame", {"lr": 5e-4, "weight_decay": 0.01, "centered": True}, groups=groups(0.03)),
            "scale_clip": Case(RMSprop, "scaled", {"lr": 0.01, "momentum": 0.5}, grad_scale=1024.0, max_norm=0.5),
            "optax": Case(OptaxRMSprop, "mixed", {"lr": 0.01, "convention": "optax"}),
            "optax_centered": Case(
                OptaxRMSprop, "tame",
                {"lr": 0.02, "alpha": 0.97, "eps": 1e-4, "centered": True, "convention": "optax"}),
            "optax_momentum_schedule": Case(
                OptaxRMSprop, "swinging", {"momentum": 0.9, "eps": 1e-5, "convention": "optax"},
                schedule=WARMUP | {"peak": 0.01, "min_lr": 1e-3}, max_norm=1.0),
            "optax_centered_momentum": Case(
                OptaxRMSprop, "mixed", {"lr": 1e-3, "momentum": 0.7, "centered": True, "convention": "optax"}),
            # Not centered: some columns hardly vary, and square_avg - grad_avg^2 loses four digits, in float64 as well.
            "long": Case(RMSprop, "tame", {"lr": 1e-3, "momentum": 0.9}, steps=LONG),
        },
        "adadelta": {
            "default": Case(Adadelta, "mixed", {"lr": 1.0}),
            "rho_eps": Case(Adadelta, "mixed", {"lr": 0.5, "rho": 0.95, "eps": 1e-3}),
            "weight_decay": Case(Adadelta, "tame", {"lr": 1.0, "weight_decay": 0.02}),
            "maximize": Case(Adadelta, "mixed", {"lr": 0.1, "rho": 0.5, "maximize": True}),
            "clip_schedule": Case(Adadelta, "swinging", {"rho": 0.8},
                                  schedule=WARMUP | {"peak": 2.0, "min_lr": 0.1}, max_norm=1.0),
            "groups": Case(Adadelta, "tame", {"lr": 0.5, "weight_decay": 0.01}, groups=groups(0.03)),
            "scale_clip": Case(Adadelta, "scaled", {"lr": 1.0, "eps": 1e-5}, grad_scale=1024.0, max_norm=0.5),
            # With a small eps every step is made of the roundings of all steps before, and the bounds grow with them.
            "long": Case(Adadelta, "tame", {"lr": 0.01, "eps": 0.01}, steps=LONG),
        },
        "adamax": {
            "default": Case(Adamax, "mixed", {"lr": 2e-3}),
            "betas_eps": Case(Adamax, "mixed", {"lr": 0.02, "betas": (0.7, 0.9), "eps": 1e-3}),
            "no_momentum": Case(Adamax, "mixed", {"lr": 5e-3, "betas": (0.0, 0.99)}),
            "weight_decay": Case(Adamax, "tame", {"lr": 2e-3, "weight_decay": 0.02}),
            "maximize": Case(Adamax, "mixed", {"lr": 0.01, "betas": (0.95, 0.98), "maximize": True}),
            "clip_schedule": Case(Adamax, "swinging", {"eps": 1e-6},
                                  schedule=WARMUP | {"peak": 0.02, "min_lr": 1e-3}, max_norm=1.0),
            "groups": Case(Adamax, "tame", {"lr": 3e-3, "weight_decay": 0.01}, groups=groups(0.03)),
            "scale_clip": Case(Adamax, "scaled", {"lr": 0.02}, grad_scale=1024.0, max_norm=0.5),
            # Not 2e-3: steps below half an ULP of 1e4, where some parameters start, are all rounded one way.
            "long": Case(Adamax, "tame", {"lr": 0.02}, steps=LONG),
        },
        "rprop": {
            "default": Case(Rprop, "mixed", {"lr": 0.01}),
            "etas": Case(Rprop, "mixed", {"lr": 0.1, "etas": (0.7, 1.1)}),
            "step_sizes": Case(Rprop, "mixed", {"lr": 0.05, "step_sizes": (0.02, 0.3), "maximize": True}),
            "first_step_too_large": Case(Rprop, "tame", {"lr": 1.0, "step_sizes": (1e-3, 0.5)}),
            # The lr of the first step is the first step size, 0 here, and those of all others mean nothing.
            "clip_schedule": Case(Rprop, "swinging", {"step_sizes": (1e-3, 50.0)},
                                  schedule=WARMUP | {"peak": 0.1, "min_lr": 1e-3}, max_norm=1.0),
            "groups": Case(Rprop, "tame", {"lr": 0.02},
                           groups=[{"elements": 17}, {"elements": 4, "frozen": True},
                                   {"elements": 9, "lr_scale": 0.1}, {"elements": 7, "lr_scale": 3.0}]),
            "scale_clip": Case(Rprop, "scaled", {"lr": 0.02}, grad_scale=1024.0, max_norm=0.5),
            "long": Case(Rprop, "tame", {"lr": 0.02}, steps=LONG),
        },
    }
