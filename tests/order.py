"""The order of the files: a worker of `make test` takes the next one when it has ended one, so the longest come first.

Else a long one that began late would keep the other workers waiting at the end.
"""

import pytest

# By the time that each took, when this was last measured (`--durations=0`). Others follow as they are collected.
LONGEST = (
    "tests/engine/test_outcomes.py",
    "tests/engine/test_faults.py",
    "tests/db/test_migration.py",
    "tests/browser/test_pages.py",
    "tests/callbacks/test_sender.py",
    "tests/contract/test_schemathesis.py",
    "tests/process/test_bad_starts.py",
    "tests/browser/test_try.py",
    "tests/engine/test_outages.py",
    "tests/process/test_start_and_stop.py",
    "tests/http/test_access.py",
    "tests/engine/crossing/test_limits.py",
    "tests/process/test_several_processes.py",
    "tests/http/test_jobs.py",
    "tests/process/test_wheel.py",
    "tests/faults/test_histories.py",
    "tests/process/test_slow_clients.py",
    "tests/contract/test_examples.py",
    "tests/http/test_job_events.py",
    "tests/docs/test_benchmarks.py",
    "tests/faults/test_power_cuts.py",
    "tests/browser/test_sign_in.py",
    "tests/engine/test_bulk.py",
    "tests/client/test_clients.py",
    "tests/deploy/test_upgrade.py",
    "tests/process/test_command_line.py",
    "tests/db/test_reader.py",
    "tests/callbacks/test_target.py",
    "tests/engine/test_fairness.py",
    "tests/engine/test_resources.py",
    "tests/callbacks/test_shares.py",
    "tests/callbacks/test_outbox.py",
    "tests/engine/test_stopped_processes.py",
    "tests/wire/test_http1_clients.py",
    "tests/engine/test_port.py",
    "tests/upstream/test_client.py",
    "tests/engine/test_state_machine.py",
    "tests/http/test_job_sockets.py",
    "tests/process/test_callbacks_crash.py",
    "tests/process/test_jobs_command_line.py",
    "tests/http/test_tutorial_routes.py",
    "tests/process/test_workers.py",
    "tests/browser/test_job_pages.py",
    "tests/process/test_worker_faults.py",
    "tests/process/test_jobs_faults.py",
    "tests/engine/test_keys.py",
    "tests/browser/test_four_deliveries.py",
    "tests/wire/test_hypercorn.py",
    "tests/engine/test_run_log.py",
    "tests/engine/test_distributed.py",
    "tests/http/test_problems.py",
    "tests/client/test_resuming.py",
    "examples/link_checker/tests/test_link_checker.py",
    "examples/link_checker/tests/test_three_ways_in.py",
    "tests/http/test_parsers.py",
    "tests/http/test_users.py",
    "tests/db/test_users.py",
    "tests/http/test_bounds.py",
    "tests/http/test_amplification.py",
    "tests/callbacks/test_signature.py",
    "tests/engine/test_pauses.py",
    "tests/db/test_connection.py",
    "tests/faults/test_growth.py",
    "tests/callbacks/test_routes.py",
)
_PLACES = {file: place for place, file in enumerate(LONGEST)}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: _PLACES.get(item.location[0], len(LONGEST)))
