"""Writes a finished run's model in other formats: `python scripts/export.py RUN_DIR [--onnx] [--torch-export]`."""

import argparse

from reprise.cli.command_line import run_command


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Write the best weights of a finished run into its export/ in formats that need no Python code of "
        "this project, and compare what they compute."
    )
    parser.add_argument("run_dir", metavar="RUN_DIR")
    parser.add_argument("--onnx", action="store_true", help="export/model.onnx")
    parser.add_argument("--torch-export", action="store_true", help="export/model.pt2, for torch.export.load")
    parser.add_argument(
        "--trust", action="append", default=[], metavar="PACKAGE", help="a package outside src/ that the run needs"
    )
    options = parser.parse_args()
    from reprise.tools.further_formats import export_run

    export_run(options.run_dir, onnx=options.onnx, torch_export=options.torch_export, trusted_packages=options.trust)


if __name__ == "__main__":
    run_command(main)
