"""Makes bitsandbytes_8bit{,_runs,_drift}.safetensors with bitsandbytes on the CPU: maps, codes of
blocks of 256 numbers, and steps of its 8-bit optimizers. Its "default" kernels (of no particular device) choose the
nearest code; the CPU's own ones look the code up by 16 bits of the quotient.

bitsandbytes_8bit:
    map/<signed|unsigned>             f32 [256]
    blocks/values                     f32 [blocks, 256]          the unsigned map quantizes their absolute values
    blocks/absmax                     f32 [blocks]
    blocks/<map>/<nearest|cpu>        u8  [blocks, 256]          of the "default" kernel and of the CPU's
    blocks/dequantized                f32 [blocks, 256]          of signed/nearest
    drift/{curvature,target,start}    f32 [256]                  grad = curvature·(param - target) + noise[step % 8]
    drift/noise                       f32 [8, 256]
    drift/<float32|nearest|cpu>       f32 [checkpoints, 256]     parameters after the steps in the metadata

bitsandbytes_8bit_runs: 20 steps of each rule, by the CPU's kernels. Step s uses row s % 5 of the gradients.
    start                             f32 [300]
    grads                             f32 [5, 300]
    <rule>/params                     f32 [300]                  after the last step
    <rule>/state<k>                   u8  [20, 300]              after each step; AdEMAMix's state1 is two, 1 and 3
    <rule>/absmax<k>                  f32 [20, 2]

bitsandbytes_8bit_drift: the problem of drift/ with each rule, by the CPU's kernels.
    <rule>                            f32 [256]                  parameters after the steps in the metadata
"""

import json
from importlib.metadata import version
from pathlib import Path

import bitsandbytes.backends.cpu.ops as cpu
import bitsandbytes.functional as functional
import numpy as np
import torch
from bitsandbytes.optim import AdamW, AdEMAMix, Lion
from safetensors.numpy import save
from torch._C import DispatchKey, DispatchKeySet

DRIFT = {"lr": 1e-2, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 1e-2, "checkpoints": [20, 200, 1000]}
RUNS = {
    "adamw": {"lr": 1e-3, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 1e-2},
    "lion": {"lr": 1e-4, "betas": [0.9, 0.99], "weight_decay": 1e-2},
    "ademamix": {"lr": 1e-3, "betas": [0.9, 0.999, 0.9999], "alpha": 5.0, "eps": 1e-8, "weight_decay": 1e-2},
}
RULES = {"adamw": AdamW, "lion": Lion, "ademamix": AdEMAMix}
MAPS = {name: functional.create_dynamic_map(signed=name == "signed") for name in ("signed", "unsigned")}


def nearest(values, code):
    """Codes and absolute maxima by the "default" kernel, which the CPU's own one hides."""
    keys = DispatchKeySet(DispatchKey.CompositeExplicitAutograd)
    return torch.ops.bitsandbytes.quantize_blockwise.default.redispatch(keys, values, code, 256)


def blocks(random):
    normal = random.standard_normal(256)
    sizes = 10.0 ** random.uniform(-8, 0, 256) * random.choice([-1.0, 1.0], 256)
    outlier = np.where(np.arange(256) == 100, 1e6, normal)
    levels = np.tile(MAPS["signed"].numpy()[1::2], 2)
    middles = (MAPS["signed"].numpy()[:-1] + MAPS["signed"].numpy()[1:]) / 2
    kinds = {
        "normal": normal * 0.01,
        "of all sizes": sizes,
        "of all sizes, around 1e-30": sizes * 1e-30,
        "subnormal": normal * 1e-39,
        "zero": np.zeros(256),
        "with an outlier": outlier,
        "equal": np.full(256, 0.3),
        "of alternating sign": np.resize([0.7, -0.7], 256),
        "levels": levels * 3.0,
        "middles": np.append(middles, 1.0),
        "largest one negative": np.append(normal[:255] * 0.1, -5.0),
    }
    return list(kinds), torch.tensor(np.array(list(kinds.values())), dtype=torch.float32)


def run(rule, options, start, grads, steps=20):
    param = torch.nn.Parameter(start.clone())
    optimizer = RULES[rule]([param], optim_bits=8, min_8bit_size=1, **options)
    out = {}
    for step in range(steps):
        param.grad = grads[step % len(grads)].clone()
        optimizer.step()
        state = optimizer.state[param]
        ones = [(1, 0), (3, 1)] if rule == "ademamix" else [(1, ...)]
        states = [(f"{k}", state["state1"][at], state["absmax1"][at]) for k, at in ones]
        if "state2" in state:
            states.append(("2", state["state2"], state["absmax2"]))
        for k, codes, absmax in states:
            out.setdefault(f"{rule}/state{k}", []).append(codes.numpy().copy())
            out.setdefault(f"{rule}/absmax{k}", []).append(absmax.numpy().copy())
    out = {name: np.stack(rows) for name, rows in out.items()}
    return out | {f"{rule}/params": param.detach().numpy()}


def drift(optimizer, param, curvature, target, noise):
    rows = []
    for step in range(DRIFT["checkpoints"][-1]):
        param.grad = curvature * (param.detach() - target) + noise[step % len(noise)]
        optimizer.step()
        if step + 1 in DRIFT["checkpoints"]:
            rows.append(param.detach().numpy().copy())
    return np.stack(rows)


def drifts(curvature, target, start, noise):
    options = {name: value for name, value in DRIFT.items() if name != "checkpoints"}
    fresh = lambda: torch.nn.Parameter(start.clone())
    param = fresh()
    out = {"float32": drift(torch.optim.AdamW([param], **options), param, curvature, target, noise)}
    param = fresh()
    out["cpu"] = drift(AdamW([param], optim_bits=8, min_8bit_size=1, **options), param, curvature, target, noise)

    def by_nearest(values, code, absmax_out, codes_out, _):
        codes, absmax = nearest(values, code)
        codes_out.copy_(codes)
        absmax_out.copy_(absmax)

    own = cpu._quant_blockwise_fp32_direct
    cpu._quant_blockwise_fp32_direct = by_nearest
    param = fresh()
    out["nearest"] = drift(AdamW([param], optim_bits=8, min_8bit_size=1, **options), param, curvature, target, noise)
    cpu._quant_blockwise_fp32_direct = own
    return {f"drift/{name}": rows for name, rows in out.items()}


def write(name, tensors, metadata):
    text = json.dumps({"versions": {name: version(name) for name in ("bitsandbytes", "torch")}} | metadata)
    tensors = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    (Path(__file__).parent / name).write_bytes(save(tensors, metadata={"cases": text}))


def main():
    random = np.random.default_rng(8)
    kinds, values = blocks(random)
    tensors = {f"map/{name}": code.numpy() for name, code in MAPS.items()}
    tensors["blocks/values"] = values.numpy()
    for name, code in MAPS.items():
        quantized = values if name == "signed" else values.abs()
        codes, absmax = nearest(quantized, code)
        tensors[f"blocks/{name}/nearest"] = codes.numpy()
        tensors["blocks/absmax"] = absmax.numpy()
        tensors[f"blocks/{name}/cpu"] = functional.quantize_blockwise(quantized, code, blocksize=256)[0].numpy()
        if name == "signed":
            out = functional.dequantize_blockwise(codes, absmax=absmax, code=code, blocksize=256)
            tensors["blocks/dequantized"] = out.numpy()
    f32 = lambda array: torch.tensor(array, dtype=torch.float32)
    curvature, target, start = f32(10 ** random.uniform(-4, 0, 256)), f32(random.normal(size=256)), torch.zeros(256)
    noise = f32(random.normal(size=(8, 256))) * curvature * 0.3
    tensors |= drifts(curvature, target, start, noise)
    inputs = {"curvature": curvature, "target": target, "start": start, "noise": noise}
    tensors |= {f"drift/{name}": tensor.numpy() for name, tensor in inputs.items()}
    write("bitsandbytes_8bit.safetensors", tensors, {"blocks": kinds, "drift": DRIFT})

    rows = {}
    for rule, options in RUNS.items():
        param = torch.nn.Parameter(start.clone())
        optimizer = RULES[rule]([param], optim_bits=8, min_8bit_size=1, **options)
        rows[rule] = drift(optimizer, param, curvature, target, noise)[-1]
    write("bitsandbytes_8bit_drift.safetensors", rows, {"steps": DRIFT["checkpoints"][-1], "runs": RUNS})

    start = f32(random.normal(size=300))
    grads = f32(random.normal(size=(5, 300)) * 10 ** random.uniform(-3, 0, 300))
    tensors = {"start": start.numpy(), "grads": grads.numpy()}
    for rule, options in RUNS.items():
        tensors |= run(rule, options, start, grads)
    write("bitsandbytes_8bit_runs.safetensors", tensors, {"runs": RUNS})


main()
