"""Training of a teacher network that tells the in-distribution from the rest (paper, section 3).

`main.py` reads the command, `training.py` has the loop of a run, and `step.py` has one step of it.
`config.py` and `recipes.py` define what a run is. The formulas of the method are in `objective.py`
and `losses.py`, `ema.py`, `schedules.py` and `optim.py`. `networks/` builds the student and the
teacher, `watch/` monitors a run, `reports/` describes it; `metrics.py` names what is measured.
`state.py`, `checkpoint.py` and `run_folder.py` keep a run on the disk, `teacher.py` loads its
teacher for evaluation, `loss_scale.py` skips steps that are not finite. `world.py` knows ranks and
devices. Nothing here imports DALI.
"""
