"""Learning rates of torch.optim.lr_scheduler, optax and Hugging Face's transformers, step by step, into schedules.json.

Each case holds the schedule as this crate's configuration files name it, and the rates that the framework gives in float64:
PyTorch's closed forms where it has them, else what its scheduler does step after step.
"""

import json
import math
import pathlib
import warnings

import jax

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp
import optax
import torch
from torch.optim import lr_scheduler
from transformers import optimization

warnings.filterwarnings("ignore")


def sgd(lr):
    return torch.optim.SGD([torch.zeros(1)], lr=lr)


def walked(scheduler, optimizer, steps, key="lr"):
    """What the optimizer has at each step."""
    values = [optimizer.param_groups[0][key]]
    for _ in range(steps - 1):
        optimizer.step()
        scheduler.step()
        values.append(optimizer.param_groups[0][key])
    return values


def closed(scheduler, steps):
    rates = []
    for step in range(steps):
        scheduler.last_epoch = step
        rates.append(scheduler._get_closed_form_lr()[0])
    return rates


def torch_case(name, scheduler_class, given, steps, lr=None):
    def made():
        optimizer = sgd(1.0 if lr is None else lr)
        return scheduler_class(optimizer, **given), optimizer

    scheduler, optimizer = made()
    has_closed_form = hasattr(scheduler, "_get_closed_form_lr")
    rates = closed(scheduler, steps) if has_closed_form else walked(scheduler, optimizer, steps)
    schedule = {"name": name, **({} if lr is None else {"lr": lr}), **given}
    case = {"source": f"torch {scheduler_class.__name__}", "schedule": schedule, "rates": rates}
    if getattr(scheduler, "cycle_momentum", False):
        case["momenta"] = walked(*made(), steps, "momentum")
    return case


def optax_case(schedule, function, steps):
    return {"source": "optax", "schedule": schedule, "rates": [float(function(jnp.int64(step))) for step in range(steps)]}


def lambda_case(source, schedule, lr, make, steps):
    optimizer = sgd(lr)
    return {"source": source, "schedule": schedule, "rates": walked(make(optimizer), optimizer, steps)}


def torch_cases():
    s = lr_scheduler
    yield torch_case("constant", s.ConstantLR, {"factor": 1.0}, 8, lr=0.3)
    yield torch_case("constant", s.ConstantLR, {"factor": 0.25, "total_iters": 4}, 8, lr=0.1)
    yield torch_case("constant", s.ConstantLR, {"factor": 0.0, "total_iters": 1}, 4, lr=7e-3)
    yield torch_case("step", s.StepLR, {"step_size": 7}, 60, lr=0.1)
    yield torch_case("step", s.StepLR, {"step_size": 1, "gamma": 0.9}, 60, lr=3e-4)
    yield torch_case("step", s.StepLR, {"step_size": 30, "gamma": 1.5}, 95, lr=0.02)
    yield torch_case("multi_step", s.MultiStepLR, {"milestones": [10, 25]}, 40, lr=0.1)
    yield torch_case("multi_step", s.MultiStepLR, {"milestones": [9, 3, 3, 20], "gamma": 0.5}, 30, lr=0.7)
    yield torch_case("multi_step", s.MultiStepLR, {"milestones": [0, 1], "gamma": 0.3}, 5, lr=1e-3)
    yield torch_case("exponential", s.ExponentialLR, {"gamma": 0.9}, 80, lr=0.1)
    yield torch_case("exponential", s.ExponentialLR, {"gamma": 0.999}, 60, lr=1.0)
    yield torch_case("exponential", s.ExponentialLR, {"gamma": 1.01}, 60, lr=2e-5)
    yield torch_case("linear", s.LinearLR, {}, 9, lr=0.1)
    yield torch_case("linear", s.LinearLR, {"start_factor": 0.01, "end_factor": 0.75, "total_iters": 33}, 40, lr=0.3)
    yield torch_case("linear", s.LinearLR, {"start_factor": 1.0, "end_factor": 0.0, "total_iters": 50}, 55, lr=3e-4)
    yield torch_case("polynomial", s.PolynomialLR, {}, 8, lr=0.1)
    yield torch_case("polynomial", s.PolynomialLR, {"total_iters": 40, "power": 2.0}, 45, lr=0.3)
    yield torch_case("polynomial", s.PolynomialLR, {"total_iters": 23, "power": 0.5}, 26, lr=1e-4)
    yield torch_case("cosine", s.CosineAnnealingLR, {"T_max": 50}, 130, lr=0.1)
    yield torch_case("cosine", s.CosineAnnealingLR, {"T_max": 90, "eta_min": 1e-3}, 190, lr=0.5)
    yield torch_case("cosine", s.CosineAnnealingLR, {"T_max": 1, "eta_min": 0.25}, 5, lr=3e-4)
    restarts = s.CosineAnnealingWarmRestarts
    yield torch_case("cosine_warm_restarts", restarts, {"T_0": 20}, 65, lr=0.1)
    yield torch_case("cosine_warm_restarts", restarts, {"T_0": 7, "T_mult": 2, "eta_min": 1e-3}, 110, lr=0.3)
    yield torch_case("cosine_warm_restarts", restarts, {"T_0": 1, "T_mult": 3}, 45, lr=3e-4)
    yield torch_case("one_cycle", s.OneCycleLR, {"max_lr": 0.1, "total_steps": 60}, 61)
    yield torch_case("one_cycle", s.OneCycleLR, {"max_lr": 0.3, "total_steps": 37, "pct_start": 0.45, "div_factor": 10.0,
                                                 "base_momentum": 0.7, "max_momentum": 0.99, "anneal_strategy": "linear", "final_div_factor": 50.0}, 37)
    yield torch_case("one_cycle", s.OneCycleLR, {"max_lr": 3e-3, "total_steps": 50, "pct_start": 0.4, "three_phase": True},
                     51)
    yield torch_case("one_cycle", s.OneCycleLR, {"max_lr": 1.0, "total_steps": 41, "pct_start": 0.25, "three_phase": True,
                                                 "anneal_strategy": "linear", "div_factor": 4.0,
                                                 "final_div_factor": 100.0}, 41)
    yield torch_case("one_cycle", s.OneCycleLR, {"max_lr": 0.1, "total_steps": 20, "pct_start": 0.0,
                                                 "cycle_momentum": False}, 21)
    yield torch_case("cyclic", s.CyclicLR, {"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 10}, 65)
    yield torch_case("cyclic", s.CyclicLR, {"base_lr": 1e-3, "max_lr": 0.1, "step_size_up": 5, "step_size_down": 12,
                                            "mode": "triangular2"}, 90)
    yield torch_case("cyclic", s.CyclicLR, {"base_lr": 0.2, "max_lr": 0.9, "step_size_up": 9, "step_size_down": 4,
                                            "mode": "exp_range", "gamma": 0.97, "base_momentum": 0.5,
                                            "max_momentum": 0.95}, 80)


def composed_cases():
    s = lr_scheduler

    def sequential(lr, parts, milestones, steps):
        optimizer = sgd(lr)
        scheduler = s.SequentialLR(optimizer, [make(optimizer, **given) for _, make, given in parts], milestones)
        schedulers = [{"name": name, "lr": lr, **given} for name, _, given in parts]
        schedule = {"name": "sequential", "schedulers": schedulers, "milestones": milestones}
        return {"source": "torch SequentialLR", "schedule": schedule, "rates": walked(scheduler, optimizer, steps)}

    constant = ("constant", s.ConstantLR, {"factor": 0.1, "total_iters": 20})
    exponential = ("exponential", s.ExponentialLR, {"gamma": 0.9})
    linear = ("linear", s.LinearLR, {"start_factor": 0.125, "total_iters": 10})
    cosine = ("cosine", s.CosineAnnealingLR, {"T_max": 30, "eta_min": 0.01})
    restarts = ("cosine_warm_restarts", s.CosineAnnealingWarmRestarts, {"T_0": 5, "T_mult": 2})
    step = ("step", s.StepLR, {"step_size": 4, "gamma": 0.5})
    yield sequential(0.3, [constant, exponential], [20], 50)
    yield sequential(0.1, [linear, cosine], [10], 41)
    yield sequential(0.2, [linear, restarts, step], [6, 41], 60)

    def chained(lr, parts, steps):
        optimizer = sgd(lr)
        scheduler = s.ChainedScheduler([make(optimizer, **given) for _, make, given in parts])
        schedulers = [{"name": name, "lr": 1.0 if i else lr, **given} for i, (name, _, given) in enumerate(parts)]
        schedule = {"name": "chained", "schedulers": schedulers}
        return {"source": "torch ChainedScheduler", "schedule": schedule, "rates": walked(scheduler, optimizer, steps)}

    polynomial = ("polynomial", s.PolynomialLR, {"total_iters": 30, "power": 1.5})
    yield chained(0.3, [constant, exponential], 40)
    yield chained(0.1, [linear, polynomial, step], 28)
    yield chained(2e-3, [exponential], 30)

    def warmup(lr, factor, part, kind, steps, warmup_steps):
        name, make, given = part
        optimizer = sgd(lr)
        rise = {"linear": lambda: s.LinearLR(optimizer, start_factor=factor, total_iters=warmup_steps),
                "constant": lambda: s.ConstantLR(optimizer, factor=factor, total_iters=warmup_steps)}[kind]()
        scheduler = s.SequentialLR(optimizer, [rise, make(optimizer, **given)], [warmup_steps])
        schedule = {"name": "warmup", "warmup_steps": warmup_steps, "warmup_type": kind, "start_factor": factor,
                    "schedule": {"name": name, "lr": lr, **given}}
        return {"source": "torch SequentialLR", "schedule": schedule, "rates": walked(scheduler, optimizer, steps)}

    yield warmup(0.4, 0.25, cosine, "linear", 40, 8)
    yield warmup(0.4, 0.01, step, "linear", 40, 13)
    yield warmup(3e-4, 0.5, exponential, "constant", 30, 5)


def optax_cases():
    for lr, warmup, total, min_lr, steps in [(2.0, 10, 70, 0.5, 75), (3e-4, 0, 40, 0.0, 44), (0.1, 30, 90, 1e-3, 95)]:
        function = optax.warmup_cosine_decay_schedule(0.0, lr, warmup, total, min_lr)
        schedule = {"name": "warmup_cosine", "lr": lr, "warmup_steps": warmup, "total_steps": total, "min_lr": min_lr}
        yield optax_case(schedule, function, steps)

    for lr, min_lr, power, total in [(0.1, 0.02, 2.0, 30), (1.0, 0.3, 0.5, 20), (1e-4, 1e-3, 1.0, 10)]:
        schedule = {"name": "polynomial", "lr": lr, "min_lr": min_lr, "power": power, "total_iters": total}
        yield optax_case(schedule, optax.polynomial_schedule(lr, min_lr, power, total), total + 4)

    pieces = [(0.1, {10: 0.5, 20: 0.1}), (1.0, {1: 2.0, 7: 0.3, 30: 0.0}), (3e-4, {5: 1.0, 6: 0.9})]
    for lr, scales in pieces:
        schedule = {"init_value": lr, "boundaries_and_scales": list(scales.items())}
        yield optax_case({"name": "piecewise_constant", **schedule}, optax.piecewise_constant_schedule(lr, scales), 36)
        for kind in ("linear", "cosine"):
            function = optax.piecewise_interpolate_schedule(kind, lr, scales)
            yield optax_case({"name": "piecewise_interpolate", "interpolate_type": kind, **schedule}, function, 36)

    for lr, factor, warmup in [(0.1, 0.125, 12), (1.0, 0.5, 1), (3e-4, 0.01, 25)]:
        rise = optax.piecewise_interpolate_schedule("cosine", lr * factor, {warmup: 1.0 / factor})
        function = optax.join_schedules([rise, optax.exponential_decay(lr, 1, 0.9)], [warmup])
        yield optax_case({"name": "warmup", "warmup_type": "cosine", "warmup_steps": warmup, "start_factor": factor,
                          "schedule": {"name": "exponential", "lr": lr, "gamma": 0.9}}, function, 40)


def transformers_cases():
    ways = [("linear", 5, 20, 30, 0.0), ("cosine", 0, 25, 25, 0.1), ("1-sqrt", 10, 0, 40, 0.01)]
    for decay, warmup, stable, decay_steps, ratio in ways + [("linear", 3, 4, 0, 0.5)]:
        lr = 0.2
        schedule = {"name": "warmup_stable_decay", "lr": lr, "warmup_steps": warmup, "stable_steps": stable,
                    "decay_steps": decay_steps, "decay_type": decay, "min_lr": lr * ratio}
        make = lambda optimizer: optimization.get_wsd_schedule(
            optimizer, num_warmup_steps=warmup, num_stable_steps=stable, num_decay_steps=decay_steps, decay_type=decay,
            min_lr_ratio=ratio)
        yield lambda_case("transformers get_wsd_schedule", schedule, lr, make, warmup + stable + decay_steps + 5)

    for lr, warmup in [(0.1, 10), (3e-4, 1), (2.0, 33)]:
        schedule = {"name": "inverse_sqrt", "lr": lr, "warmup_steps": warmup}
        make = lambda optimizer: optimization.get_inverse_sqrt_schedule(optimizer, warmup)
        yield lambda_case("transformers get_inverse_sqrt_schedule", schedule, lr, make, 60)


def published_cases():
    """Those of papers and their code, as functions for torch's LambdaLR."""

    def noam(step, model_size, factor, warmup):
        step = max(step, 1)
        return factor * (model_size ** (-0.5) * min(step ** (-0.5), step * warmup ** (-1.5)))

    for given in [(512, 1.0, 20), (256, 2.0, 1), (1000, 0.5, 45)]:
        schedule = dict(zip(("model_size", "factor", "warmup_steps"), given))
        make = lambda optimizer: lr_scheduler.LambdaLR(optimizer, lambda step: noam(step, *given))
        yield lambda_case("The annotated transformer", {"name": "noam", **schedule}, 1.0, make, 60)

    def fairseq(step, lr, init, warmup):
        """InverseSquareRootSchedule.step_update: `lr_step` and `decay_factor` are its."""
        lr_step, decay_factor = (lr - init) / warmup, lr * warmup**0.5
        return init + step * lr_step if step < warmup else decay_factor * step**-0.5

    for given in [(5e-4, 1e-7, 40), (0.1, 0.01, 7), (1.0, 2.0, 1)]:
        schedule = dict(zip(("lr", "warmup_init_lr", "warmup_steps"), given))
        make = lambda optimizer: lr_scheduler.LambdaLR(optimizer, lambda step: fairseq(step, *given))
        yield lambda_case("fairseq inverse_sqrt", {"name": "inverse_sqrt", **schedule}, 1.0, make, 60)


def lambda_cases():
    """`lr_lambdas` of tests/it/schedules.rs."""
    for function in (lambda step: 0.95**step, lambda step: 1 / (1 + 0.1 * step), lambda step: step // 7):
        optimizer = sgd(0.3)
        yield walked(lr_scheduler.LambdaLR(optimizer, function), optimizer, 30)


def plateau_cases():
    """Metrics that fall, stall, jump and improve by about the threshold; one is NaN."""
    metrics = [2.0 / (1 + 0.3 * t) + 0.05 * math.sin(1.7 * t) for t in range(40)] + [float("nan")] + [0.11] * 12
    metrics += [0.11 * (1 - 2e-4) ** t for t in range(12)] + [-0.5 - 1e-3 * (t % 5) for t in range(15)]
    ways = [{"patience": 2}, {"mode": "max", "patience": 0, "factor": 0.5, "cooldown": 3, "min_lr": 0.01},
            {"threshold_mode": "abs", "threshold": 0.05, "patience": 3, "factor": 0.7, "cooldown": 1},
            {"mode": "max", "threshold_mode": "abs", "threshold": 0.01, "patience": 1, "eps": 1e-3, "factor": 0.3},
            {"patience": 0, "factor": 0.0, "min_lr": 1e-4, "threshold": 0.1}]
    for given in ways:
        optimizer = sgd(0.4)
        scheduler = lr_scheduler.ReduceLROnPlateau(optimizer, **given)
        rates = []
        for metric in metrics:
            scheduler.step(metric)
            rates.append(optimizer.param_groups[0]["lr"])
        plateau = {"lr": 0.4, **given}
        shown = [None if math.isnan(metric) else metric for metric in metrics]
        yield {"source": "torch ReduceLROnPlateau", "plateau": plateau, "metrics": shown, "rates": rates}


def lines(cases):
    return "[\n" + ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases) + "\n]"


if __name__ == "__main__":
    schedules = [*torch_cases(), *composed_cases(), *optax_cases(), *transformers_cases(), *published_cases()]
    text = f'{{"schedules":{lines(schedules)},\n"lambdas":{lines(lambda_cases())},\n"plateaus":{lines(plateau_cases())}}}\n'
    (pathlib.Path(__file__).parent / "schedules.json").write_text(text)
