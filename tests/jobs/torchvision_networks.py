#!/usr/bin/python3
"""Networks as PyTorch exports them, in our executor and in ONNX Runtime.

    tests/jobs/torchvision_networks.py BIN_DIR WORK_DIR [--opsets 9,13,17] [--compress NETWORK,...] [NETWORK...]

Writes torchvision's networks at full size with seeded weights and statistics (no pretrained ones are needed), lets
slr_evaluate run a few images through each, and compares its logits with ONNX Runtime's, as
tests/jobs/onnxruntime/compare.mjs does. The networks of --compress also go through a short slr_compress; what that
writes is compared in the same way. Exit code: 0, or 77 (a skip for ctest) without python3-torch, python3-torchvision,
node or onnxruntime-node, else 1. onnxruntime-node is looked for in the folder SLR_ONNXRUNTIME_NODE, else beside BIN_DIR.
"""
import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import warnings

HERE = pathlib.Path(__file__).resolve().parent
IMAGES = pathlib.Path("/usr/share/datasets/fashion-mnist")
NETWORKS = ["alexnet", "vgg16", "vgg16_bn", "googlenet", "resnet18", "resnet50", "mobilenet_v2", "mobilenet_v3_small",
            "squeezenet1_1"]
CONFIGURATION = """
model: {model}
data:
  calibration: {{images: {images}/train-images-idx3-ubyte.gz, count: 40, resize: 224}}
  validation: {{images: {images}/t10k-images-idx3-ubyte.gz, labels: {images}/t10k-labels-idx1-ubyte.gz, count: {count},
                resize: 224}}
  preprocess: {{scale: 0.00392156862745098, mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225]}}
calibration: {{images: 40}}
method: {{iterations: 3}}
budget: {{parameters: 1.3, spread: uniform}}
output: {output}
"""
COUNT = 3  # images; one block of the executor and a part of it would tell no more


def skip(reason):
    print(f"skipped: {reason}")
    sys.exit(77)


def network_of(torch, torchvision, name):
    """Seeded, with statistics that are not those of a fresh network."""
    torch.manual_seed(1)
    options = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
    network = getattr(torchvision.models, name)(weights=None, **options)
    for part in network.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.1)
            part.running_var.uniform_(0.5, 1.5)
            torch.nn.init.uniform_(part.weight, 0.5, 1.5)
            torch.nn.init.normal_(part.bias, 0, 0.1)
    return network.eval()


def export(torch, network, file, opset):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(network, torch.zeros(1, 3, 224, 224), str(file), opset_version=opset, input_names=["images"],
                          output_names=["logits"], dynamic_axes={"images": {0: "batch"}, "logits": {0: "batch"}})


def quiet(words, **more):
    result = subprocess.run([str(word) for word in words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                            **more)
    if result.returncode != 0:
        print(result.stdout)
    return result.returncode


def compare(binaries, config, model, work):
    """Prints one line; whether both engines agree."""
    for name in ("inputs.f32", "logits.f32"):
        (work / name).unlink(missing_ok=True)
    if quiet([binaries / "slr_evaluate", config, "--model", model, "--dump-inputs", work / "inputs.f32",
              "--dump-logits", work / "logits.f32"]) != 0:
        return False
    return subprocess.run(["node", HERE / "onnxruntime/compare.mjs", model, work / "inputs.f32", work / "logits.f32",
                           "--shape", "3x224x224"]).returncode == 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("binaries", type=pathlib.Path)
    parser.add_argument("work", type=pathlib.Path)
    parser.add_argument("--opsets", default="9,13,17")
    parser.add_argument("--compress", default="")
    parser.add_argument("networks", nargs="*", default=NETWORKS)
    options = parser.parse_intermixed_args()
    try:
        import torch
        import torchvision
    except ImportError:
        skip("python3-torch or python3-torchvision is missing")
    runtime = pathlib.Path(os.environ.setdefault("SLR_ONNXRUNTIME_NODE", str(options.binaries / "../onnxruntime-node")))
    if not shutil.which("node") or not (runtime / "node_modules/onnxruntime-node").exists():
        skip("node or onnxruntime-node is missing (jobs/setup.sh, then tests/jobs/onnxruntime/setup.sh)")
    os.environ.update(OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
    torch.set_num_threads(1)
    binaries, work = options.binaries.resolve(), options.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    is_good = True
    for name in options.networks:
        network = network_of(torch, torchvision, name)
        config, output = work / "config.yaml", work / name
        for opset in map(int, options.opsets.split(",")):
            if name == "mobilenet_v3_small" and opset < 14 and opset != 9:
                continue  # HardSwish as an operator since 14, in parts before
            model = work / f"{name}-{opset}.onnx"
            export(torch, network, model, opset)
            config.write_text(CONFIGURATION.format(model=model, images=IMAGES, count=COUNT, output=output))
            is_good = compare(binaries, config, model, work) and is_good
            if name in options.compress.split(",") and opset == int(options.opsets.split(",")[-1]):
                is_written = quiet([binaries / "slr_compress", config, "--fresh"]) in (0, 2)
                is_good = is_written and compare(binaries, config, output / "compressed.onnx", work) and is_good
                shutil.rmtree(output, ignore_errors=True)
            model.unlink()
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
