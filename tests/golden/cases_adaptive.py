"""RAdam of PyTorch, Adan of timm, and optax's AdaBelief, Yogi, Adan, SignSGD, Signum and AdEMAMix."""

import math

import jax
import numpy as np
import optax
import torch
from timm.optim.adan import Adan

jax.config.update("jax_enable_x64", True)

SMALLEST_NORMAL = float(np.finfo(np.float32).tiny)


class OptaxRule(torch.optim.Optimizer):
    """An optax transformation in the clothes of torch.optim, so that schedules, clipping, groups and GradScaler are
    PyTorch's for every rule. Weight decay and learning rate are optax's own, chained as its aliases chain them."""

    made_by = ("jax", "optax", "torch", "numpy")
    fields = {}  # names of the crate's states and of optax's, with a minus where the crate keeps the negative

    def __init__(self, params, lr, weight_decay=0.0, **options):
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})
        self.options = options
        self.optax_state = {}

    def transformation(self):
        raise NotImplementedError

    def step(self, closure=None):
        for group in self.param_groups:
            for param in group["params"]:
                value = jax.numpy.asarray(param.detach().numpy())
                rule = optax.chain(self.transformation(), optax.add_decayed_weights(group["weight_decay"]),
                                   optax.scale_by_learning_rate(group["lr"]))
                state = self.optax_state.get(param) or rule.init(value)
                if param.grad is not None:
                    updates, state = rule.update(jax.numpy.asarray(param.grad.numpy()), state, value)
                    assert updates.dtype == np.float64
                    param.data.copy_(torch.from_numpy(np.array(optax.apply_updates(value, updates))))
                self.optax_state[param] = state
                for name, field in self.fields.items():
                    values = torch.from_numpy(np.array(getattr(self.averages(state), field.removeprefix("-"))))
                    self.state[param][name] = -values if field.startswith("-") else values

    def averages(self, state):
        return state[0]


def betas(options, default):
    return dict(zip(("b1", "b2", "b3"), options.get("betas", default)))


class AdaBelief(OptaxRule):
    fields = {"exp_avg": "mu", "exp_avg_var": "nu"}

    def transformation(self):
        others = {name: value for name, value in self.options.items() if name != "betas"}
        return optax.scale_by_belief(**betas(self.options, (0.9, 0.999)), **others)


class Yogi(OptaxRule):
    fields = {"exp_avg": "mu", "exp_avg_sq": "nu"}

    def transformation(self):
        others = {name: value for name, value in self.options.items() if name != "betas"}
        return optax.scale_by_yogi(**betas(self.options, (0.9, 0.999)), **others)

    @staticmethod
    def signs_are_clear(case, grads):
        """No sign of exp_avg_sq - grad^2 hangs on a rounding: the difference is four times what f32 may have made of
        it, which is half an ULP of exp_avg_sq per step and a few of each share, and what clipping adds."""
        beta2 = case.options.get("betas", (0.9, 0.999))[1]
        ulp, of_square = 2.0**-24, (4e-6 if case.max_norm else 6 * 2.0**-24)
        exp_avg_sq = np.full(grads.shape[1], case.options.get("initial_accumulator_value", 1e-6))
        error = ulp * exp_avg_sq
        for step in range(case.steps):
            grad = grads[step % len(grads)].astype(np.float64) / (case.grad_scale or 1.0)
            if not np.isfinite(grad).all():
                continue
            if case.max_norm is not None:
                grad = grad * min(1.0, case.max_norm / (math.sqrt((grad * grad).sum()) + 1e-6))
            square = grad * grad
            difference = exp_avg_sq - square
            if not (np.abs(difference) > 4.0 * (error + of_square * square) + SMALLEST_NORMAL).all():
                return False
            exp_avg_sq = exp_avg_sq - (1 - beta2) * np.sign(difference) * square
            error = error + ulp * exp_avg_sq + (of_square + 4 * ulp) * (1 - beta2) * square
        return True


class OptaxAdan(OptaxRule):
    fields = {"exp_avg": "m", "exp_avg_diff": "v", "exp_avg_sq": "n", "neg_pre_grad": "-g"}

    def transformation(self):
        options = {name: value for name, value in self.options.items() if name not in ("betas", "convention")}
        return optax.scale_by_adan(**betas(self.options, (0.98, 0.92, 0.99)), **options)


class SignSgd(OptaxRule):
    def transformation(self):
        return optax.scale_by_sign()


class Signum(OptaxRule):
    fields = {"momentum_buffer": "ema"}

    def transformation(self):
        return optax.chain(optax.ema(self.options["momentum"], debias=False), optax.scale_by_sign())

    def averages(self, state):
        return state[0][0]


class AdEMAMix(OptaxRule):
    fields = {"exp_avg": "m1", "exp_avg_slow": "m2", "exp_avg_sq": "nu"}

    def transformation(self):
        """The paper's schedules, as callables that optax calls with t - 1."""
        options = dict(self.options)
        beta1, beta2, beta3 = options.pop("betas", (0.9, 0.999, 0.9999))
        alpha, t_alpha, t_beta3 = options.pop("alpha", 5.0), options.pop("t_alpha", None), options.pop("t_beta3", None)

        def alpha_of(count):
            return min((int(count) + 1) / t_alpha, 1.0) * alpha

        def beta3_of(count):
            share, start, end = (int(count) + 1) / t_beta3, math.log(beta1), math.log(beta3)
            return math.exp(start * end / ((1 - share) * end + share * start)) if share < 1.0 else beta3

        return optax.contrib.scale_by_ademamix(
            b1=beta1, b2=beta2, b3=beta3_of if t_beta3 else beta3, alpha=alpha_of if t_alpha else alpha, **options)


Adan.made_by = ("timm", "torch", "numpy")
RAdam = torch.optim.RAdam

# Signs of beta1 * average + (1 - beta1) * grad, the average with beta2: what `lion_signs_are_clear` looks at.
SIGN_BETAS = {
    SignSgd: lambda options: (0.0, 0.0),
    Signum: lambda options: (options["momentum"], options["momentum"]),
}


def cases(Case, groups, warmup, long):
    """By file and name. Cases of one file share four data sets."""

    def schedule(peak, min_lr):
        return warmup | {"peak": peak, "min_lr": min_lr}

    return {
        "radam": {
            "default": Case(RAdam, "mixed", {"lr": 1e-3}),
            "betas_eps": Case(RAdam, "mixed", {"lr": 0.02, "betas": (0.8, 0.98), "eps": 1e-4}),
            "maximize": Case(RAdam, "mixed", {"lr": 0.01, "maximize": True}),
            "weight_decay": Case(RAdam, "tame", {"lr": 2e-3, "weight_decay": 0.02}),
            "decoupled": Case(RAdam, "tame", {"lr": 0.01, "weight_decay": 0.1, "decoupled_weight_decay": True}),
            "short_average": Case(RAdam, "tame", {"lr": 0.01, "betas": (0.9, 0.8)}),
            "never_rectified": Case(RAdam, "tame", {"lr": 0.01, "betas": (0.9, 0.5)}),
            "clip_schedule": Case(RAdam, "swinging", {"weight_decay": 1e-3},
                                  schedule=schedule(0.01, 1e-3), max_norm=1.0),
            "groups": Case(RAdam, "tame", {"lr": 3e-3, "weight_decay": 0.01, "decoupled_weight_decay": True},
                           groups=groups(0.03)),
            "scale_clip": Case(RAdam, "scaled", {"lr": 0.02}, grad_scale=1024.0, max_norm=0.5),
            "long": Case(RAdam, "tame", {"lr": 1e-3, "betas": (0.9, 0.99), "weight_decay": 0.1,
                                         "decoupled_weight_decay": True}, steps=long),
        },
        "adabelief": {
            "default": Case(AdaBelief, "mixed", {"lr": 1e-3}),
            "betas_eps": Case(AdaBelief, "mixed", {"lr": 0.02, "betas": (0.8, 0.98), "eps": 1e-4, "eps_root": 1e-8}),
            "weight_decay": Case(AdaBelief, "tame", {"lr": 0.01, "weight_decay": 0.2}),
            "maximize": Case(AdaBelief, "tame", {"lr": 0.01}, maximize_by_negation=True),
            "clip_schedule": Case(AdaBelief, "swinging", {"weight_decay": 0.1, "eps_root": 1e-12},
                                  schedule=schedule(0.01, 1e-3), max_norm=1.0),
            "groups": Case(AdaBelief, "tame", {"lr": 3e-3, "weight_decay": 0.01}, groups=groups(0.03)),
            "scale_clip": Case(AdaBelief, "scaled", {"lr": 0.02}, grad_scale=1024.0, max_norm=0.5),
            "long": Case(AdaBelief, "tame", {"lr": 1e-3, "weight_decay": 0.1}, steps=long),
        },
        "yogi": {
            "default": Case(Yogi, "mixed", {"lr": 1e-2}),
            "betas_eps": Case(Yogi, "mixed", {"lr": 0.02, "betas": (0.8, 0.97), "eps": 1e-5}),
            "initial_value": Case(Yogi, "mixed", {"lr": 0.02, "initial_accumulator_value": 0.1}),
            "weight_decay": Case(Yogi, "tame", {"lr": 0.01, "betas": (0.9, 0.97), "weight_decay": 0.2}),
            "maximize": Case(Yogi, "tame", {"lr": 0.01}, maximize_by_negation=True),
            "clip_schedule": Case(Yogi, "swinging", {"weight_decay": 0.1}, schedule=schedule(0.01, 1e-3), max_norm=1.0),
            "groups": Case(Yogi, "tame", {"lr": 3e-3, "weight_decay": 0.01}, groups=groups(0.03)),
            "scale_clip": Case(Yogi, "scaled", {"lr": 0.02}, grad_scale=1024.0, max_norm=0.5),
            "long": Case(Yogi, "long", {"lr": 1e-3, "betas": (0.9, 0.997), "weight_decay": 0.1}, steps=long),
        },
        "adan": {
            "default": Case(Adan, "mixed", {"lr": 1e-3}),
            "betas_eps": Case(Adan, "mixed", {"lr": 0.02, "betas": (0.9, 0.7, 0.95), "eps": 1e-4}),
            "weight_decay": Case(Adan, "tame", {"lr": 0.01, "weight_decay": 0.2}),
            "no_prox": Case(Adan, "tame", {"lr": 0.01, "weight_decay": 0.2, "no_prox": True}),
            "maximize": Case(Adan, "tame", {"lr": 0.01}, maximize_by_negation=True),
            "clip_schedule": Case(Adan, "swinging", {"weight_decay": 0.1}, schedule=schedule(0.01, 1e-3), max_norm=1.0),
            "groups": Case(Adan, "tame", {"lr": 3e-3, "weight_decay": 0.02}, groups=groups(0.03)),
            "scale_clip": Case(Adan, "scaled", {"lr": 0.02}, grad_scale=1024.0, max_norm=0.5),
            "long": Case(Adan, "tame", {"lr": 1e-3, "weight_decay": 0.1}, steps=long),
            "optax": Case(OptaxAdan, "tame", {"lr": 0.01, "eps_root": 1e-8, "weight_decay": 0.1,
                                              "convention": "optax"}),
            "optax_betas": Case(OptaxAdan, "mixed", {"lr": 0.02, "betas": (0.9, 0.7, 0.95), "eps_root": 1e-4,
                                                     "convention": "optax"}),
        },
        "signsgd": {
            "default": Case(SignSgd, "mixed", {"lr": 1e-3}),
            "weight_decay": Case(SignSgd, "mixed", {"lr": 0.01, "weight_decay": 0.5}),
            "signum": Case(Signum, "mixed", {"lr": 0.01, "momentum": 0.9}),
            "signum_weight_decay_maximize": Case(Signum, "mixed", {"lr": 0.01, "momentum": 0.6, "weight_decay": 0.3},
                                                 maximize_by_negation=True),
            "clip_schedule": Case(Signum, "swinging", {"momentum": 0.9, "weight_decay": 0.1},
                                  schedule=schedule(0.02, 1e-3), max_norm=1.0),
            "groups": Case(Signum, "tame", {"lr": 0.01, "momentum": 0.8, "weight_decay": 0.1}, groups=groups(1.0)),
            "scale": Case(Signum, "scaled", {"lr": 0.01, "momentum": 0.9}, grad_scale=1024.0),
            "long": Case(Signum, "tame", {"lr": 1e-3, "momentum": 0.95, "weight_decay": 0.1}, steps=long),
        },
        "ademamix": {
            "default": Case(AdEMAMix, "mixed", {"lr": 1e-3}),
            "betas_alpha": Case(AdEMAMix, "mixed", {"lr": 0.02, "betas": (0.8, 0.98, 0.995), "alpha": 2.0,
                                                    "eps": 1e-4}),
            "warm_up": Case(AdEMAMix, "mixed", {"lr": 0.01, "t_alpha": 25, "t_beta3": 30}),
            "warm_up_beta3": Case(AdEMAMix, "tame", {"lr": 0.01, "betas": (0.5, 0.99, 0.999), "t_beta3": 200,
                                                     "weight_decay": 0.2}),
            "maximize": Case(AdEMAMix, "tame", {"lr": 0.01, "weight_decay": 0.1}, maximize_by_negation=True),
            "clip_schedule": Case(AdEMAMix, "swinging", {"weight_decay": 0.1, "t_alpha": 100},
                                  schedule=schedule(0.01, 1e-3), max_norm=1.0),
            "groups": Case(AdEMAMix, "tame", {"lr": 3e-3, "weight_decay": 0.02}, groups=groups(0.03)),
            "scale_clip": Case(AdEMAMix, "scaled", {"lr": 0.02, "t_alpha": 10, "t_beta3": 20}, grad_scale=1024.0,
                               max_norm=0.5),
            "long": Case(AdEMAMix, "tame", {"lr": 1e-3, "weight_decay": 0.1, "t_alpha": 700, "t_beta3": 700},
                         steps=long),
        },
    }
