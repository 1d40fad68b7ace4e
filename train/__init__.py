"""Views -> a teacher network that tells the in-distribution from the rest (paper, section 3).

`main.py` reads the command, `training.py` tells the story of a run and `step.py` that of a step;
`config.py` and `recipes.py` say what a run is. The method has one formula a file: `objective.py` and
`losses.py`, `ema.py`, `schedules.py`, `optim.py`. `networks/` has the student and the teacher,
`watch/` the monitors of a run, `reports/` its metrics, curves and notes. A run is kept by `state.py`,
`checkpoint.py` and `run_folder.py`; `loss_scale.py` skips steps that are not finite; `world.py` knows
ranks and devices. Nothing here names DALI.
"""
