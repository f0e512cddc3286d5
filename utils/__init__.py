"""Helpers of the pruning course. What carries an idea of pruning is first written by
the learner in a lab."""
