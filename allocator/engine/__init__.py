"""Floor 3: the pipeline.

`allocation` is one request from reserve to commit, `lane` the wait for a permit, `worker` the take-up and everything
that runs beside it; `observer` is what others may listen to.
"""
