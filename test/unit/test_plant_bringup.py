"""The line manager's logic, driven by a pretend graph and a pretend clock."""

from __future__ import annotations

from itertools import pairwise

import pytest

from shopfloor.plant.bringup import BringUp, Health, HostHealth, State, Timing, Transition

NAMES = ("/l/gate", "/l/inspector", "/l/camera")
TICK_S = 0.1


class Graph:
    """Three nodes in processes of their own that obey, refuse, hang or die as told."""

    def __init__(self, timing: Timing | None = None, names: tuple[str, ...] = NAMES) -> None:
        self.now = 0.0
        self.core = BringUp([(name, True) for name in names], timing or Timing(), self.now)
        self.state = dict.fromkeys(names, State.UNCONFIGURED)
        self.pid = {name: 100 + i for i, name in enumerate(names)}
        self.silent: set[str] = set()
        self.refuse: set[tuple[str, Transition]] = set()
        self.hang: set[str] = set()
        self.log: list[tuple[str, Transition]] = []

    def tick(self, times: int = 1) -> None:
        for _ in range(times):
            self.now += TICK_S
            for name, state in self.state.items():
                if name not in self.silent:
                    self.core.beat(name, state, ("host", self.pid[name]), self.now)
            for name, transition in self.core.requests(self.now):
                self.log.append((name, transition))
                if name in self.hang:
                    continue
                accepted = (name, transition) not in self.refuse
                if accepted:
                    self.state[name] = {
                        Transition.CONFIGURE: State.INACTIVE,
                        Transition.ACTIVATE: State.ACTIVE,
                        Transition.DEACTIVATE: State.INACTIVE,
                        Transition.CLEANUP: State.UNCONFIGURED,
                    }[transition]
                self.core.answered(name, transition, accepted, self.now)

    def run(self, seconds: float) -> None:
        self.tick(round(seconds / TICK_S))

    def order(self, transition: Transition) -> list[str]:
        return [name for name, asked in self.log if asked is transition]

    def up(self) -> None:
        self.core.set_goal(State.ACTIVE, self.now)
        self.run(2.0)
        assert set(self.state.values()) == {State.ACTIVE}
        assert self.core.host_health(self.now) == (HostHealth.RUNNING, "")
        self.log.clear()


def test_nothing_is_asked_without_a_goal() -> None:
    graph = Graph()
    graph.run(2.0)
    assert graph.log == []
    assert graph.core.host_health(graph.now)[0] is HostHealth.STOPPED


def test_up_in_order_and_down_in_reverse() -> None:
    graph = Graph()
    graph.core.set_goal(State.ACTIVE, graph.now)
    assert graph.core.host_health(graph.now)[0] is HostHealth.STARTING
    graph.run(2.0)
    assert graph.order(Transition.ACTIVATE) == list(NAMES)
    assert graph.core.host_health(graph.now) == (HostHealth.RUNNING, "")
    graph.core.set_goal(State.UNCONFIGURED, graph.now)
    graph.run(2.0)
    assert graph.order(Transition.DEACTIVATE) == list(reversed(NAMES))
    assert set(graph.state.values()) == {State.UNCONFIGURED}
    assert graph.core.host_health(graph.now)[0] is HostHealth.STOPPED
    assert all(graph.core.health(n, graph.now)[0] is Health.STOPPED for n in NAMES)


def test_each_step_is_asked_once() -> None:
    graph = Graph()
    graph.core.set_goal(State.ACTIVE, graph.now)
    graph.run(5.0)
    assert len(graph.log) == 2 * len(NAMES)


def test_a_late_node_is_waited_for_then_the_line_goes_on_without() -> None:
    graph = Graph(Timing(order_wait_s=3.0))
    graph.silent.add(NAMES[0])
    graph.core.set_goal(State.ACTIVE, graph.now)
    graph.run(2.5)
    assert graph.order(Transition.ACTIVATE) == []
    assert graph.core.host_health(graph.now)[0] is HostHealth.STARTING
    graph.run(1.5)
    assert graph.order(Transition.ACTIVATE) == [NAMES[1], NAMES[2]]
    health, cause = graph.core.host_health(graph.now)
    assert health is HostHealth.FAILED
    assert cause.startswith(f"{NAMES[0]}: never seen")
    graph.silent.clear()
    graph.run(1.0)
    assert graph.core.host_health(graph.now) == (HostHealth.RUNNING, "")


def test_a_refusal_is_tried_again_with_growing_pauses_and_its_cause_told() -> None:
    graph = Graph(Timing(retry_s=1.0, retry_max_s=4.0))
    graph.refuse.add((NAMES[1], Transition.CONFIGURE))
    graph.core.set_goal(State.ACTIVE, graph.now)
    times: list[float] = []
    for _ in range(170):
        before = len(graph.order(Transition.CONFIGURE))
        graph.tick()
        if (NAMES[1], Transition.CONFIGURE) in graph.log[before:]:
            times.append(graph.now)
        graph.log = [entry for entry in graph.log if entry[0] != NAMES[1]]
    gaps = [b - a for a, b in pairwise(times)]
    assert gaps == pytest.approx([1.0, 2.0, 4.0, 4.0, 4.0], abs=0.15)
    graph.core.explain(NAMES[1], "configure failed: no model 'x'")
    health, cause = graph.core.host_health(graph.now)
    assert (health, cause) == (HostHealth.FAILED, f"{NAMES[1]}: configure failed: no model 'x'")
    graph.refuse.clear()
    graph.run(6.0)
    assert graph.core.host_health(graph.now) == (HostHealth.RUNNING, "")


def test_a_cause_without_a_failure_is_not_kept() -> None:
    graph = Graph()
    graph.up()
    graph.core.explain(NAMES[0], "old news")
    graph.core.explain("/other/node", "not ours")
    assert graph.core.health(NAMES[0], graph.now) == (Health.OK, "")


def test_a_node_that_never_answers_counts_as_failed_and_a_late_answer_is_ignored() -> None:
    graph = Graph(Timing(transition_timeout_s=2.0, retry_s=60.0, retry_max_s=60.0))
    graph.hang.add(NAMES[0])
    graph.core.set_goal(State.ACTIVE, graph.now)
    graph.run(3.0)
    assert graph.core.health(NAMES[0], graph.now) == (
        Health.FAILED,
        "configure: no answer within 2 s",
    )
    graph.core.answered(NAMES[0], Transition.CONFIGURE, True, graph.now)
    assert graph.core.nodes[NAMES[0]].state is State.UNCONFIGURED


def test_a_busy_process_need_not_beat_while_it_configures() -> None:
    graph = Graph()
    graph.pid[NAMES[1]] = graph.pid[NAMES[0]]  # two nodes of one process
    graph.hang.add(NAMES[0])
    graph.core.set_goal(State.ACTIVE, graph.now)
    graph.tick(2)
    graph.silent |= {NAMES[0], NAMES[1]}
    graph.run(5.0)
    assert graph.core.health(NAMES[0], graph.now)[0] is Health.STARTING
    assert graph.core.health(NAMES[1], graph.now)[0] is not Health.STALE


def test_a_silent_node_is_stale_within_half_a_second_and_not_asked() -> None:
    graph = Graph()
    graph.up()
    graph.silent.add(NAMES[2])
    graph.run(0.7)
    health, cause = graph.core.host_health(graph.now)
    assert health is HostHealth.FAILED
    assert "no heartbeat for 0." in cause
    graph.core.set_goal(State.UNCONFIGURED, graph.now)
    graph.run(1.0)
    assert NAMES[2] not in {name for name, _ in graph.log}


def test_a_restarted_process_is_brought_up_again_and_counted() -> None:
    graph = Graph()
    graph.up()
    graph.silent.add(NAMES[1])
    graph.run(1.0)
    graph.silent.clear()
    graph.pid[NAMES[1]] = 777
    graph.state[NAMES[1]] = State.UNCONFIGURED
    graph.run(1.0)
    assert graph.log == [(NAMES[1], Transition.CONFIGURE), (NAMES[1], Transition.ACTIVATE)]
    assert graph.core.nodes[NAMES[1]].restarts == 1
    assert graph.core.host_health(graph.now) == (HostHealth.RUNNING, "")


def test_two_nodes_of_one_name_are_told_and_left_alone() -> None:
    graph = Graph()
    graph.run(0.3)
    graph.core.set_goal(State.ACTIVE, graph.now)
    for _ in range(20):
        graph.core.beat(NAMES[0], State.UNCONFIGURED, ("other", 9), graph.now + 0.05)
        graph.tick()
    assert NAMES[0] not in {name for name, _ in graph.log}
    health, cause = graph.core.health(NAMES[0], graph.now)
    assert health is Health.FAILED
    assert "process 100 on host and process 9 on other; stop one" in cause
    graph.run(2.0)
    assert graph.core.health(NAMES[0], graph.now) == (Health.OK, "")
    assert graph.core.nodes[NAMES[0]].restarts == 0


def test_a_beat_sent_before_the_answer_does_not_undo_it() -> None:
    core = BringUp([("/n", True)], Timing(), 0.0)
    core.set_goal(State.ACTIVE, 0.0)
    core.beat("/n", State.UNCONFIGURED, ("h", 1), 0.1)
    assert core.requests(0.1) == [("/n", Transition.CONFIGURE)]
    core.answered("/n", Transition.CONFIGURE, True, 0.2)
    core.beat("/n", State.UNCONFIGURED, ("h", 1), 0.21)
    assert core.requests(0.22) == [("/n", Transition.ACTIVATE)]


def test_a_service_that_is_not_there_yet_is_asked_later() -> None:
    core = BringUp([("/n", True)], Timing(), 0.0)
    core.set_goal(State.ACTIVE, 0.0)
    core.beat("/n", State.UNCONFIGURED, ("h", 1), 0.1)
    assert core.requests(0.1, lambda name: False) == []
    assert core.requests(0.2, lambda name: True) == [("/n", Transition.CONFIGURE)]


@pytest.mark.parametrize("state", [10, 13, 99, 0])
def test_passing_and_unknown_states_ask_for_nothing(state: int) -> None:
    core = BringUp([("/n", True)], Timing(), 0.0)
    core.set_goal(State.ACTIVE, 0.0)
    core.beat("/n", state, ("h", 1), 0.1)
    assert core.requests(0.1) == []


def test_a_finalized_node_says_what_helps() -> None:
    graph = Graph()
    graph.up()
    graph.state[NAMES[0]] = State.FINALIZED
    graph.run(1.0)
    health, cause = graph.core.health(NAMES[0], graph.now)
    assert health is Health.FAILED
    assert "restart of its process" in cause


def test_reset_goes_down_in_reverse_and_up_in_order_and_forgets() -> None:
    graph = Graph()
    graph.up()
    graph.core.nodes[NAMES[0]].restarts = 4
    graph.core.reset(graph.now)
    assert graph.core.host_health(graph.now)[0] is HostHealth.STARTING
    graph.run(4.0)
    assert graph.order(Transition.CLEANUP) != []
    assert graph.order(Transition.DEACTIVATE) == list(reversed(NAMES))
    assert graph.order(Transition.ACTIVATE) == list(NAMES)
    assert graph.core.nodes[NAMES[0]].restarts == 0
    assert graph.core.host_health(graph.now) == (HostHealth.RUNNING, "")


def test_reset_of_one_node_leaves_the_others_and_stopped_ones_alone() -> None:
    graph = Graph()
    graph.up()
    graph.core.set_goal(State.UNCONFIGURED, graph.now, NAMES[2])
    graph.run(1.0)
    graph.log.clear()
    graph.core.reset(graph.now, NAMES[1])
    graph.run(2.0)
    assert {name for name, _ in graph.log} == {NAMES[1]}
    assert graph.state[NAMES[2]] is State.UNCONFIGURED
    assert graph.core.host_health(graph.now)[0] is HostHealth.DEGRADED


def test_reset_does_not_wait_for_a_dead_node() -> None:
    graph = Graph(Timing(order_wait_s=1.0))
    graph.up()
    graph.silent.add(NAMES[0])
    graph.run(1.0)
    graph.core.reset(graph.now)
    graph.run(5.0)
    assert graph.state[NAMES[1]] is graph.state[NAMES[2]] is State.ACTIVE
    assert graph.order(Transition.ACTIVATE) == [NAMES[1], NAMES[2]]


def test_a_node_that_is_not_essential_only_degrades() -> None:
    core = BringUp([("/needed", True), ("/extra", False)], Timing(), 0.0)
    core.set_goal(State.ACTIVE, 0.0)
    for now in (0.1, 0.5, 0.9):
        core.beat("/needed", State.ACTIVE, ("h", 1), now)
        core.beat("/extra", State.ACTIVE, ("h", 2), min(now, 0.1))
    assert core.host_health(0.9)[0] is HostHealth.DEGRADED
    assert core.host_health(2.0)[0] is HostHealth.FAILED


def test_no_nodes_at_all() -> None:
    core = BringUp([], Timing(), 0.0)
    core.set_goal(State.ACTIVE, 0.0)
    assert core.requests(1.0) == []
    assert core.host_health(1.0) == (HostHealth.RUNNING, "")


# Commands ----------------------------------------------------------------------------------------


def test_a_node_taken_down_by_hand_stays_down_until_it_is_asked_for() -> None:
    core = BringUp([("/gate", True), ("/camera", True)], Timing(), now_s=0.0)
    core.set_goal(State.ACTIVE, 0.0)
    source = ("here", 1)
    for now_s in (1.0, 2.0, 3.0):
        core.beat("/gate", State.ACTIVE, source, now_s)
        core.beat("/camera", State.ACTIVE, source, now_s)
    for state in (State.INACTIVE, State.UNCONFIGURED):
        core.beat("/gate", state, source, 4.0)
        core.beat("/camera", State.ACTIVE, source, 4.0)
        assert core.requests(4.0) == []
        assert core.health("/gate", 4.0)[0] is Health.STOPPED
        assert "by hand" in core.host_health(4.0)[1]
    # The process starts anew: that is no wish of anybody's, so the node comes up again.
    core.beat("/gate", State.UNCONFIGURED, ("here", 2), 5.0)
    assert core.requests(5.0) == [("/gate", Transition.CONFIGURE)]


def test_start_brings_back_a_node_that_was_taken_down_by_hand() -> None:
    core = BringUp([("/gate", True)], Timing(), now_s=0.0)
    core.set_goal(State.ACTIVE, 0.0)
    core.beat("/gate", State.ACTIVE, ("here", 1), 1.0)
    core.beat("/gate", State.INACTIVE, ("here", 1), 2.0)
    core.set_goal(State.ACTIVE, 2.1)
    assert core.requests(2.1) == [("/gate", Transition.ACTIVATE)]
    core.answered("/gate", Transition.ACTIVATE, True, 2.2)
    assert core.health("/gate", 2.3) == (Health.OK, "")


def test_a_process_that_is_down_is_told_with_its_cause_and_counts_as_a_restart_at_once() -> None:
    graph = Graph()
    graph.up()
    graph.silent.add("/l/camera")
    graph.tick()
    graph.core.process_seen("/l/camera", ("ended by SIGKILL", False), 0.0, graph.now)
    assert graph.core.health("/l/camera", graph.now) == (Health.STALE, "ended by SIGKILL")
    graph.pid["/l/camera"], graph.state["/l/camera"] = 300, State.UNCONFIGURED
    graph.silent.clear()
    graph.tick()
    assert graph.core.nodes["/l/camera"].restarts == 1
    graph.run(1.0)
    assert graph.core.host_health(graph.now) == (HostHealth.RUNNING, "")


def test_a_process_that_is_not_started_again_has_failed() -> None:
    graph = Graph()
    graph.up()
    graph.core.process_seen("/l/camera", ("ended by SIGSEGV; it stays down", True), 0.0, graph.now)
    assert graph.core.health("/l/camera", graph.now)[0] is Health.FAILED
    graph.core.nodes["/l/camera"].essential = False
    health, cause = graph.core.host_health(graph.now)
    assert health is HostHealth.DEGRADED
    assert cause == "/l/camera: ended by SIGSEGV; it stays down"


def test_a_process_that_never_came_up_is_told_with_its_cause() -> None:
    graph = Graph()
    graph.silent.add("/l/gate")
    graph.core.set_goal(State.ACTIVE, graph.now)
    graph.core.process_seen("/l/gate", ("ended with exit code 2", False), 0.0, graph.now)
    assert graph.core.health("/l/gate", graph.now) == (Health.STALE, "ended with exit code 2")


def test_time_without_a_core_is_not_counted_as_silence() -> None:
    graph = Graph()
    graph.up()
    graph.silent.add("/l/camera")
    for _ in range(20):
        graph.tick()
        graph.core.process_seen("/l/camera", None, 0.09, graph.now)
    assert graph.core.health("/l/camera", graph.now) == (Health.OK, "")
    graph.run(0.5)
    assert graph.core.health("/l/camera", graph.now) == (Health.OK, ""), "much has piled up"
    graph.run(0.4)
    health, cause = graph.core.health("/l/camera", graph.now)
    assert health is Health.STALE
    assert cause == "no heartbeat for 0.8 s; its process runs, and a callback in it does not end"


def test_who_was_not_held_up_has_no_more_time_for_it() -> None:
    graph = Graph()
    graph.up()
    for _ in range(20):
        graph.tick()
        graph.core.process_seen("/l/camera", None, 0.09, graph.now)
    graph.silent.add("/l/camera")
    graph.run(0.5)
    assert graph.core.health("/l/camera", graph.now)[0] is Health.STALE


def test_a_node_that_complains_degrades_the_host_until_it_has_been_quiet_for_a_while() -> None:
    graph = Graph()
    graph.up()
    graph.core.complain("/l/camera", "progress", "exception", graph.now)
    graph.core.complain("/l/nobody", "progress", "not managed", graph.now)
    assert graph.core.host_health(graph.now) == (HostHealth.DEGRADED, "/l/camera: exception")
    graph.run(2.0)
    assert graph.core.health("/l/camera", graph.now) == (Health.DEGRADED, "exception")
    graph.run(1.0)
    assert graph.core.host_health(graph.now) == (HostHealth.RUNNING, "")


def test_what_a_node_is_there_to_tell_is_passed_on_and_no_fault_of_it() -> None:
    graph = Graph()
    graph.up()
    graph.core.complain("/l/camera", "device", "cable pulled", graph.now)
    assert graph.core.errors("/l/camera", graph.now) == {"device": "cable pulled"}
    assert graph.core.host_health(graph.now) == (HostHealth.RUNNING, "")
    graph.run(3.0)
    assert graph.core.errors("/l/camera", graph.now) == {}


def test_complaints_of_an_earlier_process_are_forgotten() -> None:
    graph = Graph()
    graph.up()
    graph.core.complain("/l/camera", "progress", "stuck", graph.now)
    graph.core.process_seen("/l/camera", ("ended by SIGABRT", False), 0.0, graph.now)
    graph.pid["/l/camera"] = 300
    graph.tick()
    assert graph.core.health("/l/camera", graph.now) == (Health.OK, "")
