#!/usr/bin/env python3
"""What the forms of a compressed layer cost in time: chains of ten 3 x 3 convolutions in ONNX Runtime.

    bench/latency/forms.py

For several widths and maps, the time of a chain in each form over that of the dense chain, one thread, batch 1, beside
the share of products. Below the products' share lies nothing; above it lie ranks and channels that are not whole
sixteens, and the nodes beside the first one: from this table graph::products_of_time has its numbers. Wants torch
(jobs/packages-training.txt) and ONNX Runtime (tests/jobs/onnxruntime/setup.sh).
"""
import pathlib
import re
import subprocess
import tempfile

import torch
from torch import nn

ROOT = pathlib.Path(__file__).resolve().parents[2]
SHAPES = [(16, 32), (32, 16), (64, 8), (64, 32), (128, 14), (256, 14)]  # channels, side of the map
LAYERS = 10


class LowRank(nn.Module):
    def __init__(self, n, rank):
        super().__init__()
        self.v, self.u = nn.Conv2d(n, rank, 3, padding=1, bias=False), nn.Conv2d(rank, n, 1)

    def forward(self, x):
        return self.u(self.v(x))


class Kept(nn.Module):
    def __init__(self, n, kept):
        super().__init__()
        self.b = nn.Conv2d(kept, n, 3, padding=1)
        self.register_buffer("order", torch.randperm(n)[:kept])

    def forward(self, x):
        return self.b(x.index_select(1, self.order))


class Mixed(nn.Module):
    def __init__(self, n, kept, rank):
        super().__init__()
        self.sizes = [kept, n - kept]
        self.b = nn.Conv2d(kept, n, 3, padding=1, bias=False)
        self.v, self.u = nn.Conv2d(n - kept, rank, 3, padding=1, bias=False), nn.Conv2d(rank, n, 1)

    def forward(self, x):
        kept, rest = torch.split(x, self.sizes, 1)
        return self.b(kept) + self.u(self.v(rest))


def forms(n):
    """Words, share of the products, and what makes a layer."""
    dense = 9 * n * n
    for rank in sorted({max(1, int(share * dense / (10 * n))) for share in (.15, .3, .5, .7)}):
        yield f"rank {rank}", 10 * n * rank / dense, lambda rank=rank: LowRank(n, rank)
    for kept in (n // 4, n // 2, 3 * n // 4):
        yield f"{kept} kept", kept / n, lambda kept=kept: Kept(n, kept)
    for kept, rank in ((n // 16, n // 4), (n // 4, n // 8), (n // 4, n // 4), (n // 2, n // 4)):
        yield (f"{kept} kept, rank {rank}", (9 * n * kept + rank * (9 * (n - kept) + n)) / dense,
               lambda kept=kept, rank=rank: Mixed(n, kept, rank))


def write(layer, shape, file):
    chain = nn.Sequential(*(part for _ in range(LAYERS) for part in (layer(), nn.ReLU()))).eval()
    torch.onnx.export(chain, torch.zeros(1, *shape), file, opset_version=13, input_names=["data"])


def main():
    with tempfile.TemporaryDirectory() as work:
        dense, other = pathlib.Path(work, "dense.onnx"), pathlib.Path(work, "other.onnx")
        for n, side in SHAPES:
            write(lambda n=n: nn.Conv2d(n, n, 3, padding=1), (n, side, side), dense)
            for words, share, layer in forms(n):
                write(layer, (n, side, side), other)
                shown = subprocess.run(["node", ROOT / "bench/latency/ort.mjs", dense, other, f"{n}x{side}x{side}", "41"],
                                       check=True, capture_output=True, text=True).stdout
                before, after = map(float, re.findall(r"([\d.]+) ms", shown))
                print(f"{n:>4} channels, {side:>2} x {side:<2}  {words:<20} products {share:.2f}  time {after / before:.2f}",
                      flush=True)


if __name__ == "__main__":
    main()
