"""Rules with sums over tensors: LARS, LAMB, NovoGrad, StableAdamW. Each group of a case is a tensor.

optax's rules are wrapped as a torch optimizer, so that `generate.run` plays them: every tensor through the transform of
its own group, in float64.

A step of these rules moves a tensor by a share of its norm, and an error of a parameter with it: lr * trust coefficient /
(1 - momentum) * steps stays below one or so in every long case, since the bounds of tests/it/golden.rs grow with its exponential.
"""

import jax
import numpy as np
import optax
import optimi
import torch
import torch_optimizer

jax.config.update("jax_enable_x64", True)

PACKAGES = ("torch-optimizer", "optax", "jax")


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
            if "betas" in options:
                options["b1"], options["b2"] = options.pop("betas")
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


class OptaxLamb(Optax):
    transform = staticmethod(optax.lamb)

    @staticmethod
    def kept(state):
        return {"exp_avg": state[0].mu, "exp_avg_sq": state[0].nu}


class OptaxNovoGrad(Optax):
    transform = staticmethod(optax.novograd)

    @staticmethod
    def kept(state):
        return {"exp_avg": state[0].mu}


class Lamb(torch.optim.Optimizer):
    """Written for this file after the documentation and the kernels of apex's FusedLAMB, which needs CUDA: without its
    clipping; `ratio_range` limits the ratio as DeepSpeed's min_coeff and max_coeff do."""

    def __init__(self, groups, lr, betas=(0.9, 0.999), eps=1e-6, weight_decay=0.01, nvlamb=False, ratio_range=None):
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(groups, defaults | {"nvlamb": nvlamb, "ratio_range": ratio_range})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for param in group["params"]:
                if param.grad is None:
                    continue
                state = self.state[param]
                if not state:
                    state |= {"step": 0, "exp_avg": torch.zeros_like(param), "exp_avg_sq": torch.zeros_like(param)}
                state["step"] += 1
                state["exp_avg"].lerp_(param.grad, 1 - beta1)
                state["exp_avg_sq"].mul_(beta2).addcmul_(param.grad, param.grad, value=1 - beta2)
                mean = state["exp_avg"] / (1 - beta1 ** state["step"])
                mean_sq = state["exp_avg_sq"] / (1 - beta2 ** state["step"])
                update = mean / (mean_sq.sqrt() + group["eps"]) + group["weight_decay"] * param
                ratio = 1.0
                if group["nvlamb"] or group["weight_decay"] != 0:
                    norms = param.norm().item(), update.norm().item()
                    if 0.0 not in norms:
                        ratio = norms[0] / norms[1]
                        if group["ratio_range"]:
                            ratio = min(max(ratio, group["ratio_range"][0]), group["ratio_range"][1])
                param.sub_(update, alpha=group["lr"] * ratio)


class NovoGrad(torch_optimizer.NovoGrad):
    """Its running averages of tensors have no place among states of elements."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.tensors = {}

    def step(self, closure=None):
        for param, exp_avg_sq in self.tensors.items():
            self.state[param]["exp_avg_sq"] = exp_avg_sq
        with torch.no_grad():
            super().step(closure)
        self.tensors = {param: state.pop("exp_avg_sq") for param, state in self.state.items() if state}


class StableAdamW(torch.optim.Optimizer):
    """optimi's, whose averages are corrected already; the corrections are taken out of them."""

    made_by = ("torch-optimi", "torch", "numpy")

    def __init__(self, params, lr, betas=(0.9, 0.99), **options):
        super().__init__(params, {"lr": lr} | options)
        self.rule = optimi.StableAdamW(self.param_groups, lr=lr, betas=betas, triton=False, **options)
        self.param_groups = self.rule.param_groups
        self.applied, self.betas = 0, betas

    def step(self, closure=None):
        self.rule.step()
        self.applied += 1
        for param, state in self.rule.state.items():
            for name, beta in zip(("exp_avg", "exp_avg_sq"), self.betas):
                self.state[param][name] = state[name] * (1.0 - beta**self.applied)


def cases(Case, groups, WARMUP, LONG):
    def layers(weight_decay):
        return [{"elements": 1}] + groups(weight_decay)[:3] + [{"elements": 10, "weight_decay": weight_decay}]

    return {
        "lars": {
            "default": Case(torch_optimizer.LARS, "mixed", {"lr": 1.0, "weight_decay": 0.01}),
            "momentum": Case(torch_optimizer.LARS, "tame", {"lr": 0.5, "momentum": 0.9, "weight_decay": 1e-3}),
            "dampening": Case(torch_optimizer.LARS, "tame", {"lr": 0.5, "momentum": 0.8, "dampening": 0.4, "weight_decay": 0.1,
                                             "trust_coefficient": 0.02, "eps": 1e-3}),
            "no_decay": Case(torch_optimizer.LARS, "tame", {"lr": 0.01, "momentum": 0.9}),
            "maximize": Case(torch_optimizer.LARS, "tame", {"lr": 0.5, "momentum": 0.9, "nesterov": True, "weight_decay": 0.05},
                             maximize_by_negation=True),
            "clip_schedule": Case(torch_optimizer.LARS, "tame", {"momentum": 0.9, "weight_decay": 0.02},
                                  schedule=WARMUP | {"peak": 0.5, "min_lr": 0.1}, max_norm=0.5),
            "groups": Case(torch_optimizer.LARS, "tame", {"lr": 0.5, "momentum": 0.9, "weight_decay": 0.02}, groups=layers(0.1)),
            "scale": Case(torch_optimizer.LARS, "scaled", {"lr": 0.5, "momentum": 0.9, "weight_decay": 0.02}, grad_scale=1024.0),
            "long": Case(torch_optimizer.LARS, "long", {"lr": 0.004, "momentum": 0.9, "weight_decay": 1e-2}, steps=LONG),
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
        "lamb": {
            "default": Case(Lamb, "mixed", {"lr": 1e-3, "weight_decay": 0.01}),
            "betas_eps": Case(Lamb, "tame", {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-4, "weight_decay": 0.1}),
            "no_decay": Case(Lamb, "mixed", {"lr": 0.01, "weight_decay": 0.0}),
            "nvlamb": Case(Lamb, "tame", {"lr": 0.01, "weight_decay": 0.0, "nvlamb": True}),
            "ratio_range": Case(Lamb, "tame", {"lr": 0.01, "weight_decay": 0.01, "ratio_range": (0.01, 10.0)},
                                groups=layers(0.1)),
            "maximize": Case(Lamb, "tame", {"lr": 5e-3, "weight_decay": 0.02}, maximize_by_negation=True),
            "clip_schedule": Case(Lamb, "tame", {"weight_decay": 0.02},
                                  schedule=WARMUP | {"peak": 0.02, "min_lr": 1e-3}, max_norm=0.5),
            "groups": Case(Lamb, "tame", {"lr": 0.01, "weight_decay": 0.02}, groups=layers(0.1)),
            "scale": Case(Lamb, "scaled", {"lr": 0.01, "weight_decay": 0.02}, grad_scale=1024.0),
            "long": Case(Lamb, "tame", {"lr": 5e-4, "weight_decay": 0.01}, steps=LONG),
        },
        "lamb_optax": {
            "default": Case(OptaxLamb, "mixed", {"lr": 1e-3}),
            "weight_decay": Case(OptaxLamb, "tame", {"lr": 0.01, "betas": (0.85, 0.98), "weight_decay": 0.05}),
            "clip_schedule": Case(OptaxLamb, "tame", {"weight_decay": 0.02},
                                  schedule=WARMUP | {"peak": 0.02, "min_lr": 1e-3}, max_norm=0.5),
            "groups": Case(OptaxLamb, "tame", {"lr": 0.01, "weight_decay": 0.02}, groups=layers(0.1)),
        },
        "novograd": {
            "default": Case(NovoGrad, "mixed", {"lr": 1e-3}),
            "weight_decay": Case(NovoGrad, "tame", {"lr": 0.01, "betas": (0.9, 0.98), "weight_decay": 0.01}),
            "grad_averaging": Case(NovoGrad, "tame", {"lr": 0.05, "betas": (0.95, 0.5), "eps": 1e-3,
                                                      "weight_decay": 1e-3, "grad_averaging": True}),
            "maximize": Case(NovoGrad, "tame", {"lr": 0.01, "betas": (0.8, 0.9)}, maximize_by_negation=True),
            "clip_schedule": Case(NovoGrad, "tame", {"betas": (0.95, 0.98), "weight_decay": 1e-3},
                                  schedule=WARMUP | {"peak": 0.02, "min_lr": 1e-3}, max_norm=0.5),
            "groups": Case(NovoGrad, "tame", {"lr": 0.01, "betas": (0.95, 0.9), "weight_decay": 0.02},
                           groups=layers(0.1)),
            "scale": Case(NovoGrad, "scaled", {"lr": 0.01, "betas": (0.95, 0.9)}, grad_scale=1024.0),
            "long": Case(NovoGrad, "tame", {"lr": 1e-3, "betas": (0.95, 0.98), "weight_decay": 1e-3}, steps=LONG),
        },
        "novograd_optax": {
            "default": Case(OptaxNovoGrad, "tame", {"lr": 1e-3}),
            "weight_decay": Case(OptaxNovoGrad, "mixed", {"lr": 0.01, "betas": (0.8, 0.9), "eps": 1e-4,
                                                          "weight_decay": 0.01}),
            "groups": Case(OptaxNovoGrad, "tame", {"lr": 0.01, "weight_decay": 0.02}, groups=layers(0.1)),
        },
        "stable_adamw": {
            "default": Case(StableAdamW, "mixed", {"lr": 1e-3, "weight_decay": 0.01}),
            "betas_eps": Case(StableAdamW, "tame", {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-2, "weight_decay": 0.1}),
            "no_decay": Case(StableAdamW, "mixed", {"lr": 0.01, "weight_decay": 0.0}),
            "maximize": Case(StableAdamW, "tame", {"lr": 5e-3, "weight_decay": 0.2}, maximize_by_negation=True),
            # An RMS of up to 2.9.
            "swinging": Case(StableAdamW, "swinging", {"lr": 0.02, "weight_decay": 0.5}),
            "clip_schedule": Case(StableAdamW, "tame", {"weight_decay": 0.2},
                                  schedule=WARMUP | {"peak": 0.02, "min_lr": 1e-3}, max_norm=0.5),
            "groups": Case(StableAdamW, "tame", {"lr": 0.01, "weight_decay": 0.2}, groups=layers(0.5)),
            "scale": Case(StableAdamW, "scaled", {"lr": 0.01, "weight_decay": 0.2}, grad_scale=1024.0),
            "long": Case(StableAdamW, "tame", {"lr": 1e-3, "weight_decay": 0.1}, steps=LONG),
        },
    }
