"""Adafactor as PyTorch and optax have it. Each group of a case is a tensor, of the shape it names.

The step is relative to the tensor's RMS, so that an error of the parameters grows with them, by about 1 + lr per step.
"""

import jax.numpy as jnp
import numpy as np
import optax
import torch
from cases_tensor_norms import Optax

PACKAGES = ()


class Adafactor(torch.optim.Adafactor):
    @staticmethod
    def absent_state(param, name):
        """Of frozen vectors zeros; vectors have no rows, and matrices nothing else."""
        return torch.zeros(param.numel() if (name == "variance") == (param.ndim < 2) else 0)


class OptaxAdafactor(Optax):
    """optax.adafactor as its alias chains it, but for the power of t, which that takes in float32."""

    made_by = ("jax", "optax", "torch", "numpy")
    LEAST = 3

    @staticmethod
    def transform(lr, weight_decay=0.0, beta2_decay=-0.8, eps=(1e-30, 1e-3), d=1.0, min_dim_size_to_factor=128):
        return optax.chain(
            optax.scale_by_factored_rms(
                epsilon=eps[0], min_dim_size_to_factor=min_dim_size_to_factor,
                decay_rate_fn=lambda step, _: 1.0 - jnp.asarray(step + 1, jnp.float64) ** beta2_decay),
            optax.clip_by_block_rms(d), optax.scale_by_learning_rate(lr, flip_sign=False),
            optax.scale_by_param_block_rms(eps[1]), optax.add_decayed_weights(weight_decay), optax.scale(-1))

    @staticmethod
    def kept(state):
        rows, columns, each = state[0].v_row, state[0].v_col, state[0].v
        if rows.shape == (1,):
            return {"variance": each}
        # Its rows are the shorter of the dimensions, as in all cases.
        return {"row_var": rows, "col_var": columns}

    @staticmethod
    def absent_state(param, name):
        each = param.ndim < 2 or min(param.shape[-2:]) < OptaxAdafactor.LEAST
        return torch.zeros(param.numel() if (name == "variance") == each else 0)


def cases(Case, groups, WARMUP, LONG):
    # float64 has another machine epsilon.
    eps = {"eps": (float(np.finfo(np.float32).eps), 1e-3)}
    one_of_each = [{"elements": 1, "shape": []}, {"elements": 12, "shape": [3, 4]}, {"elements": 5},
                   {"elements": 12, "shape": [2, 3, 2]}, {"elements": 7, "shape": [7, 1]}]
    options = [{"elements": 12, "shape": [4, 3]}, {"elements": 6, "frozen": True},
               {"elements": 8, "shape": [2, 2, 2], "lr_scale": 0.1, "weight_decay": 0.0},
               {"elements": 11, "lr_scale": 2.0, "weight_decay": 0.1}]
    of_optax = {"min_dim_size_to_factor": OptaxAdafactor.LEAST}
    factored = [{"elements": 1}, {"elements": 12, "shape": [3, 4]}, {"elements": 24, "shape": [2, 3, 4]}]
    some = [{"elements": 12, "shape": [3, 4]}, {"elements": 6, "frozen": True},
            {"elements": 8, "shape": [2, 4], "lr_scale": 0.1, "weight_decay": 0.0},
            {"elements": 11, "lr_scale": 2.0, "weight_decay": 0.01}]
    return {"adafactor_optax": {
        "default": Case(OptaxAdafactor, "tame", {"lr": 0.01},
                        groups=[{"elements": 12, "shape": [2, 6]}, {"elements": 25}]),
        "factored": Case(OptaxAdafactor, "tame", {"lr": 0.01} | of_optax, groups=factored),
        "options": Case(OptaxAdafactor, "mixed", {"lr": 0.02, "weight_decay": 1e-3, "beta2_decay": -0.6, "d": 2.0,
                                                  "eps": (1e-3, 0.5)} | of_optax, groups=factored),
        "groups": Case(OptaxAdafactor, "tame", {"lr": 0.02, "weight_decay": 1e-3} | of_optax, groups=some),
        "clip_schedule": Case(OptaxAdafactor, "tame", {"weight_decay": 1e-3} | of_optax, groups=factored,
                              schedule=WARMUP | {"peak": 0.05, "min_lr": 1e-3}, max_norm=0.5),
    }, "adafactor": {
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
