#!/usr/bin/env bash
# The Littlest JupyterHub, on a machine of your own with Ubuntu 22.04 or newer, as root:
#   sudo bash deploy/tljh.sh /opt/course TEACHER
# /opt/course: a copy of the course that belongs to root. TEACHER: who administers the hub.
# Needs the network. Run it again after an update of the course.
set -euo pipefail

course=${1:?folder of the course, like /opt/course}
teacher=${2:?name of the teacher}
tljh=/opt/tljh

[ "$(id -u)" = 0 ] || { echo "Run this as root." >&2; exit 1; }
[ -f "$course/requirements.txt" ] || { echo "$course is no copy of the course." >&2; exit 1; }

if [ ! -x "$tljh/hub/bin/python3" ]; then
    installer=$(mktemp)
    curl --fail --location --silent --show-error https://tljh.jupyter.org/bootstrap.py --output "$installer"
    python3 "$installer" --admin "$teacher"
fi

# the course for everybody, and for nobody to write to; JupyterHub's own part is there
chown -R root:root "$course"
chmod -R go-w "$course"
"$tljh/user/bin/python" -m pip install \
    --extra-index-url https://download.pytorch.org/whl/cpu -r "$course/requirements.txt"
# one copy of the pictures in memory for all learners
(cd "$course" && "$tljh/user/bin/python" -c "from utils import data; data.lay_shared()")

# each learner's server lays the notebooks, then becomes JupyterHub's own
# (its notebook folder is made by seat.py, before the server looks for it)
install -d "$tljh/config/jupyterhub_config.d"
cat >"$tljh/config/jupyterhub_config.d/pruning.py" <<CONFIG
c.Spawner.cmd = [
    "$tljh/user/bin/python", "-P", "$course/tools/classroom/seat.py", "",
    "-m", "jupyterhub.singleuser",
]
c.Spawner.notebook_dir = "~/workspace"
c.Spawner.default_url = "/lab/tree/00_start_here.ipynb"
c.Spawner.environment = {
    "JUPYTER_CONFIG_PATH": "$course/tools/classroom/server",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}
CONFIG

memory=2000M # measured: limit_mb
cores=2 # measured: limit_cpu
tljh-config set limits.memory "$memory"
tljh-config set limits.cpu "$cores"
tljh-config set services.cull.timeout 3600
tljh-config reload
echo "Open the machine's address and log in as $teacher; then: sudo tljh-config set https.enabled true"
