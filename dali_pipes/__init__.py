"""The data loader: it makes the views of a training step, or evaluation images, from shard sets.

DALI gets its images through `external_source` (`dali/inputs.py`) from our own reader
(`readers.py`), which reads samples by id from the shards. DALI's own readers are not used. So
samples can be read in any order, and a run can resume at any step, without extra cost.

Read in this order:

    batch.py          the contract: the views that a run asks for, and the batch of a step
    view_params.py    all random parameters of a view, a pure function of seed and step
    negatives.py      the strategies for negatives; their transformations are in `shifts/`
    step_plan.py      the sample ids and the parameters of a step
    readers.py        the images of a step, from the shards or from memory
    product/          the engine for small images: matrix products
    dali/             the engine for images of any size: a DALI graph that makes the same views
    loader.py         the training loader, which the trainer calls
    eval_loader.py    the evaluation loader, which the scorer calls
    parity/           the comparison of both engines with Pillow and torchvision
    preview.py        the command that draws a picture of views; `view_sheets.py` helps it

Importing the package needs no DALI. `batch.py`, `config.py`, `negatives.py` and `shifts/` need no
torch either, because command lines are parsed with them.
"""
