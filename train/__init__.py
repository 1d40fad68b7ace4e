"""Views -> a teacher network that tells the in-distribution from the rest (paper, section 3).

`main.py` tells the story and `step.py` that of a step; `config.py` and `recipes.py` say what a run
is. The method, one formula a file: `objective.py` and `losses.py`, `ema.py`, `schedules.py`,
`optim.py`, `stochastic_depth.py`. The networks: `model.py`, `backbone.py`, `vit.py`, `head.py`,
`batch_norm.py`, `onednn.py`, `pretrained.py`. What keeps a run: `state.py`, `checkpoint.py`,
`run_folder.py`, `finite.py` and `forensics.py` (steps that do not count), `heart.py` (ranks that
are stuck), `stop_request.py`. What tells of it: `meters.py`, `health.py`, `curves.py`,
`run_notes.py`, `dry_run.py`, `set_sizes.py`. `world.py` knows ranks and devices. Nothing here
names DALI.
"""
