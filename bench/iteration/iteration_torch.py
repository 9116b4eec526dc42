#!/usr/bin/python3
"""ADMM for the objective of the constrained solver in PyTorch: dense products, torch.linalg.svd.

    iteration_torch.py FOLDER ROWS COLS GROUP_COLUMNS RANK PULL ITERATIONS CSV

Reads what `bench_iteration --write FOLDER` wrote. Per iteration, with M = W X + b, scaled dual U and rho = 1:

    Z = W X + b;   M = prox(Z + U);   U += Z - M                       forward, activation
    P = (T - mean T)(X - mean X)^T / N + delta W0,   T = M - U         gradient
    W = [Q_S, truncated svd of Q_R] L^-1,   Q = P L^-T                 svd, solve

L: Cholesky factor of the damped second moments, ordered [kept columns S, the rest R]. Single precision, one thread.
Writes `program,iteration,seconds,cpu_seconds,error`; prints the medians of the steps.
"""
import collections
import csv
import statistics
import sys
import time

import numpy as np
import torch

folder, csv_file = sys.argv[1], sys.argv[8]
n, k, group, rank, iterations = (int(sys.argv[i]) for i in (2, 3, 4, 5, 7))
pull = float(sys.argv[6])
torch.set_num_threads(1)
torch.set_grad_enabled(False)


def read(name, dtype=np.float32):
    return torch.from_numpy(np.fromfile(f"{folder}/{name}", dtype))


X = read("x.f32").view(-1, k)  # a row per sample: all matrices here are transposed
Y = read("y.f32").view(-1, n)
W0, b0 = read("weight.f32").view(n, k), read("bias.f32")
kept = read("kept.i64", np.int64)
N = len(X)
S = (kept[:, None] * group + torch.arange(group)).flatten()
is_rest = torch.ones(k, dtype=torch.bool)
is_rest[S] = False
order = torch.cat([S, is_rest.nonzero().flatten()])
s = len(S)


def now():
    return np.array([time.perf_counter(), time.process_time()])


steps = collections.defaultdict(list)


class Step:
    def __init__(self, name):
        self.name = name

    def __enter__(self):
        self.start = now()

    def __exit__(self, *_):
        steps[self.name].append(now() - self.start)


def weights(P):
    """W of the structure that is best for the cross products P, columns in order."""
    with Step("solve"):
        Q = torch.linalg.solve_triangular(L, P.T, upper=False).T
    with Step("svd"):
        if rank:
            u, sigma, vt = torch.linalg.svd(Q[:, s:], full_matrices=False)
            Q[:, s:] = (u[:, :rank] * sigma[:rank]) @ vt[:rank]
        else:
            Q[:, s:] = 0
    with Step("solve"):
        return torch.linalg.solve_triangular(L.T, Q.T, upper=True).T


def cross(T):
    mean = T.mean(0)
    return ((T - mean).T @ Xc / N)[:, order] + delta * W0[:, order], mean


begin = now()
x_mean = X.mean(0)
Xc = X - x_mean
C = Xc.T @ Xc / N
delta = pull * C.diagonal().mean()
L = torch.linalg.cholesky(C[order][:, order] + delta * torch.eye(k))
del C
P, mean = cross(X @ W0.T + b0)
W = weights(P)
setup = now() - begin
steps.clear()

U = torch.zeros_like(Y)
norm = float((Y.double() ** 2).sum())
rows, elapsed = [], np.zeros(2)
for iteration in range(iterations + 1):
    begin = now()
    with Step("forward"):
        columns = torch.empty_like(W)
        columns[:, order] = W
        Z = X @ columns.T + (mean - columns @ x_mean)
    with Step("activation"):
        error = float(((Y - Z.clamp(min=0)) ** 2).sum()) / norm
        V = Z + U
        positive, negative = ((Y + V) / 2).clamp(min=0), V.clamp(max=0)
        cost_positive = (Y - positive) ** 2 + (positive - V) ** 2
        M = torch.where(cost_positive <= Y**2 + (negative - V) ** 2, positive, negative)
        U = V - M
        T = M - U
    with Step("gradient"):
        P, mean = cross(T)
    W = weights(P)
    rows.append(("torch", iteration, *elapsed, error))
    elapsed = elapsed + now() - begin

with open(csv_file, "w", newline="") as file:
    writer = csv.writer(file)
    writer.writerow(["program", "iteration", "seconds", "cpu_seconds", "error"])
    writer.writerow(["setup", 0, *setup, ""])
    writer.writerows(rows)
for name, times in steps.items():
    per_iteration = len(times) // (iterations + 1)
    median = [statistics.median(sum(times[i + j][kind] for j in range(per_iteration))
                                for i in range(0, len(times), per_iteration)) for kind in (0, 1)]
    print(f"{name:14} {median[0]:8.3f} s wall, {median[1]:8.3f} s processor (medians)")
print(f"set-up         {setup[0]:8.3f} s wall, {setup[1]:8.3f} s processor")
