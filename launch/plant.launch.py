"""The processes that a plant file places on this host. The same file on every host.

ros2 launch shopfloor plant.launch.py
ros2 launch shopfloor plant.launch.py plant:=/etc/shopfloor/plant.yaml host:=jetson_1
ros2 launch shopfloor plant.launch.py only:=board_camera,board_inspector log_level:=debug
"""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction

from shopfloor.plant.launch_actions import plant_actions


def generate_launch_description() -> LaunchDescription:
    """Arguments, and the processes that they ask for."""
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "plant",
                default_value="demo",
                description="Plant file: a path, or the name of a file in config/.",
            ),
            DeclareLaunchArgument(
                "host",
                default_value="auto",
                description="Whose processes run here: the host that this machine is in the plant "
                "file (auto), a host by name, or all of them on this machine (all).",
            ),
            DeclareLaunchArgument(
                "only",
                default_value="",
                description="Start only these nodes, separated by commas; empty: all.",
            ),
            DeclareLaunchArgument(
                "domain_id",
                default_value="",
                description="ROS domain, 0 to 101; empty: the plant file's, else ROS_DOMAIN_ID.",
            ),
            DeclareLaunchArgument(
                "log_level",
                default_value="info",
                choices=["debug", "info", "warn", "error"],
                description="Log level of all nodes.",
            ),
            OpaqueFunction(function=plant_actions),
        ]
    )
