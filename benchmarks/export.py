"""How exactly the exported policies act: ONNX against torch, and the quantised variant against ONNX.

    python -m benchmarks.export [--stage runs/demo/stage]

Every shipped policy of the G1 is exported for a stage, with its int8 variant; the differences are the largest of all
golden inputs (`policy/golden.py`), in units of an action.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from bodydouble.report.figures import merge_figures
from policy.export import export
from policy.shipped import shipped_checkpoint
from policy.train import SHIPPED

ROBOT = "unitree_g1"
RESULTS = Path(__file__).parent / "results" / "rl.json"
DIFFERENCES = ("onnx_max_abs_diff", "int8_max_abs_diff")


def main() -> None:
    """Export, then write the figures: the worst of all policies, and each policy's."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stage", type=Path, default=Path("runs/demo/stage"), help="a stage of the robot")
    args = parser.parse_args()
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for kind in SHIPPED.values():
            out = Path(folder) / kind / "policy.onnx"
            found = export(shipped_checkpoint(ROBOT, kind), args.stage, out, int8=True).figures
            figures |= {f"{name}_{kind}": found[name] for name in DIFFERENCES}
    figures |= {name: max(figures[f"{name}_{kind}"] for kind in SHIPPED.values()) for name in DIFFERENCES}
    merge_figures(RESULTS, "export", "python -m benchmarks.export", figures, seeds=(0,))
    for name, value in figures.items():
        print(f"{name}: {value:.3g}")


if __name__ == "__main__":
    main()
