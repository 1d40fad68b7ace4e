"""Views -> a teacher network that tells the in-distribution from the rest (paper, section 3).

`main.py` tells the story and `step.py` that of a step; `config.py` and `recipes.py` say what a run
is. The method, one formula a file: `objective.py` and `losses.py`, `ema.py`, `schedules.py`,
`optim.py`. `networks/` has the student and the teacher, `watch/` what looks after a run, `reports/`
what it tells of itself. What keeps a run: `state.py`, `checkpoint.py`, `run_folder.py`,
`loss_scale.py` (steps that do not count). `world.py` knows ranks and devices. Nothing here names
DALI.
"""
