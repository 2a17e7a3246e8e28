"""A recorder of a cell. Its parameters are the launch arguments.

ros2 launch shopfloor recorder.launch.py --show-args
ros2 launch shopfloor recorder.launch.py folder:=bags images:=none
"""

from launch import LaunchDescription

from shopfloor.plant.launch_pieces import piece


def generate_launch_description() -> LaunchDescription:
    """Arguments, and the node that they ask for."""
    return piece("recorder")
