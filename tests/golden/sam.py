"""SAM of optax around SGD and AdamW, and adaptive SAM in PyTorch, in float64, into sam.json.

Each step: the gradient at the parameters, the perturbed parameters, the gradient there, the parameters after the step.
"""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy
import optax
import torch

# In float32, 1 - 0.999 has a relative error of 5e-5.
jax.config.update("jax_enable_x64", True)

STEPS, LEN, LR = 4, 6, 0.125
MATRIX = numpy.random.default_rng(1).standard_normal((LEN, LEN)).astype("f4")
START = numpy.random.default_rng(2).standard_normal(LEN).astype("f4")


def loss(params, xp, matrix):
    return 0.5 * (xp.sin(matrix @ params) ** 2).sum() + 0.05 * (params**4).sum()


def of_optax(inner, rho):
    """Its transparent mode: a call that perturbs, then one that returns to the start and steps."""
    adversary = optax.chain(optax.contrib.normalize(), optax.sgd(rho))
    optimizer = optax.contrib.sam(inner, adversary, sync_period=2, reset_state=False)
    params, grad = jnp.array(START, "f8"), jax.grad(lambda params: loss(params, jnp, MATRIX))
    state, steps = optimizer.init(params), []
    for _ in range(STEPS):
        step = {}
        for at, after in [("grads", "perturbed"), ("second", "params")]:
            # The gradients that the file holds.
            step[at] = grad(params).astype("f4").astype("f8")
            updates, state = optimizer.update(step[at], state, params)
            params = optax.apply_updates(params, updates)
            step[after] = params
        steps.append({name: values.tolist() for name, values in step.items()})
    return steps


def adaptive(rho, eta):
    """Equations of the paper (arXiv 2102.11600), with T = |w| + eta for every parameter."""
    params, steps = torch.tensor(START, dtype=torch.float64), []

    def grad(at):
        at = at.clone().requires_grad_()
        loss(at, torch, torch.tensor(MATRIX, dtype=torch.float64)).backward()
        # The gradients that the file holds.
        return at.grad.float().double()

    for _ in range(STEPS):
        first, scale = grad(params), params.abs() + eta
        perturbed = params + rho * scale**2 * first / torch.linalg.vector_norm(scale * first)
        second = grad(perturbed)
        params = params - LR * second
        names = [("grads", first), ("perturbed", perturbed), ("second", second), ("params", params)]
        steps.append({name: values.tolist() for name, values in names})
    return steps


if __name__ == "__main__":
    adamw = optax.adamw(LR, b1=0.9, b2=0.999, eps=1e-8, weight_decay=0.01)
    cases = [({"name": "sgd", "lr": LR}, {"rho": 0.05}, of_optax(optax.sgd(LR), 0.05)),
             ({"name": "adamw", "lr": LR, "weight_decay": 0.01}, {"rho": 0.5}, of_optax(adamw, 0.5)),
             ({"name": "sgd", "lr": LR}, {"rho": 0.5, "eta": 0.01}, adaptive(0.5, 0.01)),
             ({"name": "sgd", "lr": LR}, {"rho": 1.0, "eta": 0.0}, adaptive(1.0, 0.0))]
    cases = [dict(zip(["rule", "sam", "steps"], case)) for case in cases]
    text = {"start": START.tolist(), "cases": cases}
    (pathlib.Path(__file__).parent / "sam.json").write_text(json.dumps(text, indent=1) + "\n")
