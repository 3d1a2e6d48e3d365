"""Policy and robot on two hosts: network namespaces with addresses of their own and a link that delays and loses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from robot.replay import replay
from robot.two_hosts import ADDRESSES, on_host, run_on_two_hosts, two_hosts, why_not
from sim.stage.stage import Stage

pytest.importorskip("rclpy")

BUSY = 0.05
"""Share of missed ticks beyond which nothing can be said of the link."""
REASON = why_not()
needs_namespaces = pytest.mark.skipif(bool(REASON), reason=f"network namespaces are not permitted here: {REASON}")
ECHO = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("0.0.0.0", 9000))
print("ready", flush=True)
while True:
    data, sender = s.recvfrom(100)
    s.sendto(data, sender)
"""
CALL = f"""
import json, socket, threading, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(1.0)
times = []
def hear():
    try:
        while True:
            sent = float(s.recv(100))
            times.append(time.monotonic() - sent)
    except TimeoutError:
        pass
s.bind(("0.0.0.0", 0))
thread = threading.Thread(target=hear)
thread.start()
for _ in range(500):
    s.sendto(str(time.monotonic()).encode(), ("{ADDRESSES[1].split("/")[0]}", 9000))
    time.sleep(0.001)
thread.join()
print(json.dumps(times))
"""


@needs_namespaces
def test_the_link_delays_and_loses_what_it_is_told() -> None:
    with two_hosts(delay_s=0.02, loss=0.05, seed=1) as hosts:
        echo = subprocess.Popen([*on_host(hosts.robot_host), sys.executable, "-c", ECHO], stdout=subprocess.PIPE)
        try:
            assert echo.stdout is not None and echo.stdout.readline() == b"ready\n"
            argv = [*hosts.on_policy_host, sys.executable, "-c", CALL]
            times = json.loads(subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True).stdout)
        finally:
            echo.kill()
            echo.wait()
    # There and back: 0.95 of 0.95 arrive, 40 ms later.
    assert 410 < len(times) < 485 and min(times) > 0.0399 and sorted(times)[len(times) // 2] < 0.2
    assert hosts.frames["lost"] > 20 and hosts.frames["forwarded"] > 850
    left = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    assert hosts.policy_host not in left and hosts.robot_host not in left


@needs_namespaces
@pytest.mark.parametrize(
    ("delay_s", "loss"),
    [
        (0.02, 0.05),
        pytest.param(0.0, 0.0, marks=pytest.mark.slow),
        pytest.param(0.02, 0.0, marks=pytest.mark.slow),
        pytest.param(0.02, 0.01, marks=pytest.mark.slow),
    ],
)
def test_a_run_on_two_hosts_ends_well(
    policy_path: Path, stage: Stage, tmp_path: Path, delay_s: float, loss: float
) -> None:
    figures = run_on_two_hosts(policy_path, stage.path, tmp_path / "run", delay_s, loss, seed=3)
    assert figures["input_age_p50_ms"] > 1000 * delay_s, "every message went over the link"
    assert figures["frames_forwarded"] > 500 and (figures["frames_lost"] > 0) == (loss > 0)
    # What the recorder missed is in the ticks: it and the policy's node hear the same lossy link, each for itself.
    report = replay(tmp_path / "run" / "run.mcap", policy_path, stage.path)
    assert (report.diff_bits, report.first_difference, report.ticks) == (0, "", figures["ticks"])
    if figures["missed_ticks"] > BUSY * figures["ticks"]:
        pytest.skip(f"this machine is too busy for real time: {figures['missed_ticks']:.0f} ticks missed")
    assert figures["robot_up_s"] == figures["run_s"] > stage.reference.duration_s
