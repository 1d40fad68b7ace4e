"""Views -> a teacher network that tells the in-distribution from the rest (paper, section 3).

`main.py` tells the story; `config.py` and `recipes.py` say what a run is; `losses.py`, `ema.py`,
`schedules.py`, `optim.py`, `model.py` and `head.py` are the method, one formula a file; `state.py`,
`checkpoint.py` and `run_folder.py` keep a run; `world.py` knows ranks and devices; `meters.py`
reports. Nothing here names DALI.
"""
