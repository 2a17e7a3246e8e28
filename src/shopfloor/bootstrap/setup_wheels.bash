# Source this file in bash: ROS 2 from the wheels in this virtual environment.
# Then `source install/setup.bash` for the packages of the workspace, as with any ROS 2.

_sf_venv="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)"

_sf_prepend() {  # NAME FOLDER: puts FOLDER in front of the list NAME, once
  local list="${!1-}"
  case ":$list:" in
    *":$2:"*) ;;
    *) export "$1=$2${list:+:$list}" ;;
  esac
}

_sf_prepend PATH "$_sf_venv/bin"
_sf_prepend AMENT_PREFIX_PATH "$_sf_venv"
_sf_prepend CMAKE_PREFIX_PATH "$_sf_venv"
_sf_prepend LD_LIBRARY_PATH "$_sf_venv/lib"
for _sf_libs in "$_sf_venv"/lib/python3.*/site-packages/ros_*.libs; do
  _sf_prepend LD_LIBRARY_PATH "$_sf_libs"
done

export VIRTUAL_ENV="$_sf_venv"
export ROS_VERSION=2 ROS_PYTHON_VERSION=3 ROS_DISTRO=jazzy
export ROS_AUTOMATIC_DISCOVERY_RANGE="${ROS_AUTOMATIC_DISCOVERY_RANGE:-LOCALHOST}"
# Without it a wrong type in a message field goes out as 0.
export ROS_PYTHON_CHECK_FIELDS="${ROS_PYTHON_CHECK_FIELDS:-1}"
# Without it the wheels start Python a second time to set LD_LIBRARY_PATH.
export _ROS_WHEELS_BOOTSTRAP_COMPLETE=1
export CMAKE_GENERATOR="${CMAKE_GENERATOR:-Ninja}"
if command -v ccache >/dev/null; then
  export CMAKE_C_COMPILER_LAUNCHER="${CMAKE_C_COMPILER_LAUNCHER:-ccache}"
  export CMAKE_CXX_COMPILER_LAUNCHER="${CMAKE_CXX_COMPILER_LAUNCHER:-ccache}"
fi
# install/setup.bash starts Python by a path without quotes: one without spaces is needed.
case "$_sf_venv" in
  *" "*) export COLCON_PYTHON_EXECUTABLE="$(readlink -f -- "$_sf_venv/bin/python3")" ;;
esac
unset PYTHONHOME _sf_venv _sf_libs
unset -f _sf_prepend
