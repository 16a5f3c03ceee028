"""Averages and Lookahead of PyTorch and optax, around SGD, into averages.json.

Each case: gradients of every step, parameters after the last, and the average of them (Lookahead has none).
"""

import json
import pathlib

import jax.numpy as jnp
import numpy
import optax
import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

STEPS, LEN, LR = 12, 5, 0.25
GRADS = numpy.random.default_rng(1).standard_normal((STEPS, LEN)).astype("f4")
START = numpy.random.default_rng(2).standard_normal(LEN).astype("f4")


def trained(averaged, counts):
    """SGD whose parameters enter the average after the steps that count."""
    model = torch.nn.ParameterList([torch.nn.Parameter(torch.from_numpy(START.copy()))])
    average = averaged(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)
    for step, grad in enumerate(GRADS, 1):
        model[0].grad = torch.from_numpy(grad.copy())
        optimizer.step()
        if counts(step):
            average.update_parameters(model)
    return model[0].tolist(), average.module[0].tolist()


def ema(decay):
    return trained(lambda model: AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay)), lambda step: True)


def swa(start, every):
    return trained(AveragedModel, lambda step: step >= start and (step - start) % every == 0)


def debiased(decay):
    params, moment = jnp.array(START), jnp.zeros(LEN)
    for step, grad in enumerate(GRADS, 1):
        params = params - LR * grad
        moment = optax.tree.update_moment(params, moment, decay, 1)
        average = optax.tree.bias_correction(moment, decay, step)
    return params.tolist(), average.tolist()


def warmed_up(decay):
    """In float64: no framework at hand has exactly this form."""
    params, average = START.astype("f8"), None
    for step, grad in enumerate(GRADS, 1):
        params = params - LR * grad
        d = min(decay, (1 + step) / (10 + step))
        average = params if average is None else d * average + (1 - d) * params
    return params.tolist(), average.tolist()


def lookahead(k, alpha):
    optimizer = optax.lookahead(optax.sgd(LR), sync_period=k, slow_step_size=alpha)
    params = optax.LookaheadParams.init_synced(jnp.array(START))
    state = optimizer.init(params)
    for grad in GRADS:
        updates, state = optimizer.update(jnp.array(grad), state, params)
        params = optax.apply_updates(params, updates)
    return params.fast.tolist(), None


if __name__ == "__main__":
    cases = [({"average": {"name": "ema", "decay": 0.75}}, ema(0.75)),
             ({"average": {"name": "ema", "decay": 0.99}}, ema(0.99)),
             ({"average": {"name": "ema", "decay": 0.9, "debiased": True}}, debiased(0.9)),
             ({"average": {"name": "ema", "decay": 0.6, "warmup": True}}, warmed_up(0.6)),
             ({"average": {"name": "swa", "start": 1, "every": 1}}, swa(1, 1)),
             ({"average": {"name": "swa", "start": 4, "every": 3}}, swa(4, 3)),
             ({"lookahead": {"k": 5, "alpha": 0.5}}, lookahead(5, 0.5)),
             ({"lookahead": {"k": 1, "alpha": 0.8}}, lookahead(1, 0.8))]
    cases = [{**options, "params": result[0], "averaged": result[1]} for options, result in cases]
    text = {"lr": LR, "start": START.tolist(), "grads": GRADS.tolist(), "cases": cases}
    (pathlib.Path(__file__).parent / "averages.json").write_text(json.dumps(text, indent=1) + "\n")
