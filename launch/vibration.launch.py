"""The vibration monitor of a cell. Its parameters are the launch arguments.

ros2 launch shopfloor vibration.launch.py --show-args
ros2 launch shopfloor vibration.launch.py baseline_folder:=/var/lib/shopfloor/baselines
"""

from launch import LaunchDescription

from shopfloor.plant.launch_pieces import piece


def generate_launch_description() -> LaunchDescription:
    """Arguments, and the node that they ask for."""
    return piece("vibration_monitor")
