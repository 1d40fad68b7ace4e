"""Views -> a teacher network that tells the in-distribution from the rest (paper, section 3).

`main.py` reads the command, `training.py` tells the story of a run, `step.py` the story of a step.
`config.py` and `recipes.py` define what a run is. The method has one formula in each file:
`objective.py` and `losses.py`, `ema.py`, `schedules.py`, `optim.py`. `networks/` builds the student
and the teacher, `watch/` looks after a run, `reports/` describes it; `metrics.py` names what is
measured. `state.py`, `checkpoint.py` and `run_folder.py` keep a run on the disk, `teacher.py` loads
it for evaluation, `loss_scale.py` skips steps that are not finite. `world.py` knows ranks and
devices. Nothing here imports DALI.
"""
