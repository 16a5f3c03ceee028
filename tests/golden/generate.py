"""Reference trajectories made by the frameworks themselves, in float64: PyTorch, lion-pytorch, timm,
torch-optimizer, prodigyopt, optax.

Without arguments it makes all files, else those of the rules that are named.

One safetensors file per rule. Its metadata entry "cases" is JSON: per case the hyperparameters, what surrounds the
optimizer, and the number of applied steps. (One entry, because the writer puts several in random order.) The tensors:

    data/<set>/param0    f32 [n]                shared by the cases that name the set
    data/<set>/grads     f32 [rows, n]          step s uses row s % rows; already multiplied by the case's grad_scale
    <case>/params        f64 [checkpoints, n]   after the calls of step listed in "checkpoints"
    <case>/<state>       f64 [n]                at the end, under the framework's name; Adafactor's are of fewer elements
    <case>/lr            f64 [steps] or [1]     of every call, skipped ones included; one number if it never changes
    <case>/grad_norm     f64 [steps]            of the unscaled gradient, and
    <case>/clip_coef     f64 [steps]            where the case clips; NaN in skipped steps
    data/<set>/hessian   f32 [updates, n]       row i is the Hessian estimate given before step "hessian_steps"[i]
    <case>/eval_params   f64 [n]                at the end, switched to evaluation (schedule-free rules)

Every f32 is exact input: frameworks and crate start from the same bits, so that a difference is the crate's rounding.
"""

import json
import math
import sys
import warnings
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path

import cases_adafactor
import cases_adagrad
import cases_adaptive
import cases_conventions
import numpy as np
import torch
from lion_pytorch import Lion
from safetensors.numpy import save

import cases_nadam
import cases_prodigy
import cases_schedule_free
import cases_sophia
import cases_tensor_norms

N = 37
STEPS = 40
CHECKPOINTS = [1, 5, 15, 40]
LONG = 1_000
SMALLEST_NORMAL = float(np.finfo(np.float32).tiny)

# In some cases GradScaler skips the very first step, which torch's schedulers take for a wrong order of calls.
warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")


@dataclass
class Case:
    rule: type
    data: str
    options: dict = field(default_factory=dict)
    maximize_by_negation: bool = False  # Lion, Adan and optax have no such option; torch defines maximize as negating the gradient
    schedule: dict | None = None
    max_norm: float | None = None
    grad_scale: float | None = None
    groups: list | None = None
    steps: int = STEPS
    hessian_steps: list | None = None  # steps, from 0, before which the Hessian estimate is updated


def column_kinds(rule):
    """What one column's gradient looks like over the steps; the rest of the columns are normal random numbers."""
    kinds = {
        "zero": lambda r, s: np.zeros(s),
        "negative zero": lambda r, s: np.full(s, -0.0),
        "sign flips": lambda r, s: 0.3 * (-1.0) ** np.arange(s),
        "slow sign flips": lambda r, s: 0.7 * (-1.0) ** (np.arange(s) // 7),
        "huge": lambda r, s: 1e15 * r.standard_normal(s),
        "huge constant": lambda r, s: np.full(s, -1e15),
        "tiny": lambda r, s: 1e-15 * r.standard_normal(s),
        "tiny constant": lambda r, s: np.full(s, 1e-15),
        "constant": lambda r, s: np.full(s, 0.25),
        "sparse": lambda r, s: np.where(r.random(s) < 0.1, r.standard_normal(s), 0.0),
        "one spike": lambda r, s: np.where(np.arange(s) == 9, 50.0, 0.0),
        "huge to tiny": lambda r, s: 10.0 ** np.linspace(12, -12, s) * np.sign(r.standard_normal(s)),
    }
    if rule in SIGN_BETAS or rule is torch.optim.Rprop:
        # A device may flush subnormals, and the sign of a flushed number is 0: no honest reference exists there.
        kinds["barely normal"] = lambda r, s: 1e-33 * r.standard_normal(s)
    else:
        kinds["subnormal"] = lambda r, s: r.integers(1, 2**22, s) * 2.0**-149 * r.choice([-1.0, 1.0], s)
        kinds["around the smallest normal"] = lambda r, s: SMALLEST_NORMAL * 4.0 * r.standard_normal(s)
    return kinds


def mixed(random, steps, rule):
    """Every kind of column, then normal numbers at scales from 1e-6 to 1e4; row 20 is all zero."""
    columns = [make(random, steps) for make in column_kinds(rule).values()]
    for exponent in np.resize(np.arange(-6, 5), N - len(columns)):
        columns.append(10.0 ** float(exponent) * random.standard_normal(steps))
    grads = np.stack(columns, axis=1)
    grads[min(20, steps - 1)] = 0.0
    return grads


def tame(random, steps, rule):
    """Gradients as training sees them: sizes within a few decades, some columns biased or sparse."""
    grads = random.standard_normal((steps, N)) * 10.0 ** random.uniform(-3, 0, N) + random.choice([0.0, 0.1], N)
    grads[:, 5] = 0.0
    grads[:, 6] = np.where(random.random(steps) < 0.1, 1.0, 0.0)
    grads[:, 7] = 0.3 * (-1.0) ** np.arange(steps)
    return grads


def swinging(random, steps, rule):
    """Tame, but the size of a whole step swings from 1e-30 to 1e12: clipping switches on and off, one step is zero."""
    sizes = np.resize(10.0 ** np.array([0, 1, -1, 12, 0, -30, 3, -6, 0.5, -2, -6.7]), steps)
    grads = tame(random, steps, rule) * sizes[:, None]
    grads[13] = 0.0
    return grads


def initial_parameters(random):
    """Zeros, where rounding shows the update and nothing else; large ones; the rest too far from zero to reach it by
    L2 decay alone, where Adam would divide the rounding error of a parameter by itself."""
    param0 = random.uniform(1.0, 3.0, N) * random.choice([-1.0, 1.0], N)
    param0[::4] = 0.0
    param0[1::8] = random.choice([-100.0, 3.0, 1e4], len(param0[1::8]))
    return param0


def data_set(name, rule, attempt):
    """Initial parameters and gradients of one set; `scaled`: times 1024 with non-finite values in three steps; `bf16_`:
    rounded to bfloat16."""
    seed = int.from_bytes(f"{name} {rule.__name__}".encode(), "little") % 2**63
    random = np.random.default_rng([seed, attempt])
    is_bf16, name = name.startswith("bf16_"), name.removeprefix("bf16_")
    makers = {"mixed": mixed, "tame": tame, "swinging": swinging, "scaled": tame, "scaled_mixed": mixed, "long": tame}
    grads = makers[name](random, STEPS, rule).astype(np.float32)
    if name.startswith("scaled"):
        grads *= np.float32(1024)
        grads[0, 18] = np.nan  # before any step was applied: t must still be 1 in the first one that is
        grads[11, 0] = np.inf
        grads[12, N - 1] = -np.inf
    if is_bf16:
        grads = torch.from_numpy(grads).bfloat16().float().numpy()
    return getattr(rule, "initial_parameters", initial_parameters)(random).astype(np.float32), grads


def warmup_cosine(schedule, step):
    """The lr of call `step` (from 0) divided by the peak, as LambdaLR wants it."""
    warmup, total = schedule["warmup"], schedule["total_steps"]
    lowest = schedule["min_lr"] / schedule["peak"]
    if step < warmup:
        return step / warmup
    progress = min((step - warmup) / (total - warmup), 1.0)
    return lowest + (1.0 - lowest) * 0.5 * (1.0 + math.cos(math.pi * progress))


def run(case, param0, grads, hessian):
    """Plays a case through the framework; returns the tensors and the number of applied steps."""
    hessian_at = dict(zip(case.hessian_steps or [], hessian))
    groups = case.groups or [{"elements": N}]
    bounds = np.cumsum([0] + [group["elements"] for group in groups])
    params = [torch.nn.Parameter(torch.from_numpy(param0[a:b]).double().reshape(group.get("shape", [-1])))
              for group, a, b in zip(groups, bounds, bounds[1:])]
    options = dict(case.options)
    if case.schedule:
        options["lr"] = case.schedule["peak"]
    base_lr = options["lr"]
    torch_groups = []
    for param, group in zip(params, groups):
        entry = {"params": [param], "lr": base_lr * group.get("lr_scale", 1.0)}
        if "weight_decay" in group:
            entry["weight_decay"] = group["weight_decay"]
        torch_groups.append(entry)
    optimizer = case.rule(torch_groups, **options)
    scheduler = None
    if case.schedule:
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: warmup_cosine(case.schedule, step))
    scaler = torch.amp.GradScaler("cpu", init_scale=case.grad_scale or 1.0, enabled=case.grad_scale is not None)
    scaler.scale(torch.zeros(()))  # creates the scale, as the first loss does
    if hasattr(optimizer, "train"):
        optimizer.train()
    if hasattr(optimizer, "give_estimates"):
        optimizer.give_estimates({param: hessian[:, a:b].astype(np.float64)
                                  for param, a, b in zip(params, bounds, bounds[1:])})

    out = {"lr": [], "params": [], "grad_norm": [], "clip_coef": []}
    applied = 0
    for step in range(case.steps):
        if step in hessian_at:
            estimate = torch.from_numpy(hessian_at[step]).double()
            for param, group, a, b in zip(params, groups, bounds, bounds[1:]):
                if not group.get("frozen"):
                    param.grad = estimate[a:b].clone()
            optimizer.update_hessian()
        row = torch.from_numpy(grads[step % len(grads)]).double()
        finite = bool(torch.isfinite(row).all())
        for param, group, a, b in zip(params, groups, bounds, bounds[1:]):
            if not group.get("frozen"):
                param.grad = row[a:b].clone().reshape(param.shape) * (-1.0 if case.maximize_by_negation else 1.0)
        before = [param.detach().clone() for param in params]
        scaler.unscale_(optimizer)
        if case.max_norm is not None:
            norm = torch.nn.utils.clip_grad_norm_(params, case.max_norm).item()
            out["grad_norm"].append(norm if finite else math.nan)
            out["clip_coef"].append(min(1.0, case.max_norm / (norm + 1e-6)) if finite else math.nan)
        out["lr"].append(optimizer.param_groups[0]["lr"])
        scaler.step(optimizer)
        if scaler.is_enabled():
            scaler.update(case.grad_scale)  # a constant scale: how it grows and backs off is not the subject here
        if scheduler:
            scheduler.step()
        applied += finite
        moved = any(not torch.equal(old, param) for old, param in zip(before, params))
        assert finite or not moved, "GradScaler leaves the parameters of a non-finite step alone"
        if step + 1 in checkpoints(case):
            out["params"].append(torch.cat([param.detach().flatten() for param in params]).numpy())
    absent = getattr(case.rule, "absent_state", lambda param, name: torch.zeros_like(param))
    for name in dict.fromkeys(name for param in params for name in optimizer.state[param]):
        states = [optimizer.state[param].get(name) for param in params]
        if name == "step":
            live = [state for state, group in zip(states, groups) if not group.get("frozen")]
            assert all(int(state) == applied for state in live)
        elif any(state is not None and state.ndim > 0 for state in states):
            out[name] = torch.cat([(absent(param, name) if state is None else state).flatten()
                                   for param, state in zip(params, states)]).detach().numpy()
    if hasattr(optimizer, "eval"):
        optimizer.eval()
        out["eval_params"] = torch.cat([param.detach().flatten() for param in params]).numpy()
    if len(set(out["lr"])) == 1:
        del out["lr"][1:]
    if case.max_norm is None:
        del out["grad_norm"], out["clip_coef"]
    return {name: np.asarray(values, dtype=np.float64) for name, values in out.items()}, applied


def checkpoints(case):
    return CHECKPOINTS if case.steps == STEPS else CHECKPOINTS[:1] + [case.steps // 2, case.steps]


# The betas of the rules that take signs of averages.
SIGN_BETAS = {Lion: lambda options: options.get("betas", (0.9, 0.99))} | cases_adaptive.SIGN_BETAS | cases_conventions.SIGN_BETAS


def signs_are_clear(case, param0, grads):
    if case.rule in SIGN_BETAS:
        return lion_signs_are_clear(case, param0, grads)
    check = getattr(case.rule, "signs_are_clear", None)
    return check is None or check(case, grads)


def lion_signs_are_clear(case, param0, grads):
    """No sign in the case hangs on a rounding: |c| is 0 with nothing ever added to it, or at least 1e-4 of the sum of
    the absolute values of its terms and far from f32's smallest normal number. A momentum in f32 is off by at most
    3 * 2^-24 of that sum per step, over no more than 1 / (1 - beta2) steps: 2e-5 in every case; a clip coefficient by
    2e-6."""
    assert not (case.groups and case.max_norm), "the norm below knows no frozen group"
    beta1, beta2 = SIGN_BETAS[case.rule](case.options)
    exp_avg, size = np.zeros(N), np.zeros(N)
    for step in range(case.steps):
        grad = grads[step % len(grads)].astype(np.float64) / (case.grad_scale or 1.0)
        if not np.isfinite(grad).all():
            continue
        if case.max_norm is not None:
            grad = grad * min(1.0, case.max_norm / (math.sqrt((grad * grad).sum()) + 1e-6))
        c = np.abs(beta1 * exp_avg + (1 - beta1) * grad)
        terms = beta1 * size + (1 - beta1) * np.abs(grad)
        clear = (c >= 1e-4 * terms) & (c > 64 * SMALLEST_NORMAL)
        if not (clear | (terms == 0.0)).all():
            return False
        exp_avg = beta2 * exp_avg + (1 - beta2) * grad
        size = beta2 * size + (1 - beta2) * np.abs(grad)
    return True


SGD, Adam, AdamW = torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW
WARMUP = {"warmup": 6, "total_steps": 34}  # the last six calls lie beyond the end: lr stays at min_lr


def groups(weight_decay):
    return [{"elements": 13}, {"elements": 6, "frozen": True}, {"elements": 7, "lr_scale": 0.1, "weight_decay": 0.0},
            {"elements": 11, "lr_scale": 2.0, "weight_decay": weight_decay}]


CASES = {
    "sgd": {
        "plain": Case(SGD, "mixed", {"lr": 1e-3}),
        "weight_decay": Case(SGD, "mixed", {"lr": 0.1, "weight_decay": 0.01}),
        "momentum": Case(SGD, "mixed", {"lr": 0.01, "momentum": 0.9}),
        "dampening": Case(SGD, "mixed", {"lr": 0.05, "momentum": 0.9, "dampening": 0.3}),
        "nesterov": Case(SGD, "mixed", {"lr": 0.01, "momentum": 0.95, "nesterov": True}),
        "maximize": Case(SGD, "mixed", {"lr": 0.01, "maximize": True}),
        "nesterov_weight_decay_maximize": Case(
            SGD, "mixed", {"lr": 0.02, "momentum": 0.8, "nesterov": True, "weight_decay": 0.1, "maximize": True}),
        "dampening_weight_decay_maximize": Case(
            SGD, "tame", {"lr": 0.1, "momentum": 0.7, "dampening": 0.999, "weight_decay": 5e-4, "maximize": True}),
        "clip": Case(SGD, "swinging", {"lr": 0.1, "momentum": 0.9}, max_norm=1.0),
        "clip_small": Case(SGD, "swinging", {"lr": 1e3}, max_norm=1e-6),  # the size of the 1e-6 in the coefficient
        "clip_huge": Case(SGD, "mixed", {"lr": 0.1}, max_norm=0.5),
        "clip_schedule": Case(SGD, "tame", {"momentum": 0.9, "nesterov": True, "weight_decay": 1e-4},
                              schedule=WARMUP | {"peak": 0.2, "min_lr": 0.01}, max_norm=2.0),
        "groups": Case(SGD, "tame", {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.02}, groups=groups(0.05)),
        "scale": Case(SGD, "scaled", {"lr": 0.05, "momentum": 0.9, "dampening": 0.5}, grad_scale=1024.0),
        "scale_clip": Case(SGD, "scaled", {"lr": 0.05, "momentum": 0.9, "dampening": 0.5},
                           grad_scale=1024.0, max_norm=1.0),
        "long": Case(SGD, "long", {"lr": 0.01, "momentum": 0.9, "weight_decay": 1e-3}, steps=LONG),
    },
    "adam": {
        "default": Case(Adam, "mixed", {"lr": 1e-3}),
        # Not "mixed": where gradients vanish at p = 0, L2 decay is divided by eps, and p grows a hundredfold per step
        # from whatever rounding left there. That is the algorithm's, and nothing to hold an implementation to.
        "weight_decay": Case(Adam, "tame", {"lr": 2e-3, "weight_decay": 0.02}),
        "betas_eps": Case(Adam, "mixed", {"lr": 0.02, "betas": (0.7, 0.95), "eps": 1e-4}),
        "no_momentum": Case(Adam, "mixed", {"lr": 5e-3, "betas": (0.0, 0.99)}),
        "amsgrad": Case(Adam, "mixed", {"lr": 0.01, "betas": (0.9, 0.9), "amsgrad": True}),
        "maximize": Case(Adam, "mixed", {"lr": 0.01, "maximize": True}),
        "amsgrad_weight_decay_maximize": Case(
            Adam, "tame", {"lr": 3e-3, "betas": (0.8, 0.98), "weight_decay": 0.02, "amsgrad": True, "maximize": True}),
        "clip_schedule": Case(Adam, "swinging", {"weight_decay": 1e-3},
                              schedule=WARMUP | {"peak": 0.01, "min_lr": 1e-3}, max_norm=1.0),
        "groups": Case(Adam, "tame", {"lr": 3e-3, "weight_decay": 0.01}, groups=groups(0.03)),
        "scale_clip": Case(Adam, "scaled", {"lr": 0.02, "amsgrad": True}, grad_scale=1024.0, max_norm=0.5),
    },
    "adamw": {
        "default": Case(AdamW, "mixed", {"lr": 1e-3, "weight_decay": 1e-2}),
        "betas_eps_weight_decay": Case(
            AdamW, "mixed", {"lr": 0.02, "betas": (0.95, 0.98), "eps": 1e-6, "weight_decay": 0.1}),
        "slow_betas": Case(AdamW, "mixed", {"lr": 3e-3, "betas": (0.999, 0.9999), "eps": 1e-10, "weight_decay": 0.0}),
        "amsgrad": Case(AdamW, "mixed", {"lr": 0.01, "betas": (0.9, 0.9), "weight_decay": 0.05, "amsgrad": True}),
        "maximize": Case(AdamW, "mixed", {"lr": 0.01, "weight_decay": 0.2, "maximize": True}),
        "clip": Case(AdamW, "swinging", {"lr": 0.01, "weight_decay": 0.01}, max_norm=1.0),
        "clip_huge": Case(AdamW, "mixed", {"lr": 0.01, "weight_decay": 0.01}, max_norm=2.0),
        "clip_schedule": Case(AdamW, "tame", {"betas": (0.9, 0.95), "weight_decay": 0.1},
                              schedule=WARMUP | {"peak": 0.05, "min_lr": 0.0}, max_norm=1.0),
        "groups": Case(AdamW, "tame", {"lr": 0.01, "weight_decay": 0.1}, groups=groups(0.5), max_norm=1.0),
        "scale": Case(AdamW, "scaled_mixed", {"lr": 0.01, "weight_decay": 0.1}, grad_scale=1024.0),
        "scale_clip_schedule": Case(AdamW, "scaled", {"weight_decay": 0.1}, grad_scale=1024.0, max_norm=1.0,
                                    schedule=WARMUP | {"peak": 0.02, "min_lr": 1e-3}),
        "long": Case(AdamW, "long", {"weight_decay": 0.1}, steps=LONG, max_norm=1.0,
                     schedule={"peak": 1e-2, "warmup": 100, "total_steps": LONG, "min_lr": 1e-4}),
    },
    "lion": {
        "default": Case(Lion, "mixed", {"lr": 1e-4}),
        "weight_decay": Case(Lion, "mixed", {"lr": 0.01, "weight_decay": 0.5}),
        "betas": Case(Lion, "mixed", {"lr": 3e-3, "betas": (0.95, 0.999), "weight_decay": 0.1}),
        "maximize": Case(Lion, "mixed", {"lr": 0.01, "weight_decay": 0.2}, maximize_by_negation=True),
        "clip": Case(Lion, "swinging", {"lr": 0.01, "weight_decay": 0.1}, max_norm=1.0),
        "clip_schedule": Case(Lion, "tame", {"weight_decay": 0.1},
                              schedule=WARMUP | {"peak": 0.02, "min_lr": 1e-3}, max_norm=1.0),
        "groups": Case(Lion, "tame", {"lr": 0.01, "weight_decay": 0.1}, groups=groups(1.0)),
        "scale": Case(Lion, "scaled", {"lr": 0.01, "weight_decay": 0.1}, grad_scale=1024.0),
        "long": Case(Lion, "long", {"lr": 1e-3, "weight_decay": 0.1}, steps=LONG),
    },
}
CASES |= cases_adagrad.cases(Case, groups, WARMUP, LONG)
CASES |= cases_adaptive.cases(Case, groups, WARMUP, LONG)
CASES |= cases_conventions.cases(Case, groups, WARMUP, LONG)
MADE_BY = ("torch", "lion-pytorch", "numpy")


PACKAGES = {}  # of a rule, beside those of all
for more in (cases_adafactor, cases_nadam, cases_sophia, cases_schedule_free, cases_tensor_norms, cases_prodigy):
    cases_of_more = more.cases(Case, groups, WARMUP, LONG)
    CASES |= cases_of_more
    PACKAGES |= dict.fromkeys(cases_of_more, more.PACKAGES)

# Gradients stored as bfloat16: rules without sums, with sums over tensors, and with factors of the variance.
BF16 = {
    "adamw": ("default", "clip", "groups", "scale"),
    "lamb": ("groups", "clip_schedule"),
    "adafactor": ("matrix", "scale"),
}
for rule, names in BF16.items():
    chosen = {name: replace(CASES[rule][name], data=f"bf16_{CASES[rule][name].data}") for name in names}
    CASES[f"{rule}_bf16"] = chosen
    PACKAGES[f"{rule}_bf16"] = PACKAGES.get(rule, ())


def clear_data_set(name, cases):
    """The first draw with which no case of the set asks a rule for the sign of a rounding error."""
    users = [case for case in cases.values() if case.data == name]
    for attempt in range(10_000):
        param0, grads = data_set(name, users[0].rule, attempt)
        if all(signs_are_clear(case, param0, grads) for case in users):
            return param0, grads
    raise AssertionError(f"no draw of {name!r} keeps the signs clear")


def main():
    """Writes the files of the rules named on the command line, or all."""
    folder = Path(__file__).parent
    # NAdam keeps its product of momenta in the default type, whatever that of the parameters.
    torch.set_default_dtype(torch.float64)
    for rule in sys.argv[1:] or CASES:
        cases = CASES[rule]
        of_all = (*MADE_BY, *PACKAGES.get(rule, ()))
        makers = dict.fromkeys(name for case in cases.values() for name in getattr(case.rule, "made_by", of_all))
        sources = {name: version(name) for name in makers}
        tensors, described = {}, {}
        for name in sorted({case.data for case in cases.values()}):
            tensors[f"data/{name}/param0"], tensors[f"data/{name}/grads"] = clear_data_set(name, cases)
            updates = max(len(case.hessian_steps or []) for case in cases.values() if case.data == name)
            if updates:
                # Estimates look like gradients: those of another draw.
                hessian = data_set(name.removeprefix("scaled_"), next(iter(cases.values())).rule, attempt=1)[1]
                tensors[f"data/{name}/hessian"] = hessian[:updates].copy()
        for name, case in cases.items():
            param0, grads = (tensors[f"data/{case.data}/{kind}"] for kind in ("param0", "grads"))
            assert signs_are_clear(case, param0, grads)
            results, applied = run(case, param0, grads, tensors.get(f"data/{case.data}/hessian", []))
            may_be_nan = {"grad_norm", "clip_coef"}
            assert all(np.isfinite(values).all() for key, values in results.items() if key not in may_be_nan)
            tensors |= {f"{name}/{key}": values for key, values in results.items()}
            case_description = {
                "data": case.data, "steps": case.steps, "applied": applied, "checkpoints": checkpoints(case),
                "options": case.options | ({"maximize": True} if case.maximize_by_negation else {})
                | getattr(case.rule, "described", {}),
                "schedule": case.schedule, "max_norm": case.max_norm, "grad_scale": case.grad_scale,
                "groups": case.groups, "hessian_steps": case.hessian_steps,
            }
            described[name] = {key: value for key, value in case_description.items() if value is not None}
        path = folder / f"{rule}.safetensors"
        path.write_bytes(save(tensors, {"cases": json.dumps({"made_by": sources, "cases": described})}))
        print(f"{path.name}: {len(cases)} cases, {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
