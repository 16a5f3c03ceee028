"""gsplat's strategies (gsplat/strategy/ops.py) on parameters and moments of Adam in float64, into splats.json.

Every operation is followed by two steps. It changes the live rows of all tensors: `duplicate` and `split` append rows without
moments, `remove` selects rows, `relocate` overwrites dead rows and clears the moments of the rows that they now equal.
"""

import json
import pathlib

import numpy as np

COLUMNS = {"means": 3, "opacities": 1}
LR, BETAS, EPS = 0.01, (0.9, 0.999), 1e-15
rng = np.random.default_rng(7)


def numbers(*shape):
    return rng.standard_normal(shape).astype(np.float32).astype(np.float64)


class Splats:
    def __init__(self, rows):
        self.params = {name: numbers(rows, columns) for name, columns in COLUMNS.items()}
        self.moments = {name: [np.zeros_like(p), np.zeros_like(p)] for name, p in self.params.items()}
        self.t = 0

    def step(self):
        self.t += 1
        grads = {name: numbers(*p.shape) for name, p in self.params.items()}
        for name, grad in grads.items():
            m, v = self.moments[name]
            m[:] = BETAS[0] * m + (1 - BETAS[0]) * grad
            v[:] = BETAS[1] * v + (1 - BETAS[1]) * grad**2
            corrected = np.sqrt(v / (1 - BETAS[1] ** self.t)) + EPS
            self.params[name] -= LR * m / (1 - BETAS[0] ** self.t) / corrected
        return grads

    def change(self, of_param, of_moment):
        for name in COLUMNS:
            self.params[name] = of_param(name, self.params[name])
            self.moments[name] = [of_moment(v) for v in self.moments[name]]


def duplicate(splats, rows):
    append = lambda v, n: np.concatenate([v, np.zeros((n, v.shape[1]))])
    splats.change(lambda _, p: np.concatenate([p, p[rows]]), lambda v: append(v, len(rows)))
    return {}


def split(splats, rows):
    rest = [row for row in range(len(splats.params["means"])) if row not in rows]
    new = {name: numbers(2 * len(rows), columns) for name, columns in COLUMNS.items()}
    zeros = lambda v: np.zeros((2 * len(rows), v.shape[1]))
    splats.change(lambda name, p: np.concatenate([p[rest], new[name]]), lambda v: np.concatenate([v[rest], zeros(v)]))
    return new


def remove(splats, rows):
    splats.change(lambda _, p: np.delete(p, rows, axis=0), lambda v: np.delete(v, rows, axis=0))
    return {}


def relocate(splats, rows):
    dead, sampled = rows[: len(rows) // 2], rows[len(rows) // 2 :]

    def of_param(_, p):
        p[dead] = p[sampled]
        return p

    def of_moment(v):
        v[sampled] = 0
        return v

    splats.change(of_param, of_moment)
    return {}


def flat(tensors):
    return {name: values.ravel().tolist() for name, values in tensors.items()}


splats = Splats(6)
start = flat(splats.params)
cases = []
for operation, rows in [
    (remove, []),
    (duplicate, [4, 1]),
    (split, [2, 7]),
    (remove, [0, 3, 8]),
    (relocate, [1, 5, 2, 6]),
    (duplicate, [0, 6]),
]:
    new = operation(splats, rows)
    grads = [flat(splats.step()) for _ in range(2)]
    case = {"operation": operation.__name__, "rows": rows, "new": flat(new), "grads": grads}
    case["params"] = flat(splats.params)
    case["exp_avg"] = flat({name: m for name, (m, _) in splats.moments.items()})
    cases.append(case)

out = pathlib.Path(__file__).with_name("splats.json")
lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
out.write_text(f'{{"start":{json.dumps(start, separators=(",", ":"))},"cases":[\n{lines}\n]}}\n')
