"""Clipped gradients, in float64, made by torch (`clip_grad_norm_`, `clip_grad_value_`), optax (`clip_by_global_norm`,
`clip`), timm (`adaptive_clip_grad`) and, for percentiles of earlier norms, numpy with torch: `clip.safetensors`.

Metadata entry "cases": per case its "clip" as the crate's configuration has it. Tensors:

    grads              f32 [rows, n]   the gradients of successive steps, shared by all cases: of a matrix of 5 rows and 12
                                       columns, then of a vector of 7 elements, each in a group of its own
    params             f32 [n]         where the parameters' norms count; they are 0 elsewhere
    <case>/clipped     f64 [rows, n]   what is left of them
    <case>/grad_norm   f64 [rows]      where the case takes norms
"""

import json
from pathlib import Path

import jax
import numpy as np
import optax
import torch
from safetensors.numpy import save_file
from timm.utils.agc import adaptive_clip_grad

jax.config.update("jax_enable_x64", True)

ROWS, LEN = 8, 67


def gradients():
    """Ordinary ones, and rows of very large, very small, equal and mostly absent ones."""
    random = np.random.default_rng(0)
    rows = random.standard_normal((ROWS, LEN))
    rows[1] *= 1e-6
    rows[2] *= 1e6
    rows[3] = 0.25
    rows[4] *= random.random(LEN) < 0.1
    rows[5] *= 10.0 ** random.uniform(-6, 6, LEN)
    return rows.astype(np.float32)


def parameter(grad):
    made = torch.nn.Parameter(torch.zeros(grad.shape, dtype=torch.float64))
    made.grad = torch.tensor(grad, dtype=torch.float64)
    return made


def by_norm(max_norm, norm_type):
    def clip(grad):
        made = parameter(grad)
        norm = torch.nn.utils.clip_grad_norm_([made], max_norm, norm_type=norm_type)
        return made.grad.numpy(), norm.item()

    return clip


def by_value(clip_value):
    def clip(grad):
        made = parameter(grad)
        torch.nn.utils.clip_grad_value_([made], clip_value)
        return made.grad.numpy(), None

    return clip


def optax_by_norm(max_norm):
    def clip(grad):
        transform = optax.clip_by_global_norm(max_norm)
        grad = jax.numpy.asarray(grad, dtype=jax.numpy.float64)
        clipped, _ = transform.update(grad, transform.init(grad))
        return np.asarray(clipped), float(optax.global_norm(grad))

    return clip


def by_percentile(percentile, window, norm_type):
    """AutoClip as its authors write it, with the norms of the last `window` steps."""
    history = []

    def clip(grad):
        history.append(torch.linalg.vector_norm(torch.tensor(grad, dtype=torch.float64), norm_type).item())
        return by_norm(float(np.percentile(history[-window:], percentile)), norm_type)(grad)

    return clip


def tensors_of(values):
    return [values[:60].reshape(5, 12), values[60:]]


def by_group(max_norm):
    def clip(grad):
        tensors = [parameter(part) for part in tensors_of(grad)]
        for tensor in tensors:
            torch.nn.utils.clip_grad_norm_([tensor], max_norm)
        return np.concatenate([tensor.grad.numpy().ravel() for tensor in tensors]), np.linalg.norm(grad.astype(np.float64))

    return clip


def adaptive(clip_factor, eps, params, per_tensor):
    """timm's units of a vector are all of it, so that tensors as vectors are clipped as a whole."""

    def clip(grad):
        tensors = []
        for value, part in zip(tensors_of(params), tensors_of(grad)):
            shape = (-1,) if per_tensor else value.shape
            made = torch.nn.Parameter(torch.tensor(value, dtype=torch.float64).reshape(shape))
            made.grad = torch.tensor(part, dtype=torch.float64).reshape(shape)
            tensors.append(made)
        adaptive_clip_grad(tensors, clip_factor=clip_factor, eps=eps)
        return np.concatenate([tensor.grad.numpy().ravel() for tensor in tensors]), np.linalg.norm(grad.astype(np.float64))

    return clip


def main():
    infinity = float("inf")
    cases = []
    for norm_type in [1.0, 2.0, 2.5, 3.0, 32.0, infinity]:
        for max_norm in [0.5, 1e6]:
            config = {"name": "global_norm", "max_norm": max_norm, "norm_type": norm_type}
            cases.append((config, by_norm(max_norm, norm_type)))
    for max_norm in [0.5, 1e6]:
        cases.append(({"name": "global_norm", "max_norm": max_norm, "exact": True}, optax_by_norm(max_norm)))
    for clip_value in [0.5, 1e-6]:
        cases.append(({"name": "value", "clip_value": clip_value}, by_value(clip_value)))
    for percentile, window, norm_type in [(10.0, 100, 2.0), (50.0, 3, 2.0), (75.0, 4, 1.0), (100.0, 2, infinity), (0.0, 5, 2.0)]:
        config = {"name": "percentile", "percentile": percentile, "window": window, "norm_type": norm_type}
        cases.append((config, by_percentile(percentile, window, norm_type)))
    grads, params = gradients(), np.random.default_rng(1).standard_normal(LEN).astype(np.float32)
    # One unit whose parameters are 0.
    params[12:24] = 0.0
    for max_norm in [0.5, 1e6]:
        cases.append(({"name": "group_norm", "max_norm": max_norm}, by_group(max_norm)))
    for clip_factor, eps, per_tensor in [(0.01, 1e-3, False), (0.1, 0.5, False), (0.02, 1e-3, True)]:
        config = {"name": "adaptive", "clip_factor": clip_factor, "eps": eps, "per_tensor": per_tensor}
        cases.append((config, adaptive(clip_factor, eps, params, per_tensor)))
    tensors = {"grads": grads, "params": params}
    configs = []
    for number, (config, clip) in enumerate(cases):
        clipped, norms = zip(*map(clip, grads))
        tensors[f"{number}/clipped"] = np.stack(clipped)
        if norms[0] is not None:
            tensors[f"{number}/grad_norm"] = np.array(norms)
        # JSON has no infinity, the crate reads its name.
        if config.get("norm_type") == infinity:
            config = config | {"norm_type": "inf"}
        configs.append(config)
    path = Path(__file__).parent / "clip.safetensors"
    save_file(tensors, path, {"cases": json.dumps(configs)})
    print(f"{path.name}: {len(cases)} cases, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
