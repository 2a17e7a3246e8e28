"""The demo: the whole graph on one machine for a minute, watched, judged and reported."""
