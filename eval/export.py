"""Export a run as one ONNX file that scores images without torch, DALI or the trainer.

    python eval/export.py RUN --in-dist-train DIR --calibration DIR --out FILE.onnx
    python -m eval.exported FILE.onnx FOLDER --out scores.csv

The file holds the network, the bank and the calibration scores. With --bank N, the bank is
compressed to N weighted centres (`eval/onnx_export/bank_compression.py`). --ood then measures how
much AUROC drops when the bank is compressed. The options are in `eval/onnx_export/config.py`, and
the steps are in `eval/onnx_export/detector_file.py`.
"""

from __future__ import annotations

import sys
from pathlib import Path

# Python puts the folder of a script first on sys.path. The repository's root must be there.
here = Path(__file__).absolute().parent
sys.path[:] = [str(here.parent)] + [p for p in sys.path if p != str(here)]

from collections.abc import Sequence

from eval.onnx_export.config import ExportConfig
from shards.disk.publish import refuse_existing
from shards.errors import check_installed
from shards.terminal import cli


@cli.keeps("nothing was written")
def main(argv: Sequence[str] | None = None) -> None:
    """Check the options, compute the ONNX file and write it.

    Raises:
        UserError: an option, a set or the run is wrong, or the scores of onnxruntime differ from
            the scores of torch. Nothing is written then.
    """
    config: ExportConfig = cli.parse(ExportConfig, argv)
    check_installed("export", "onnx", "onnxscript", "onnxruntime")
    config.centres()  # raises if --bank is wrong
    refuse_existing(config.out)
    # Imported here, so that --help and wrong options need not wait seconds for torch.
    from eval.onnx_export.detector_file import write_detector_file

    write_detector_file(config)


if __name__ == "__main__":
    cli.run(main)
