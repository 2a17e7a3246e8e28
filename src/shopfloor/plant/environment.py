"""The environment that every process of a plant gets, whoever starts it.

Sources: Fast DDS 2.14 (Jazzy) reads FASTRTPS_DEFAULT_PROFILES_FILE, 3.x (Kilted, Lyrical)
FASTDDS_DEFAULT_PROFILES_FILE; mallopt(3) for the malloc thresholds.
"""

from __future__ import annotations

from collections.abc import Iterable

from shopfloor.plant.discovery import discovery_environment
from shopfloor.plant.nodes import NODE_TYPES
from shopfloor.plant.paths import config_folder
from shopfloor.plant.plant_file import Plant

MAX_DOMAIN_ID = 101
"""Above, the ports of a domain clash with the ephemeral ports of Linux."""

MMAP_THRESHOLD_BYTES = 32 * 1024 * 1024
"""The highest value that every glibc accepts on 64 bits; a raw 4K frame (25 MB) stays below it."""

TRIM_THRESHOLD_BYTES = 256 * 1024 * 1024
"""Freed memory stays in the process: giving 6 MB back for each frame costs page faults."""


IMAGE_SEGMENT_BYTES = 64 * 1024 * 1024
SMALL_SEGMENT_BYTES = 4 * 1024 * 1024
"""Shared memory of a process that publishes images and of one that does not, as in the profiles."""


def domain_id(text: str) -> int:
    """A ROS domain from a command line. Raises ValueError naming what is allowed."""
    if not text.isdecimal() or int(text) > MAX_DOMAIN_ID:
        raise ValueError(f"domain_id '{text}'; allowed: 0 to {MAX_DOMAIN_ID}")
    return int(text)


def plant_environment(
    plant: Plant, types: Iterable[str], host: str, domain: int | None = None
) -> dict[str, str]:
    """Variables for a process of `plant`, to be laid over the caller's environment.

    types: node types in the process. host: where it runs.
    domain: beats the plant file's; with neither, the caller's ROS_DOMAIN_ID stays.
    """
    types = frozenset(types)
    environment = {
        **transport_environment(any(NODE_TYPES[type_].images for type_ in types)),
        # Each node has its own worker threads; libraries that bring more only steal cores.
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
        "RCUTILS_COLORIZED_OUTPUT": "0",
        "RCUTILS_CONSOLE_OUTPUT_FORMAT": "[{severity}] [{name}] {message}",
        **discovery_environment(plant, types, host),
    }
    if plant.security is not None:
        environment["ROS_SECURITY_ENABLE"] = "true"
        environment["ROS_SECURITY_STRATEGY"] = plant.security.strategy
        environment["ROS_SECURITY_KEYSTORE"] = plant.security.keystore
    domain = plant.domain_id if domain is None else domain
    if domain is not None:
        environment["ROS_DOMAIN_ID"] = str(domain)
    return environment


def transport_environment(images: bool = True) -> dict[str, str]:
    """What lets frames through between processes: the Fast DDS profile and malloc's thresholds.

    images: whether the process publishes images; one that does not is content with less memory.
    """
    name = "fastdds.xml" if images else "fastdds_small.xml"
    profiles = str(config_folder() / name)
    return {
        "RMW_IMPLEMENTATION": "rmw_fastrtps_cpp",
        "FASTRTPS_DEFAULT_PROFILES_FILE": profiles,
        "FASTDDS_DEFAULT_PROFILES_FILE": profiles,
        "MALLOC_MMAP_THRESHOLD_": str(MMAP_THRESHOLD_BYTES),
        "MALLOC_TRIM_THRESHOLD_": str(TRIM_THRESHOLD_BYTES),
    }
