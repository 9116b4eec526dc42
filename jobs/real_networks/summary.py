#!/usr/bin/env python3
"""Prints a line per network from the reports that run.sh left: size, accuracy before and after, seconds."""
import json
import pathlib
import sys

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "run" / "real_networks"


def main():
    columns = "{:<14} {:>11} {:>11} {:>7} {:>13} {:>12} {:>8} {:>8} {:>9}"
    print(columns.format("network", "parameters", "after", "ratio", "top-1 before", "top-1 after", "KL", "images",
                         "seconds"))
    for network in sys.argv[1:]:
        file = FOLDER / network / "report.json"
        if not file.exists():
            print(f"{network:<14} did not finish")
            continue
        report = json.loads(file.read_text())
        model, accuracy = report["model"], report["accuracy"]
        print(columns.format(network, f"{model['parameters_before']:,}", f"{model['parameters_after']:,}",
                             f"{model['parameter_ratio']:.2f}x", f"{100 * accuracy['top1_before']:.2f} %",
                             f"{100 * accuracy['top1_after']:.2f} %", f"{accuracy['kl']:.4f}", accuracy["images"],
                             f"{report['run']['seconds']:.0f}"))


if __name__ == "__main__":
    main()
