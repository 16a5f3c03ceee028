"""PyTorch's optimizers to checkpoints of wgpu-optim, and back.

In Python, with a live optimizer and `dict(model.named_parameters())`:

    save("run.safetensors", optimizer, parameters)        # torch -> wgpu-optim
    load("run.safetensors", optimizer, parameters)        # wgpu-optim -> torch

On files written by `torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, FILE)`:

    python torch_checkpoint.py to-wgpu FILE.pt OUT.safetensors --rule adamw
    python torch_checkpoint.py from-wgpu IN.safetensors TEMPLATE.pt OUT.pt

`TEMPLATE.pt` is such a file of a model and an optimizer of the same options; its values are replaced.
Needs torch and numpy.

Rules: adadelta, adafactor, adagrad, adam, adamax, adamw, nadam, radam, rmsprop, rprop, sgd. Of several parameter groups,
the first gives the rule's options, and the others become groups with a scale of the learning rate and a weight decay.
Tensors are f32; all parameters have done the same number of steps.

Also AdamW8bit, Lion8bit and AdEMAMix8bit of bitsandbytes: rules adamw-8bit, lion-8bit and ademamix-8bit. Their codes and
scales are those of `Precision::with_moments(Dtype::Dynamic8)`. The layout's tensors begin at multiples of 256 elements.
"""

import argparse
import json
import math
import os
import zlib

import numpy
import torch

FORMAT = 1
KEY = "wgpu-optim"
CLASSES = {"adadelta": "Adadelta", "adafactor": "Adafactor", "adagrad": "Adagrad", "adam": "Adam", "adamax": "Adamax",
           "adamw": "AdamW", "nadam": "NAdam", "radam": "RAdam", "rmsprop": "RMSprop", "rprop": "Rprop", "sgd": "SGD"}
# Classes of bitsandbytes: the rule, its options, and the place of each moment: number, and row where one tensor holds two.
EIGHT_BIT = {
    "AdamW8bit": ("adamw", ["lr", "betas", "eps", "weight_decay"], {"exp_avg": (1, None), "exp_avg_sq": (2, None)}),
    "Lion8bit": ("lion", ["lr", "betas", "weight_decay"], {"exp_avg": (1, None)}),
    "AdEMAMix8bit": ("ademamix", ["lr", "betas", "alpha", "t_alpha", "t_beta3", "eps", "weight_decay"],
                     {"exp_avg": (1, 0), "exp_avg_slow": (1, 1), "exp_avg_sq": (2, None)}),
}
OF_RULE = {f"{rule}-8bit": (rule, options, moments) for rule, options, moments in EIGHT_BIT.values()}
QUANTIZED = "__bnb_optimizer_quant_state__"
# States of torch that hold one number per parameter tensor.
SCALARS = {"step", "mu_product"}


def save(path, optimizer, parameters, steps=None):
    """Writes a live optimizer and its parameters, by name. SGD counts no steps: give them."""
    name = type(optimizer).__name__
    rule = f"{EIGHT_BIT[name][0]}-8bit" if name in EIGHT_BIT else next(rule for rule, of in CLASSES.items() if of == name)
    by_identity = {id(parameter): name for name, parameter in parameters.items()}
    names = [by_identity[id(parameter)] for group in optimizer.param_groups for parameter in group["params"]]
    write(path, rule, optimizer.state_dict(), dict(parameters), names, steps)


def load(path, optimizer, parameters):
    """Sets a live optimizer and its parameters, by name, from a checkpoint."""
    by_identity = {id(parameter): name for name, parameter in parameters.items()}
    names = [by_identity[id(parameter)] for group in optimizer.param_groups for parameter in group["params"]]
    tensors, state = read(path, optimizer.state_dict(), {name: parameters[name] for name in names}, names)
    optimizer.load_state_dict(state)
    with torch.no_grad():
        for name, values in tensors.items():
            parameters[name].copy_(values)


def write(path, rule, state_dict, parameters, names, steps=None):
    """Writes a `state_dict` whose parameter number i is `parameters[names[i]]`."""
    if rule not in [*CLASSES, *OF_RULE]:
        raise ValueError(f"the rule is {rule!r}; allowed: {', '.join([*CLASSES, *OF_RULE])}")
    states, groups, precision = state_dict["state"], state_dict["param_groups"], None
    kept = rule
    if rule in OF_RULE:
        rule, options, moments = OF_RULE[rule]
        states = {i: unpacked(state, moments) for i, state in states.items()}
        groups = [{key: group[key] for key in ["params", *options]} for group in groups]
        precision = {"grads": "f32", "params": "f32", "moments": "dynamic8", "states": [], "rounding": "nearest",
                     "min_8bit_len": 4096}
    counts = {float(states[i]["step"]) for i in states if "step" in states[i]}
    if len(counts) > 1:
        raise ValueError(f"parameters have done different numbers of steps: {sorted(counts)}")
    step = int(counts.pop()) if counts else (steps or 0)
    if rule != "sgd" and 0 < len(states) < len(names):
        raise ValueError(f"{len(names) - len(states)} parameters have not done a step yet: step all of them first")
    tensors = {f"params/{name}": floats(parameters[name]) for name in names}
    defaults = {"momentum_buffer": 0.0, "sum": groups[0].get("initial_accumulator_value", 0.0)}
    for state in state_names(kept, groups[0], states):
        for i, name in enumerate(names):
            value = states.get(i, {}).get(state)
            if rule == "adafactor":
                if value is not None:
                    tensors[f"states/{state}/{name}"] = floats(value).reshape(factor_shape(state, parameters[name].shape))
            elif value is None:
                tensors[f"states/{state}/{name}"] = numpy.full(parameters[name].shape, defaults.get(state, 0.0), "f4")
            else:
                tensors[f"states/{state}/{name}"] = numbers(value)
                scales = states[i].get(f"{state}_scale")
                if scales is not None:
                    tensors[f"states/{state}_scale/{name}"] = numbers(scales)
    products = {float(states[i]["mu_product"]) for i in states if "mu_product" in states[i]}
    if rule == "nadam":
        product = products.pop() if products else 1.0
        tensors["scalar_states"] = numpy.array([product, 1 - product, 0, 0], "f4")
    if rule == "adafactor" and step == 0:
        raise ValueError("an optimizer without a step has no factors yet: take one step first")

    options, members, first = {}, {}, 0
    for number, group in enumerate(groups):
        own = names[first:first + len(group["params"])]
        first += len(own)
        if number == 0:
            continue
        scale = float(group["lr"]) / float(groups[0]["lr"]) if float(groups[0]["lr"]) else 1.0
        options[f"group{number}"] = {"lr_scale": scale, "weight_decay": group.get("weight_decay"), "frozen": False,
                                     "schedule": None}
        members.update({name: [[parameters[name].numel(), f"group{number}"]] for name in own})
    lr = float(groups[0]["lr"])
    header = {
        "format": FORMAT,
        "settings": {
            "rule": {"name": rule, **{key: plain(value) for key, value in groups[0].items() if key != "params"}},
            "clip": None, "on_nonfinite": None, "max_consecutive_skips": 2**32 - 1, "history": None,
            "grad_dtype": "f32", "groups": options, "members": members,
            **({"precision": precision} if precision else {}),
        },
        "state": {"schedule": {"name": "constant", "lr": lr}, "momentum": None, "grad_scale": None, "recorded": step,
                  "has_given_states": bool(states), "mode": "training"},
        "stats": {"step": step, "skipped": 0, "consecutive_skipped": 0, "too_many_skips": False, "lr": lr,
                  "grad_norm": None, "clip_coef": 1.0, "invalid_grad_scale": False, "first_nonfinite": None,
                  "stopped": False, "param_norm": None, "update_norm": None, "update_ratio": None,
                  "clipped_fraction": None, "rule_metric": None},
    }
    write_file(path, header, tensors)


def read(path, template, parameters, names):
    """The parameters by name, and the `state_dict`, of a checkpoint. `template` is a `state_dict` of the same options."""
    header, tensors = read_file(path)
    rule, step = header["settings"]["rule"]["name"], header["stats"]["step"]
    is_8bit = any(name.split("/")[1].endswith("_scale") for name in tensors if name.startswith("states/"))
    if is_8bit:
        rule = f"{rule}-8bit"
    if rule not in [*CLASSES, *OF_RULE]:
        raise ValueError(f"torch has no rule {rule!r}")
    missing = [name for name in names if f"params/{name}" not in tensors]
    if missing:
        raise ValueError(f"the checkpoint has no parameters named {missing}")
    of_file = {name.removeprefix("params/") for name in tensors if name.startswith("params/")}
    if of_file - set(names):
        raise ValueError(f"the checkpoint has other parameters too: {sorted(of_file - set(names))}")
    groups, states = [dict(group) for group in template["param_groups"]], {}
    schedule = header["state"]["schedule"] or {}
    if schedule.get("name") == "constant":
        scale = schedule["lr"] / groups[0]["lr"] if groups[0]["lr"] else 1.0
        for group in groups:
            group["lr"] *= scale
    expected = {kind for kind in state_names(rule, groups[0], {}) if rule != "adafactor"}
    of_file = {name.split("/")[1] for name in tensors if name.startswith("states/")}
    if is_8bit:
        _, _, moments = OF_RULE[rule]
        maps = next((state[QUANTIZED] for state in template["state"].values() if "qmap1" in state[QUANTIZED]), None)
        if maps is None:
            raise ValueError("the template has no maps of codes: let its optimizer do a step first")
    if not expected <= of_file:
        raise ValueError(f"the template keeps states that the checkpoint lacks: {sorted(expected - of_file)}")
    for i, name in enumerate(names):
        shape, state = tuple(parameters[name].shape), {}
        for entry, values in tensors.items():
            prefix, _, rest = entry.partition("/")
            kind, _, tensor = rest.partition("/")
            if prefix == "states" and tensor == name:
                values = torch.from_numpy(values.copy())
                state[kind] = values if kind.endswith("_scale") else values.reshape(torch_shape(rule, kind, shape))
        if step > 0 or (rule == "sgd" and header["state"]["has_given_states"]):
            if rule != "sgd":
                state["step"] = torch.tensor(float(step))
            if rule == "nadam":
                state["mu_product"] = torch.tensor(float(tensors["scalar_states"][0]))
            if is_8bit:
                state = {"step": step, QUANTIZED: packed(state, moments, maps)}
            if state:
                states[i] = state
    values = {name: torch.from_numpy(tensors[f"params/{name}"].copy()).reshape(tuple(parameters[name].shape))
              for name in names}
    return values, {"state": states, "param_groups": groups}


def unpacked(state, moments):
    """The state of a parameter in bitsandbytes, by the names of moments."""
    of_file, own = state.get(QUANTIZED, state), {"step": state["step"]}
    for name, (number, row) in moments.items():
        for kind, suffix in (("state", ""), ("absmax", "_scale")):
            values = of_file.get(f"{kind}{number}")
            if values is not None:
                own[f"{name}{suffix}"] = values if row is None else values[row]
    return own


def packed(own, moments, maps):
    """The other way round."""
    state = {}
    for name, (number, row) in moments.items():
        for kind, suffix in (("state", ""), ("absmax", "_scale")):
            if f"{name}{suffix}" in own:
                state.setdefault(f"{kind}{number}", []).append(own[f"{name}{suffix}"])
    state = {kind: values[0] if len(values) == 1 else torch.stack(values) for kind, values in state.items()}
    return {**state, **{name: values for name, values in maps.items() if name.startswith("qmap") and "absmax1" in state}}


def state_names(rule, group, states):
    """The states that the rule keeps with these options."""
    if rule in OF_RULE:
        return list(OF_RULE[rule][2])
    always = {"adadelta": ["square_avg", "acc_delta"], "adafactor": ["row_var", "col_var", "variance"],
              "adagrad": ["sum"], "adam": ["exp_avg", "exp_avg_sq"], "adamw": ["exp_avg", "exp_avg_sq"],
              "adamax": ["exp_avg", "exp_inf"], "nadam": ["exp_avg", "exp_avg_sq"], "radam": ["exp_avg", "exp_avg_sq"],
              "rmsprop": ["square_avg"], "rprop": ["prev", "step_size"], "sgd": []}[rule]
    optional = {"amsgrad": "max_exp_avg_sq", "centered": "grad_avg", "momentum": "momentum_buffer"}
    names = always + [state for option, state in optional.items() if group.get(option)]
    unknown = {name for state in states.values() for name in state} - set(names) - SCALARS
    if unknown:
        raise ValueError(f"{rule}: unknown states {sorted(unknown)}")
    return names


def factor_shape(state, shape):
    """A factor's shape here; torch keeps a dimension of 1 in its place."""
    return {"row_var": tuple(shape[:-1]), "col_var": tuple(shape[:-2] + shape[-1:]), "variance": tuple(shape)}[state]


def torch_shape(rule, state, shape):
    if rule == "adafactor" and state == "row_var":
        return shape[:-1] + (1,)
    if rule == "adafactor" and state == "col_var":
        return shape[:-2] + (1,) + shape[-1:]
    return shape


def floats(tensor):
    return tensor.detach().to("cpu", torch.float32).contiguous().numpy()


def numbers(tensor):
    return tensor.detach().cpu().contiguous().numpy() if tensor.dtype == torch.uint8 else floats(tensor)


def plain(value):
    """As JSON, which has no infinity."""
    if isinstance(value, torch.Tensor):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else ("inf" if value > 0 else "-inf")
    return [plain(part) for part in value] if isinstance(value, (list, tuple)) else value


def write_file(path, header, tensors):
    """The safetensors format, with the checksums that wgpu-optim adds as the last tensor."""
    infos, start = {}, 0
    for name, values in tensors.items():
        dtype = "U8" if values.dtype == numpy.uint8 else "F32"
        infos[name] = {"dtype": dtype, "shape": list(values.shape), "data_offsets": [start, start + values.nbytes]}
        start += values.nbytes
    size = 4 * (len(tensors) + 1)
    infos["checksums"] = {"dtype": "U32", "shape": [len(tensors) + 1], "data_offsets": [start, start + size]}
    text = json.dumps({"__metadata__": {KEY: json.dumps(header)}, **infos}).encode()
    text += b" " * (-len(text) % 8)
    first = len(text).to_bytes(8, "little") + text
    checksums = [zlib.crc32(first)] + [zlib.crc32(values.tobytes()) for values in tensors.values()]
    # An interruption leaves an older file as it is.
    part = f"{path}.part"
    with open(part, "wb") as file:
        file.write(first)
        for values in tensors.values():
            file.write(values.tobytes())
        file.write(numpy.array(checksums, "<u4").tobytes())
    os.replace(part, path)


def read_file(path):
    """Header and tensors of a checkpoint, after a check of its checksums."""
    with open(path, "rb") as file:
        contents = file.read()
    length = 8 + int.from_bytes(contents[:8], "little")
    infos = json.loads(contents[8:length])
    header = json.loads(infos.pop("__metadata__")[KEY])
    if header["format"] > FORMAT:
        raise ValueError(f"the checkpoint has format {header['format']}; this script reads up to {FORMAT}")
    infos = dict(sorted(infos.items(), key=lambda info: info[1]["data_offsets"]))
    parts = {name: contents[length + info["data_offsets"][0]:length + info["data_offsets"][1]]
             for name, info in infos.items()}
    stored = numpy.frombuffer(parts.pop("checksums"), "<u4").tolist()
    if stored != [zlib.crc32(contents[:length])] + [zlib.crc32(part) for part in parts.values()]:
        raise ValueError("the checkpoint is damaged: a checksum differs")
    dtypes = {"F32": "<f4", "U8": "u1", "U32": "<u4"}
    tensors = {name: numpy.frombuffer(part, dtypes[infos[name]["dtype"]]).reshape(infos[name]["shape"])
               for name, part in parts.items()}
    return header, tensors


def names_of(file):
    """The parameters' names in the order of the optimizer's numbers."""
    named = [name for group in file["optimizer"]["param_groups"] for name in group.get("param_names", [])]
    numbers = [i for group in file["optimizer"]["param_groups"] for i in group["params"]]
    if named:
        return named
    # Buffers such as those of batch norm are no parameters; an optimizer made with `named_parameters` tells them apart.
    names = list(file["model"])
    if len(names) != len(numbers):
        raise ValueError(f"the model has {len(names)} tensors, the optimizer {len(numbers)}: make the optimizer with "
                         "`model.named_parameters()`, so that its `state_dict` holds the names")
    return [names[i] for i in numbers]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    to = commands.add_parser("to-wgpu")
    to.add_argument("input")
    to.add_argument("output")
    to.add_argument("--rule", required=True, choices=[*CLASSES, *OF_RULE])
    to.add_argument("--steps", type=int, help="steps so far, for sgd, whose state holds none")
    back = commands.add_parser("from-wgpu")
    back.add_argument("input")
    back.add_argument("template")
    back.add_argument("output")
    args = parser.parse_args()
    if args.command == "to-wgpu":
        file = torch.load(args.input, map_location="cpu")
        write(args.output, args.rule, file["optimizer"], file["model"], names_of(file), args.steps)
    else:
        file = torch.load(args.template, map_location="cpu")
        names = names_of(file)
        parameters, state = read(args.input, file["optimizer"], {name: file["model"][name] for name in names}, names)
        file["model"].update(parameters)
        torch.save({**file, "optimizer": state}, args.output)


if __name__ == "__main__":
    main()
