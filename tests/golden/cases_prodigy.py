"""Prodigy by konstmish/prodigy. All groups of a case share one estimate of the distance."""

import numpy as np
import prodigyopt
import torch

PACKAGES = ("prodigyopt",)


class Prodigy(prodigyopt.Prodigy):
    """Its own count of steps leaves out those with learning rate 0."""

    calls = 0

    @staticmethod
    def initial_parameters(random, count=37):
        """Small ones: the estimate is made from what they have moved by, about d0 at first, and f32 has to resolve that."""
        return random.uniform(0.01, 0.1, count) * random.choice([-1.0, 0.0, 1.0], count)

    @torch.no_grad()
    def step(self, closure=None):
        super().step(closure)
        self.calls += 1
        for state in self.state.values():
            state["step"] = self.calls


class FromNearZero(Prodigy):
    """For the default d0."""

    @staticmethod
    def initial_parameters(random):
        return 1e-3 * Prodigy.initial_parameters(random)


def cases(Case, groups, WARMUP, LONG):
    # Its groups have the one learning rate or 0; those with 0 it still decays.
    def layers(weight_decay):
        return [{"elements": 13}, {"elements": 6, "frozen": True}, {"elements": 7, "lr_scale": 0.0, "weight_decay": 0.0},
                {"elements": 11, "weight_decay": weight_decay}]

    # Gradients that were drawn beforehand do not turn where the loss is least: d grows by a factor per step for ever, and its
    # error by more. So there are few steps, or a limit.
    few = {"steps": 5}
    limit = {"growth_rate": 1.1}
    return {
        "prodigy": {
            "default": Case(FromNearZero, "long", {"lr": 1.0}, **few),
            "mixed": Case(Prodigy, "mixed", {"lr": 1.0, "d0": 1e-2, "d_coef": 0.5}, steps=8),
            "decay": Case(Prodigy, "tame", {"lr": 1.0, "betas": (0.8, 0.95), "eps": 1e-5, "weight_decay": 0.1, "d0": 1e-2},
                          steps=8),
            "coupled": Case(Prodigy, "tame", {"lr": 0.5, "beta3": 0.9, "weight_decay": 0.02, "decouple": False,
                                              "d0": 1e-2}, **few),
            "bias_correction": Case(Prodigy, "tame", {"lr": 1.0, "use_bias_correction": True, "weight_decay": 0.01,
                                                      "d0": 1e-2, "d_coef": 2.0}, **few),
            "growth_rate": Case(Prodigy, "tame", {"lr": 1.0, "d0": 1e-2, "d_coef": 2.0, "growth_rate": 1.05}),
            "maximize": Case(Prodigy, "tame", {"lr": 1.0, "d0": 1e-2, "d_coef": 1.5}, maximize_by_negation=True, **few),
            # The schedule begins at 0.
            "clip_schedule": Case(Prodigy, "tame", {"weight_decay": 0.02, "safeguard_warmup": True, "d0": 1e-2} | limit,
                                  schedule=WARMUP | {"peak": 1.0, "min_lr": 0.1}, max_norm=0.5),
            "groups": Case(Prodigy, "tame", {"lr": 1.0, "weight_decay": 0.02, "d0": 1e-2}, groups=layers(0.1), **few),
            "scale": Case(Prodigy, "scaled", {"lr": 1.0, "d0": 1e-2, "weight_decay": 0.02} | limit, grad_scale=1024.0),
            "long": Case(Prodigy, "tame", {"lr": 1.0, "d0": 1e-2, "growth_rate": 1.002}, steps=LONG),
        },
    }
