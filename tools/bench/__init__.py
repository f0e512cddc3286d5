"""How fast are the helpers, against what one would use otherwise and against what the
machine can do? `make bench`.

Some parts only: `python -m tools.bench pruning explorer` (of pruning, surgery,
training, schedules, evaluation, loading, deployment, stored, explorer, writing). Four
take minutes and run only by their names: `exactness` is about values, whether the
networks of torchvision with units removed answer as those with units zeroed; `visitors`
lets 30 at once come to the explorer's page; `grading` grades thirty submissions of two
lessons; `studies` says how the time of `make results` falls with workers.

Every comparison but the explorer's alternates between its sides within one run, so that
other work on the machine slows both alike: trust the ratios, not the seconds. Figures
are medians with (lowest-highest) of the rounds.
"""
