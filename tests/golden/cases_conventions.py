"""What other frameworks than PyTorch make of rules it has: optax, Keras, optimi, bitsandbytes, timm.

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
from timm.optim.adamw import AdamWLegacy
from timm.optim.adan import Adan
from timm.optim.lion import Lion as TimmLion
from timm.optim.sgdw import SGDW

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


class OptaxNAdam(OptaxRule):
    fields = {"exp_avg": "mu", "exp_avg_sq": "nu"}

    def transformation(self):
        return optax.scale_by_adam(nesterov=True, **adam_options(self.options))


class OptaxRAdam(OptaxNAdam):
    def transformation(self):
        return optax.scale_by_radam(**adam_options(self.options))


class OptaxAdamax(OptaxRule):
    fields = {"exp_avg": "mu", "exp_inf": "nu"}

    def transformation(self):
        return optax.scale_by_adamax(**adam_options(self.options))


class KerasRule(torch.optim.Optimizer):
    made_by = ("keras", "torch", "numpy")
    names = {"eps": "epsilon", "alpha": "rho"}
    states = {}  # the crate's names and Keras' attributes, with a minus where Keras keeps the negative

    def __init__(self, params, lr, weight_decay=None, **options):
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})
        self.options = {self.names.get(name, name): value for name, value in options.items() if name != "convention"}
        if "betas" in options:
            self.options["beta_1"], self.options["beta_2"] = self.options.pop("betas")
        self.keras = {}

    def make(self, param, weight_decay):
        decay = {} if weight_decay is None else {"weight_decay": weight_decay}
        variable = keras.Variable(param.detach().numpy(), dtype="float64")
        optimizer = self.rule(learning_rate=0.0, **self.options, **decay)
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
                for name, attribute in self.states.items():
                    for values in getattr(optimizer, attribute.removeprefix("-"), []):
                        values = values.value.detach().clone()
                        self.state[param][name] = -values if attribute.startswith("-") else values


class KerasAdamW(KerasRule):
    rule = keras.optimizers.AdamW
    states = {"exp_avg": "_momentums", "exp_avg_sq": "_velocities", "max_exp_avg_sq": "_velocity_hats"}


class KerasAdam(KerasAdamW):
    rule = keras.optimizers.Adam


class KerasSgd(KerasRule):
    rule = keras.optimizers.SGD
    states = {"momentum_buffer": "-momentums"}


class KerasRmsProp(KerasRule):
    rule = keras.optimizers.RMSprop
    states = {"square_avg": "_velocities", "grad_avg": "_average_gradients", "momentum_buffer": "_momentums"}


class KerasAdagrad(KerasRule):
    rule = keras.optimizers.Adagrad
    states = {"sum": "_accumulators"}


class AverageSgd(OptaxRule):
    """optax's running average of gradients: b = 0, then b = momentum * b + (1 - momentum) * grad."""

    fields = {"momentum_buffer": "ema"}
    made_by = ("jax", "optax", "torch", "numpy")

    def transformation(self):
        return optax.ema(self.options["momentum"], debias=False)


class OptaxLion(OptaxRule):
    fields = {"exp_avg": "mu"}
    made_by = ("jax", "optax", "torch", "numpy")

    def __init__(self, params, lr, weight_decay=signature(optax.lion).parameters["weight_decay"].default, **options):
        super().__init__(params, lr, weight_decay, **options)

    def transformation(self):
        beta1, beta2 = self.options.get("betas", (0.9, 0.99))
        return optax.scale_by_lion(b1=beta1, b2=beta2)


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


class Cautious(torch.optim.Optimizer):
    """timm's rules, whose `caution` divides what its mask leaves by the share of that in the tensor: in tensors of one
    element, by 1."""

    made_by = ("timm", "torch", "numpy")
    states = ("exp_avg", "exp_avg_diff", "exp_avg_sq", "neg_pre_grad", "momentum_buffer")

    def __init__(self, params, lr, **options):
        super().__init__(params, {"lr": lr, "weight_decay": 0.0} | options)
        self.elements = {param: [torch.nn.Parameter(element.clone()) for element in param.detach()]
                         for group in self.param_groups for param in group["params"]}
        groups = [group | {"params": self.elements[param]}
                  for group in self.param_groups for param in group["params"]]
        self.inner = self.rule(groups, lr=lr, caution=True, **{k: v for k, v in options.items() if k != "caution"})

    def step(self, closure=None):
        for outer, inner in zip(self.param_groups, self.inner.param_groups):
            inner["lr"] = outer["lr"]
        live = [param for param in self.elements if param.grad is not None]
        for param in live:
            for element, grad in zip(self.elements[param], param.grad):
                element.grad = grad.clone()
        self.inner.step()
        for param in live:
            elements = self.elements[param]
            param.data.copy_(torch.stack([element.detach() for element in elements]))
            states = self.inner.state[elements[0]]
            for name in (name for name in self.states if name in states):
                self.state[param][name] = torch.stack([self.inner.state[element][name] for element in elements])


class CautiousAdamW(Cautious):
    rule = AdamWLegacy


class CautiousSgd(Cautious):
    """Without decay, which in timm's is decoupled."""

    rule = SGDW


class CautiousAdan(Cautious):
    rule = Adan


class CautiousLion(Cautious):
    rule = TimmLion


# As in cases_adaptive.py; AdamW's sign is that of an average with one beta.
SIGN_BETAS = {
    CautiousAdamW: lambda options: options.get("betas", (0.9, 0.999))[:1] * 2,
    CautiousSgd: lambda options: (options["momentum"],) * 2,
    CautiousAdan: lambda options: options.get("betas", (0.98, 0.92, 0.99))[:1] * 2,
    CautiousLion: lambda options: options.get("betas", (0.9, 0.99)),
    OptaxLion: lambda options: options.get("betas", (0.9, 0.99)),
}


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
        "adamw_cautious": {
            "default": Case(CautiousAdamW, "tame", {"lr": 1e-3, "weight_decay": 0.01, "caution": True}),
            "betas": Case(CautiousAdamW, "tame", {"lr": 0.01, "betas": (0.7, 0.95), "weight_decay": 0.1,
                                                  "caution": True}, maximize_by_negation=True),
            "groups": Case(CautiousAdamW, "tame", {"lr": 0.01, "weight_decay": 0.1, "caution": True},
                           groups=groups(0.5)),
        },
        # Without weight decay Adam is AdamW.
        "adam_cautious": {
            "default": Case(CautiousAdamW, "tame", {"lr": 0.01, "betas": (0.8, 0.98), "caution": True}),
        },
        "sgd_cautious": {
            "default": Case(CautiousSgd, "tame", {"lr": 0.01, "momentum": 0.9, "caution": True}),
            "dampening": Case(CautiousSgd, "tame", {"lr": 0.05, "momentum": 0.7, "dampening": 0.5, "caution": True},
                              maximize_by_negation=True),
        },
        "adan_cautious": {
            "default": Case(CautiousAdan, "tame", {"lr": 1e-3, "weight_decay": 0.1, "caution": True}),
            "no_prox": Case(CautiousAdan, "tame", {"lr": 0.01, "betas": (0.9, 0.8, 0.95), "weight_decay": 0.05,
                                                   "no_prox": True, "caution": True}, maximize_by_negation=True),
        },
        "nadam_conventions": {
            "optax": Case(OptaxNAdam, "mixed", optax_ | {"lr": 1e-3}),
            "optax_eps_root": Case(OptaxNAdam, "mixed", optax_ | {"lr": 0.02, "betas": (0.7, 0.95), "eps": 1e-5,
                                                                  "eps_root": 1e-6}),
            "optax_groups": Case(OptaxNAdam, "tame", optax_ | {"lr": 0.01, "weight_decay": 0.1}, groups=groups(0.5)),
            "optax_clip_schedule": Case(OptaxNAdam, "swinging", optax_, schedule=peak, max_norm=1.0),
            "optax_long": Case(OptaxNAdam, "tame", optax_ | {"lr": 1e-3, "weight_decay": 0.1}, steps=long),
        },
        # Not a beta2 of 0.999, with which rho, in float64 too, keeps no more than 11 digits in optax's first steps.
        "radam_conventions": {
            "optax": Case(OptaxRAdam, "mixed", optax_ | {"lr": 1e-3, "betas": (0.9, 0.98)}),
            "optax_eps": Case(OptaxRAdam, "tame", optax_ | {"lr": 0.02, "betas": (0.7, 0.95), "eps": 1e-2}),
            "optax_eps_root": Case(OptaxRAdam, "tame", optax_ | {"lr": 0.02, "betas": (0.8, 0.98), "eps_root": 1e-3},
                                   groups=groups(0.0)),
            "optax_clip_schedule": Case(OptaxRAdam, "swinging", optax_ | {"betas": (0.95, 0.97)}, schedule=peak,
                                        max_norm=1.0),
        },
        "adamax_conventions": {
            "optax": Case(OptaxAdamax, "mixed", optax_ | {"lr": 2e-3}),
            "optax_weight_decay": Case(OptaxAdamax, "tame", optax_ | {"lr": 0.02, "betas": (0.7, 0.95), "eps": 1e-3,
                                                                      "weight_decay": 0.1}),
            "optax_groups": Case(OptaxAdamax, "tame", optax_ | {"lr": 0.01, "weight_decay": 0.1}, groups=groups(0.5)),
        },
        "lion_cautious": {
            "default": Case(CautiousLion, "tame", {"lr": 1e-3, "weight_decay": 0.1, "caution": True}),
            "betas": Case(CautiousLion, "tame", {"lr": 0.01, "betas": (0.95, 0.98), "caution": True},
                          maximize_by_negation=True),
            "groups": Case(CautiousLion, "tame", {"lr": 0.01, "weight_decay": 0.1, "caution": True},
                           groups=groups(1.0)),
        },
        "sgd_conventions": {
            "keras": Case(KerasSgd, "mixed", keras_ | {"lr": 0.01, "momentum": 0.9}),
            "keras_nesterov_schedule": Case(KerasSgd, "tame", keras_ | {"momentum": 0.9, "nesterov": True},
                                            schedule=peak, max_norm=2.0),
            "keras_schedule": Case(KerasSgd, "tame", keras_ | {"momentum": 0.8}, schedule=peak,
                                   groups=[{"elements": 13}, {"elements": 24, "lr_scale": 0.1}]),
            "average": Case(AverageSgd, "mixed", {"lr": 0.05, "momentum": 0.9, "dampening": 0.9,
                                                  "dampen_first_step": True}),
        },
        "rmsprop_conventions": {
            "keras": Case(KerasRmsProp, "mixed", keras_ | {"lr": 1e-3}),
            "keras_momentum_schedule": Case(KerasRmsProp, "tame", keras_ | {"momentum": 0.8}, schedule=peak),
            "keras_centered": Case(KerasRmsProp, "tame", keras_ | {"lr": 1e-3, "centered": True, "eps": 0.01}),
        },
        "adagrad_conventions": {
            "keras": Case(KerasAdagrad, "mixed", keras_ | {"lr": 1e-3}),
            "keras_initial": Case(KerasAdagrad, "tame", keras_ | {
                "lr": 0.1, "initial_accumulator_value": 0.01, "eps": 1e-3}),
        },
        "lion_conventions": {
            "optax": Case(OptaxLion, "tame", optax_ | {"lr": 0.01}),
            "optax_groups": Case(OptaxLion, "tame", optax_ | {"lr": 0.01, "betas": (0.95, 0.98)}, groups=groups(0.5)),
        },
    }
