"""The node's memory of attempts: bounded, and outliving the agent in a state directory."""

from __future__ import annotations

import hashlib
import json
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from workers.node import records as module
from workers.node.attempt_log import AttemptLog
from workers.node.errors import StateDirTaken
from workers.node.outcome import canceled, failed, handed_back, overdue, succeeded
from workers.node.records import Record, Records, ReportAddress
from workers.node.state_dir import StateDir


def record(id: str = "task_1-1") -> Record:
    return Record(id, id.rpartition("-")[0], 1, 2, ReportAddress("/api/v2/tasks/task_1", "token", None))


def finished(records: Records, id: str, age: float = 0.0) -> None:
    records.add(record(id))
    end = record(id).ended(succeeded('{"a":1}'))
    records.finish(replace(end, changed_at=end.changed_at - age))
    records.reported(id)


def test_finished_ids_are_forgotten_after_a_day() -> None:
    records = Records()
    finished(records, "old-1", age=module.RETENTION + 1)
    finished(records, "young-1", age=module.RETENTION - 60)
    records.add(record("new-1"))
    assert records.find("old-1") is None
    assert records.find("young-1") is not None


def test_the_number_of_ids_is_bounded_but_running_ones_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_RECORDS", 3)
    records = Records()
    records.add(record("running-1"))
    for number in range(10):
        finished(records, f"t{number}-1")
    assert records.find("running-1") is not None
    assert records.find("t9-1") is not None
    assert records.find("t0-1") is None


def test_unreported_ends_are_never_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_RECORDS", 1)
    records = Records()
    records.add(record("unheard-1"))
    records.finish(record("unheard-1").ended(failed("x")))
    finished(records, "a-1")
    finished(records, "b-1")
    assert [each.id for each in records.unreported()] == ["unheard-1"]


def test_old_and_large_outputs_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "OUTPUTS_KEPT", 10)
    monkeypatch.setattr(module, "OUTPUT_KEPT", 20)
    records = Records()
    finished(records, "a-1")
    finished(records, "b-1")
    records.add(record("big-1"))
    records.finish(record("big-1").ended(succeeded('"' + "x" * 30 + '"')))
    outputs = [found.output for found in map(records.find, ("a-1", "b-1", "big-1")) if found]
    assert outputs == [None, '{"a":1}', '"' + "x" * 30 + '"']
    records.reported("big-1")
    assert (big := records.find("big-1")) is not None
    assert big.output is None
    assert big.status == "succeeded"


def test_outputs_of_earlier_runs_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "OUTPUTS_KEPT", 10)
    earlier = [replace(record(id).ended(succeeded('{"a":1}')), reported=True) for id in ("a-1", "b-1")]
    records = Records(earlier)
    assert [found.output for found in map(records.find, ("a-1", "b-1")) if found] == [None, '{"a":1}']


def test_a_forgotten_output_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "OUTPUTS_KEPT", 10)
    records = Records()
    finished(records, "old-1", age=module.RETENTION + 1)
    records.add(record("running-1"))
    finished(records, "a-1")
    assert (kept := records.find("a-1")) is not None
    assert kept.output == '{"a":1}'


def test_an_answer_carries_what_is_not_too_long_for_it() -> None:
    assert record().ended(succeeded('"' + "x" * (module.OUTPUT_KEPT - 2) + '"')).fits_answer
    assert not record().ended(succeeded('"' + "x" * module.OUTPUT_KEPT + '"')).fits_answer
    assert record().ended(failed("x" * 500)).fits_answer
    assert not record().ended(failed("x" * 501)).fits_answer  # the orchestrator reads less of an answer's error
    assert not record().ended(handed_back("the node is draining")).fits_answer  # nor does it read that reason
    assert not record().fits_answer


def test_only_what_the_orchestrator_ends_itself_owes_no_report() -> None:
    assert record().ended(canceled()).reported
    assert record().ended(overdue(1.5)).reported
    assert not record().ended(handed_back("the node is draining")).reported
    assert not record().ended(failed("x")).reported


def test_records_survive_a_restart(tmp_path: Path) -> None:
    state = StateDir(tmp_path / "state")
    records = Records(storage=state)
    finished(records, "done-1")
    records.add(record("running-1"))
    with (tmp_path / "state" / "records.jsonl").open("a") as file:
        file.write('{"id": "torn')
    state.close()

    again = StateDir(tmp_path / "state")
    loaded = Records(again.load(), again)
    assert [each.id for each in loaded.unfinished()] == ["running-1"]
    done = loaded.find("done-1")
    assert done is not None
    assert (done.status, done.output, done.reported) == ("succeeded", '{"a":1}', True)
    again.close()


def test_a_state_dir_serves_one_agent_and_is_private(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tmp_path.chmod(0o777)
    for name in ("records.jsonl", "attempts.jsonl"):
        (tmp_path / name).touch(0o644)
    state = StateDir(tmp_path)
    AttemptLog(tmp_path, "gpu_1").close()
    assert caplog.messages == [f"others may write in the state directory: chmod go-w {tmp_path}"]
    with pytest.raises(StateDirTaken):
        StateDir(tmp_path)
    state.rewrite([record()])
    assert {stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()} == {0o600}
    state.close()


def test_a_bloated_file_is_rewritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.node.state_dir._BLOATED", 2000)
    state = StateDir(tmp_path)
    records = Records(storage=state)
    for _ in range(50):
        finished(records, "same-1")
    assert (tmp_path / "records.jsonl").stat().st_size < 3000
    state.close()


def test_the_log_survives_a_torn_line(tmp_path: Path) -> None:
    (tmp_path / "attempts.jsonl").write_text('{"event": "acc')
    attempt_log = AttemptLog(tmp_path, "gpu_1")
    attempt_log.write("succeeded", record().ended(succeeded("{}")))
    attempt_log.close()
    line = json.loads((tmp_path / "attempts.jsonl").read_text().splitlines()[1])
    assert line["sha256"] == hashlib.sha256(b"{}").hexdigest()
    assert (line["event"], line["id"], line["attempt"], line["gpuId"]) == ("succeeded", "task_1-1", 1, "gpu_1")
