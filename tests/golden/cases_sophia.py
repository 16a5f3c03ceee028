"""Sophia-G as its authors publish it, and Sophia-H as optax has it.

No package holds Sophia-G. `SophiaG` below is our own statement, in float64 PyTorch, of the equations of
github.com/Liuhong99/Sophia (arXiv 2305.14342, algorithm 3); it is an independent evaluation, not the authors' program.
`SophiaH` lets optax.contrib.sophia itself compute every step, behind the interface of a torch optimizer.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch

jax.config.update("jax_enable_x64", True)

PACKAGES = ("jax", "optax")
G, H = list(range(0, 40, 10)), list(range(1, 40, 10))


class SophiaG(torch.optim.Optimizer):
    def __init__(self, params, lr=1e-4, betas=(0.965, 0.99), rho=0.04, bs=5120, weight_decay=0.1, maximize=False):
        defaults = {"lr": lr, "betas": betas, "rho": rho, "bs": bs, "weight_decay": weight_decay, "maximize": maximize}
        super().__init__(params, defaults)
        for group in self.param_groups:
            for p in group["params"]:
                self.state[p] = {"exp_avg": torch.zeros_like(p), "hessian": torch.zeros_like(p)}

    def live(self):
        return [(group, p, self.state[p]) for group in self.param_groups for p in group["params"] if p.grad is not None]

    @torch.no_grad()
    def update_hessian(self):
        for group, p, state in self.live():
            beta2 = group["betas"][1]
            state["hessian"] = beta2 * state["hessian"] + (1 - beta2) * p.grad**2

    @torch.no_grad()
    def step(self):
        for group, p, state in self.live():
            beta1, grad = group["betas"][0], -p.grad if group["maximize"] else p.grad
            p *= 1 - group["lr"] * group["weight_decay"]
            state["exp_avg"] = beta1 * state["exp_avg"] + (1 - beta1) * grad
            ratio = state["exp_avg"].abs() / (group["rho"] * group["bs"] * state["hessian"] + 1e-15)
            p -= group["lr"] * state["exp_avg"].sign() * ratio.clamp(max=1)


class SophiaH(SophiaG):
    """optax updates the Hessian after the parameters of the same step: an estimate given before step 1 + 10 k here
    goes into optax's step 10 k there, that is, at its update_interval of 10."""

    def __init__(self, params, lr=1e-4, betas=(0.965, 0.99), gamma=0.01, eps=1e-8, weight_decay=1e-4):
        super().__init__(params, lr=lr, betas=betas, weight_decay=weight_decay)
        for group in self.param_groups:
            group |= {"gamma": gamma, "eps": eps}
        self.estimates, self.optax_states = {}, {}

    def give_estimates(self, per_param):
        self.estimates = per_param

    def update_hessian(self):
        pass  # optax did it itself

    @torch.no_grad()
    def step(self):
        for group, p, state in self.live():
            given = self.estimates[p]
            estimator = optax.GradientTransformation(lambda _: jnp.zeros((), jnp.int32), lambda updates, k, params: (
                jnp.asarray(given)[k], k + 1))
            (b1, b2), gamma, eps = group["betas"], group["gamma"], group["eps"]
            tx = optax.contrib.sophia(group["lr"], b1, b2, eps, group["weight_decay"], gamma=gamma,
                                      hessian_diagonal_fn=estimator)
            param = jnp.asarray(p.numpy())
            if p not in self.optax_states:
                self.optax_states[p] = tx.init(param)
            updates, self.optax_states[p] = tx.update(jnp.asarray(p.grad.numpy()), self.optax_states[p], param)
            p.copy_(torch.from_numpy(np.array(optax.apply_updates(param, updates))))
            sophia = self.optax_states[p][0]
            state["exp_avg"], state["hessian"] = (torch.from_numpy(np.array(x)) for x in (sophia.mu, sophia.nu))


def cases(Case, groups, WARMUP, LONG):
    return {
        "sophia": {
            "default": Case(SophiaG, "mixed", {"lr": 1e-3, "weight_decay": 0.1}, hessian_steps=G),
            "rho_bs": Case(SophiaG, "tame", {"lr": 0.02, "betas": (0.9, 0.95), "rho": 0.05, "bs": 480,
                                             "weight_decay": 0.0}, hessian_steps=G),
            "maximize": Case(SophiaG, "tame", {"lr": 0.01, "weight_decay": 0.2, "maximize": True}, hessian_steps=G),
            "clip_schedule": Case(SophiaG, "swinging", {"rho": 0.02, "bs": 64, "weight_decay": 0.1}, hessian_steps=G,
                                  schedule=WARMUP | {"peak": 0.02, "min_lr": 1e-3}, max_norm=1.0),
            "groups": Case(SophiaG, "tame", {"lr": 0.01, "weight_decay": 0.1, "bs": 256}, hessian_steps=G,
                           groups=groups(0.5)),
            "long": Case(SophiaG, "tame", {"lr": 1e-3, "weight_decay": 0.1, "bs": 256}, hessian_steps=G, steps=LONG),
        },
        "sophia_h": {
            "default": Case(SophiaH, "mixed", {"lr": 1e-3, "weight_decay": 1e-4}, hessian_steps=H),
            "gamma_eps": Case(SophiaH, "tame", {"lr": 0.02, "betas": (0.9, 0.95), "gamma": 2.0, "eps": 1e-3,
                                                "weight_decay": 0.1}, hessian_steps=H),
            "clip_schedule": Case(SophiaH, "tame", {"gamma": 5.0, "weight_decay": 0.1}, hessian_steps=H,
                                  schedule=WARMUP | {"peak": 0.02, "min_lr": 1e-3}, max_norm=1.0),
            "groups": Case(SophiaH, "tame", {"lr": 0.01, "weight_decay": 0.1, "gamma": 1.0}, hessian_steps=H,
                           groups=groups(0.5)),
        },
    }
