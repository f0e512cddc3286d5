# Thin: all of it is in tools/course.py, which runs without make too. PYTHON=... picks a Python, ARGS=... is passed on.
CANDIDATES = $(PYTHON) .venv/bin/python .venv/Scripts/python.exe \
	python3 python3.14 python3.13 python3.12 python3.11 python py

.PHONY: help lab explorer hub assignments collect autograde class test lint site lesson check-lesson notebooks drawings table checkpoints results sweep predictions bench lock

help:         ## list these commands
	@sed -n 's/^\([a-z-]*\): *## /make \1\t/p' Makefile | expand -t 20
lab:          ## open the course in JupyterLab (PORT=8899 picks a port)
explorer:     ## the pruning explorer by itself, for a lecture
hub:          ## JupyterHub on this machine, to try what a class would have (ARGS="ada ben")
assignments:  ## make nbgrader assignments of the lessons' exercises, into class/
collect:      ## take in what learners hand in (ARGS=FOLDER, with one for each learner)
autograde:    ## grade what was handed in, each function in a cage
class:        ## one page for the teacher of a class, from the learners' files
test:         ## prove that everything works: unit tests, notebooks, browser
lint:         ## check the code's style, types and workflows
site:         ## write the course as a web site into artefacts/site
lesson:       ## lay out a new lesson (NAME=13_my_idea)
check-lesson: ## run all that concerns one lesson (NAME=07_recovery)
notebooks:    ## build notebooks/ from lessons/
drawings:     ## write the drawings of the lessons
table:        ## print what each lab asks of a learner, in numbers
checkpoints:  ## train the baselines again
results:      ## run what is stale of the studies that the labs quote
sweep:        ## search for pipelines of the capstone, and keep every trial
predictions:  ## record what pruned networks answer, for the explorer
bench:        ## measure the speed of the package
lock:         ## write requirements*.txt from pyproject.toml

# A candidate is tried by running it: a name on the PATH may be a shim that fails.
lab explorer hub assignments collect autograde class test lint site lesson check-lesson notebooks drawings table checkpoints results sweep predictions bench lock:
	@for python in $(CANDIDATES); do \
		"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 \
			&& exec "$$python" tools/course.py $@ \
				$(if $(filter lesson check-lesson,$@),"$(NAME)") $(ARGS); \
	done; \
	echo "No Python 3.11 or newer was found: install one from python.org or your package manager, then run make $@ again." >&2; \
	exit 1
