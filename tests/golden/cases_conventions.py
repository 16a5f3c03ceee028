"""Adam and AdamW as other frameworks than PyTorch compute them: optax, Keras, optimi, bitsandbytes.

bitsandbytes computes in float32 whatever it is given, by calls of `Tensor.float`. While its code runs, these give
float64: the vectors are its equations without its rounding. Its CPU backend is what runs. That one, like its Triton
kernels, decays before the update as PyTorch does; its CUDA kernels decay after it (csrc/kernels.cu, and the machine
code that the package ships), which the cases of the convention make of the CPU backend's update.
"""

import os
from inspect import signature

os.environ["KERAS_BACKEND"] = "torch"

import jax
import keras
import numpy as np
import optax
import torch
from bitsandbytes.backends.cpu.ops import _optimizer_update_32bit_cpu
from cases_adaptive import OptaxRule
from optimi import AdamW as OptimiAdamW

keras.config.set_floatx("float64")


def adam_options(options):
    """optax's names."""
    beta1, beta2 = options.get("betas", (0.9, 0.999))
    return {"b1": beta1, "b2": beta2} | {name: options[name] for name in ("eps", "eps_root") if name in options}


class OptaxAdamW(OptaxRule):
    made_by = ("jax", "optax", "torch", "numpy")

    def __init__(self, params, lr, weight_decay=signature(optax.adamw).parameters["weight_decay"].default, **options):
        super().__init__(params, lr, weight_decay, **options)

    @property
    def fields(self):
        states = {"exp_avg": "mu", "exp_avg_sq": "nu"}
        return states | ({"max_exp_avg_sq": "nu_max"} if self.options.get("amsgrad") else {})

    def transformation(self):
        scale = optax.scale_by_amsgrad if self.options.get("amsgrad") else optax.scale_by_adam
        return scale(**adam_options(self.options))


class OptaxAdam(OptaxAdamW):
    """optax.adam has no weight decay."""

    def __init__(self, params, lr, **options):
        super().__init__(params, lr, 0.0, **options)


class KerasAdamW(torch.optim.Optimizer):
    made_by = ("keras", "torch", "numpy")
    rule = keras.optimizers.AdamW

    def __init__(self, params, lr, weight_decay=None, **options):
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})
        self.options = {name: value for name, value in options.items() if name != "convention"}
        self.keras = {}

    def make(self, param, weight_decay):
        options = dict(self.options)
        if "betas" in options:
            options["beta_1"], options["beta_2"] = options.pop("betas")
        if "eps" in options:
            options["epsilon"] = options.pop("eps")
        if weight_decay is not None:
            options["weight_decay"] = weight_decay
        variable = keras.Variable(param.detach().numpy(), dtype="float64")
        optimizer = self.rule(learning_rate=0.0, **options)
        optimizer.build([variable])
        return optimizer, variable

    def step(self, closure=None):
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is None:
                    continue
                if param not in self.keras:
                    self.keras[param] = self.make(param, group["weight_decay"])
                optimizer, variable = self.keras[param]
                optimizer.learning_rate.assign(group["lr"])
                assert optimizer.learning_rate.dtype == variable.dtype == "float64"
                optimizer.apply([param.grad.clone()], [variable])
                param.data.copy_(variable.value.detach())
                self.keep_states(param, optimizer)

    def keep_states(self, param, optimizer):
        states = {"exp_avg": optimizer._momentums, "exp_avg_sq": optimizer._velocities}
        if optimizer.amsgrad:
            states["max_exp_avg_sq"] = optimizer._velocity_hats
        for name, [values] in states.items():
            self.state[param][name] = values.value.detach().clone()


class KerasAdam(KerasAdamW):
    rule = keras.optimizers.Adam


class DecoupledAdamW(torch.optim.Optimizer):
    made_by = ("torch-optimi", "torch", "numpy")

    def __init__(self, params, lr, max_lr, **options):
        super().__init__(params, {"lr": lr, "weight_decay": 0.0} | options)
        self.rule = OptimiAdamW(self.param_groups, lr=lr, decouple_lr=True, max_lr=max_lr, **options)
        self.param_groups = self.rule.param_groups
        self.applied, self.betas = 0, options["betas"]

    def step(self, closure=None):
        self.rule.step()
        self.applied += 1
        for param, state in self.rule.state.items():
            # It keeps averages that are corrected already.
            for name, beta in zip(("exp_avg", "exp_avg_sq"), self.betas):
                if state.get(name) is not None:
                    self.state[param][name] = state[name] * (1.0 - beta**self.applied)


class BitsAndBytesAdamW(torch.optim.Optimizer):
    made_by = ("bitsandbytes", "torch", "numpy")

    def __init__(self, params, lr, weight_decay=1e-2, betas=(0.9, 0.999), eps=1e-8, convention=None):
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "betas": betas, "eps": eps})
        self.decays_after = convention == "bitsandbytes"

    def step(self, closure=None):
        in_f32, torch.Tensor.float = torch.Tensor.float, torch.Tensor.double
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is None:
                    continue
                state = self.state[param]
                if not state:
                    state |= {"step": 0, "exp_avg": torch.zeros_like(param), "exp_avg_sq": torch.zeros_like(param)}
                state["step"] += 1
                before, after = (0.0, group["weight_decay"])[:: 1 if self.decays_after else -1]
                _optimizer_update_32bit_cpu(
                    "adam", param.grad, param, state["exp_avg"], state["exp_avg_sq"], None, 0.0, 0.0, *group["betas"],
                    0.0, 0.0, group["eps"], before, state["step"], group["lr"], 1.0)
                param.data.mul_(1.0 - group["lr"] * after)
        torch.Tensor.float = in_f32


def cases(Case, groups, warmup, long):
    """By file and name."""
    optax_, keras_ = {"convention": "optax"}, {"convention": "keras"}
    peak = warmup | {"peak": 0.02, "min_lr": 1e-3}
    return {
        "adam_conventions": {
            "optax": Case(OptaxAdam, "mixed", optax_ | {"lr": 1e-3}),
            "optax_eps_root": Case(OptaxAdam, "mixed", optax_ | {"lr": 0.02, "betas": (0.7, 0.95), "eps": 1e-5,
                                                                 "eps_root": 1e-6}),
            "optax_amsgrad": Case(OptaxAdam, "mixed", optax_ | {"lr": 0.01, "betas": (0.9, 0.9), "amsgrad": True}),
            "optax_amsgrad_eps_root": Case(OptaxAdam, "tame", optax_ | {"lr": 0.01, "eps_root": 1e-4, "amsgrad": True},
                                           maximize_by_negation=True),
            "keras": Case(KerasAdam, "mixed", keras_ | {"lr": 1e-3}),
            "keras_amsgrad": Case(KerasAdam, "mixed", keras_ | {"lr": 0.01, "betas": (0.8, 0.9), "eps": 1e-4,
                                                                "amsgrad": True}),
            "keras_clip_schedule": Case(KerasAdam, "swinging", keras_, schedule=peak, max_norm=1.0),
            "keras_long": Case(KerasAdam, "tame", keras_ | {"lr": 1e-3, "eps": 1e-3}, steps=long),
        },
        "adamw_conventions": {
            "optax": Case(OptaxAdamW, "mixed", optax_ | {"lr": 1e-3}),
            "optax_eps_root": Case(OptaxAdamW, "tame", optax_ | {"weight_decay": 0.1, "eps_root": 1e-5},
                                   schedule=peak, max_norm=1.0),
            "optax_amsgrad": Case(OptaxAdamW, "tame", optax_ | {"lr": 0.01, "weight_decay": 0.1, "amsgrad": True},
                                  groups=groups(0.5)),
            "keras": Case(KerasAdamW, "mixed", keras_ | {"lr": 1e-3}),
            "keras_eps": Case(KerasAdamW, "tame", keras_ | {"lr": 0.01, "betas": (0.95, 0.98), "eps": 1e-2,
                                                            "weight_decay": 0.2}),
            "keras_amsgrad": Case(KerasAdamW, "tame", keras_ | {"lr": 0.01, "weight_decay": 0.1, "amsgrad": True},
                                  groups=groups(0.5)),
            "decouple_lr": Case(DecoupledAdamW, "tame", {
                "betas": (0.9, 0.99), "eps": 1e-6, "max_lr": 0.02, "weight_decay": 0.01}, schedule=peak),
            "decouple_lr_groups": Case(DecoupledAdamW, "tame", {
                "lr": 0.01, "betas": (0.9, 0.99), "eps": 1e-6, "max_lr": 0.04, "weight_decay": 0.01},
                groups=groups(0.05)),
            "bitsandbytes": Case(BitsAndBytesAdamW, "mixed", {"convention": "bitsandbytes", "lr": 1e-3}),
            "bitsandbytes_cpu": Case(BitsAndBytesAdamW, "mixed", {"lr": 0.01, "weight_decay": 0.1}),
            "bitsandbytes_groups": Case(BitsAndBytesAdamW, "tame", {
                "convention": "bitsandbytes", "lr": 0.01, "betas": (0.95, 0.98), "eps": 1e-6, "weight_decay": 0.1},
                groups=groups(0.5)),
        },
    }
