"""Rules with norms of tensors: LARS. Each group of a case is a tensor.

optax's rules are wrapped as a torch optimizer, so that `generate.run` plays them: every tensor through the transform of
its own group, in float64.

A step of these rules moves a tensor by a share of its norm, and an error of a parameter with it: lr * trust coefficient /
(1 - momentum) * steps stays below one or so in every long case, since the bounds of tests/golden.rs grow with its exponential.
"""

import jax
import numpy as np
import optax
import torch
from torch_optimizer import LARS

jax.config.update("jax_enable_x64", True)


class Optax(torch.optim.Optimizer):
    """One of optax's transforms; `kept` takes from its state what the crate has a name for."""

    described = {"convention": "optax"}

    def __init__(self, groups, **options):
        super().__init__(groups, options)
        self.kept_states = {}

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            options = {name: value for name, value in group.items() if name in self.defaults}
            transform = self.transform(options.pop("lr"), **options)
            for param in group["params"]:
                if param.grad is None:
                    continue
                value, grad = jax.numpy.asarray(param.numpy()), jax.numpy.asarray(param.grad.numpy())
                state = self.kept_states.get(param) or transform.init(value)
                updates, self.kept_states[param] = transform.update(grad, state, value)
                param.copy_(torch.from_numpy(np.array(optax.apply_updates(value, updates))))
                for name, kept in self.kept(self.kept_states[param]).items():
                    self.state[param][name] = torch.from_numpy(np.array(kept))


class OptaxLars(Optax):
    transform = staticmethod(optax.lars)

    @staticmethod
    def kept(state):
        return {"momentum_buffer": -state[3].trace}  # optax adds its updates


def cases(Case, groups, WARMUP, LONG):
    def layers(weight_decay):
        return [{"elements": 1}] + groups(weight_decay)[:3] + [{"elements": 10, "weight_decay": weight_decay}]

    return {
        "lars": {
            "default": Case(LARS, "mixed", {"lr": 1.0, "weight_decay": 0.01}),
            "momentum": Case(LARS, "tame", {"lr": 0.5, "momentum": 0.9, "weight_decay": 1e-3}),
            "dampening": Case(LARS, "tame", {"lr": 0.5, "momentum": 0.8, "dampening": 0.4, "weight_decay": 0.1,
                                             "trust_coefficient": 0.02, "eps": 1e-3}),
            "no_decay": Case(LARS, "tame", {"lr": 0.01, "momentum": 0.9}),
            "maximize": Case(LARS, "tame", {"lr": 0.5, "momentum": 0.9, "nesterov": True, "weight_decay": 0.05},
                             maximize_by_negation=True),
            "clip_schedule": Case(LARS, "tame", {"momentum": 0.9, "weight_decay": 0.02},
                                  schedule=WARMUP | {"peak": 0.5, "min_lr": 0.1}, max_norm=0.5),
            "groups": Case(LARS, "tame", {"lr": 0.5, "momentum": 0.9, "weight_decay": 0.02}, groups=layers(0.1)),
            "scale": Case(LARS, "scaled", {"lr": 0.5, "momentum": 0.9, "weight_decay": 0.02}, grad_scale=1024.0),
            "long": Case(LARS, "long", {"lr": 0.004, "momentum": 0.9, "weight_decay": 1e-2}, steps=LONG),
        },
        "lars_optax": {
            "default": Case(OptaxLars, "tame", {"lr": 1.0}),
            "weight_decay": Case(OptaxLars, "mixed", {"lr": 0.5, "weight_decay": 0.05, "trust_coefficient": 0.01}),
            "nesterov": Case(OptaxLars, "tame", {"lr": 1.0, "momentum": 0.8, "nesterov": True, "weight_decay": 0.01,
                                                 "eps": 1e-2}),
            "clip_schedule": Case(OptaxLars, "tame", {"weight_decay": 0.02, "trust_coefficient": 0.02},
                                  schedule=WARMUP | {"peak": 0.5, "min_lr": 0.1}, max_norm=0.5),
            "groups": Case(OptaxLars, "tame", {"lr": 1.0, "weight_decay": 0.02}, groups=layers(0.1)),
            "long": Case(OptaxLars, "tame", {"lr": 0.02, "weight_decay": 1e-2}, steps=LONG),
        },
    }
