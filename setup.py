"""Packaging.

Extras: `cuda13` or `cuda12` bring DALI, `lmdb` what LSUN needs, `overlap` the perceptual hash of
`shards.overlap`, `export` what writes and reads ONNX, `dev` what the tests, the checks and the
benchmarks need.

DALI comes in one flavour for each CUDA major version; either also runs on a machine without a GPU.
NVIDIA apex is optional and built from source; PyPI's `apex` is an unrelated package, so no extra
has it.

Each requirement states a minimum. `make minima` installs exactly these (torch and DALI apart) and
builds, trains, scores and exports with them.
"""

from setuptools import setup

OVERLAP = ["imagehash>=4.3.1"]
EXPORT = ["onnx>=1.17", "onnxscript>=0.6", "onnxruntime>=1.20"]

setup(
    name="oodino",
    version="0.1.0",
    description="Unsupervised out-of-distribution detection in images: a data-loading-first "
    "DINO trainer with negatives, and its scorer",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=[
        "shards",
        "shards.terminal",
        "shards.disk",
        "shards.pixels",
        "shards.format",
        "shards.sources",
        "shards.similarity",
        "shards.building",
        "shards.sample",
        "dali_pipes",
        "dali_pipes.shifts",
        "dali_pipes.dali",
        "dali_pipes.product",
        "dali_pipes.parity",
        "train",
        "train.networks",
        "train.watch",
        "train.reports",
        "eval",
        "eval.sets",
        "eval.outliers",
        "eval.features",
        "eval.scores",
        "eval.ensemble",
        "eval.decisions",
        "eval.audits",
        "eval.results",
        "eval.report",
        "eval.onnx_export",
    ],
    # One directory for all packages: an editable install is then a plain path entry, which beats
    # any other package called `train` or `eval`.
    package_dir={"": "."},
    package_data={
        "shards.sample": ["*.gz", "LICENSE", "README.md"],
        "eval.report": ["*.jinja", "*.css"],
    },
    py_modules=[],
    install_requires=[
        "torch>=2.6",
        "torchvision>=0.21",
        "timm>=1.0.12",
        "webdataset>=0.2.96",
        "braceexpand>=0.1.7",
        "numpy>=2.0",
        "scikit-learn>=1.4.2",
        "scipy>=1.13",
        "pillow>=10.1",
        "huggingface-hub>=0.25",
        "safetensors>=0.4",
        "tyro>=0.9.20",
        "rich>=13.7",
        "tensorboard>=2.21",
        "matplotlib>=3.8.4",
        "jinja2>=3.1",
        "markupsafe>=2.1.1",
    ],
    extras_require={
        "cuda13": ["nvidia-dali-cuda130>=2.0"],
        "cuda12": ["nvidia-dali-cuda120>=2.0"],
        "lmdb": ["lmdb>=1.4"],
        "overlap": OVERLAP,
        "export": EXPORT,
        "dev": [
            *("pytest>=8", "pytest-xdist>=3.8", "hypothesis>=6.100", "lmdb>=1.4"),
            *("ruff>=0.10", "mypy>=1.13", "faiss-cpu>=1.9", "threadpoolctl>=3.1"),
            *("packaging>=23.2", *OVERLAP, *EXPORT),
        ],
    },
)
