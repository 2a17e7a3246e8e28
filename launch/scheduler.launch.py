"""The scheduler of a line. Its parameters are the launch arguments.

ros2 launch shopfloor scheduler.launch.py --show-args
ros2 launch shopfloor scheduler.launch.py problem_file:=/etc/shopfloor/orders.json
"""

from launch import LaunchDescription

from shopfloor.plant.launch_pieces import piece


def generate_launch_description() -> LaunchDescription:
    """Arguments, and the node that they ask for."""
    return piece("scheduler")
