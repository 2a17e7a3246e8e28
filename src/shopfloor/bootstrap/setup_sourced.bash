# Source this file in bash: the virtual environment on top of a ROS 2 that is installed.
# Then `source install/setup.bash` for the packages of the workspace.

if [ -z "${AMENT_PREFIX_PATH-}" ]; then
  source "@PREFIX@/setup.bash"
fi
export VIRTUAL_ENV="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)"
case ":$PATH:" in
  *":$VIRTUAL_ENV/bin:"*) ;;
  *)
    export PATH="$VIRTUAL_ENV/bin:$PATH"
    for _sf_site in "$VIRTUAL_ENV"/lib/python3.*/site-packages; do
      export PYTHONPATH="$_sf_site${PYTHONPATH:+:$PYTHONPATH}"
    done
    ;;
esac
export ROS_AUTOMATIC_DISCOVERY_RANGE="${ROS_AUTOMATIC_DISCOVERY_RANGE:-LOCALHOST}"
# Without it a wrong type in a message field goes out as 0.
export ROS_PYTHON_CHECK_FIELDS="${ROS_PYTHON_CHECK_FIELDS:-1}"
# install/setup.bash starts Python by a path without quotes: one without spaces is needed.
case "$VIRTUAL_ENV" in
  *" "*) export COLCON_PYTHON_EXECUTABLE="$(readlink -f -- "$VIRTUAL_ENV/bin/python3")" ;;
esac
unset PYTHONHOME _sf_site
