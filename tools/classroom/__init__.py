"""What a teacher does with a class: hand out, collect, grade, see how it stands.

Assignments and grades are nbgrader's, so that its tools go on with them. What a learner
has written is never run as a notebook: its functions are, in a cage (`cage.py`).
The hub is one server for all of them (`hub.py`), on which each has a place of their own
(`seat.py`).
"""
