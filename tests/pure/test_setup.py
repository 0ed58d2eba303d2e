"""What ``config check`` says of what it has seen: both sides of every finding."""

from __future__ import annotations

from dataclasses import replace

import pytest

from refund_service.reports.setup import (
    NAMED,
    SKEW,
    DatabaseSeen,
    HeldSeen,
    Line,
    PortSeen,
    Verdict,
    judge_database,
    judge_ports,
    judge_settings,
)

HELD = HeldSeen(unsealable={}, accounts=3, peppers={"2026": 4, "2025": 1}, not_allowed=[])
SEEN = DatabaseSeen(
    version=180_001,
    limits=[],
    schema_found="0002",
    schema_needed="0002",
    schema_borne=True,
    ahead=0.1,
    doubt=0.01,
    held=HELD,
)


def judged(seen: DatabaseSeen = SEEN, sealing_keys=("2026",), peppers=("2026", "2025")) -> list[Line]:
    return judge_database(seen, sealing_keys=sealing_keys, peppers=peppers)


def bad(lines: list[Line]) -> list[tuple[str, Verdict, str]]:
    return [(line.what, line.verdict, line.says) for line in lines if line.verdict is not Verdict.OK]


def holding(**held: object) -> DatabaseSeen:
    return replace(SEEN, held=replace(HELD, **held))


def test_where_all_is_well_each_thing_says_so_in_one_line():
    lines = judged()
    assert bad(lines) == []
    assert [line.what for line in lines] == [
        *("server", "session limits", "schema", "clock"),
        *("rights", "sealing keys", "peppers"),
    ]
    assert all("\n" not in line.says for line in lines)


@pytest.mark.parametrize(("version", "fits"), [(140_020, False), (150_000, True), (180_001, True)])
def test_a_server_before_15_is_too_old(version, fits):
    wrong = [line for line in judged(replace(SEEN, version=version)) if line.verdict is Verdict.WRONG]
    assert [line.what for line in wrong] == ([] if fits else ["server"])
    if not fits:
        assert "14.20" in wrong[0].says


def test_limits_that_the_session_does_not_hold_are_named():
    ((what, verdict, says),) = bad(
        judged(replace(SEEN, limits=["lock_timeout is 0", "synchronous_commit is off"]))
    )
    assert (what, verdict) == ("session limits", Verdict.WRONG)
    assert says.startswith("lock_timeout is 0, synchronous_commit is off: ")


@pytest.mark.parametrize(
    ("found", "borne", "says"),
    [
        ("0001", False, "0001 is older than 0002, which this version needs: run refund-service migrate"),
        ("0002", True, None),
        ("0003", True, None),
        (
            "0004",
            False,
            "0004 is newer than this version bears, which was made for 0002: run a newer version",
        ),
        (None, False, "there is none: run refund-service migrate"),
    ],
)
def test_a_schema_is_neither_older_nor_newer_than_this_version_bears(found, borne, says):
    seen = replace(SEEN, schema_found=found, schema_borne=borne, held=HELD if borne else None)
    schema = [line for line in bad(judged(seen)) if line[0] == "schema"]
    assert schema == ([("schema", Verdict.WRONG, says)] if says else [])


def test_what_an_unborne_schema_holds_is_not_asked():
    lines = judged(replace(SEEN, schema_borne=False, schema_found="0001", held=None))
    untried = [line.what for line in lines if line.verdict is Verdict.UNTRIED]
    assert untried == ["rights", "sealing keys", "peppers"]


@pytest.mark.parametrize(
    ("ahead", "doubt", "told"),
    [
        (SKEW, 0.0, None),
        (SKEW + 0.1, 0.0, "2.1 s ahead of"),
        (-SKEW, 0.0, None),
        (-SKEW - 0.1, 0.0, "2.1 s behind"),
        # A slow answer says little about the clock behind it.
        (SKEW + 3, 3.1, None),
        (SKEW + 3, 2.9, "5.0 s ahead of"),
    ],
)
def test_clocks_that_differ_by_more_than_two_seconds_are_a_warning(ahead, doubt, told):
    found = bad(judged(replace(SEEN, ahead=ahead, doubt=doubt)))
    assert [(what, verdict) for what, verdict, _ in found] == ([("clock", Verdict.WARNING)] if told else [])
    if told:
        assert told in found[0][2]


def test_tables_that_the_role_may_not_use_are_named():
    ((what, verdict, says),) = bad(judged(holding(not_allowed={"refunds", "jobs"})))
    assert (what, verdict) == ("rights", Verdict.WRONG)
    assert says.endswith("jobs, refunds")


def test_a_sealing_key_that_is_missing_is_told_from_one_that_is_another():
    seen = holding(unsealable={"ga_1": "2025", "ga_2": "2026", "ga_3": "2025"})
    assert bad(judged(seen)) == [
        (
            "REFUND_SEALING_KEYS",
            Verdict.WRONG,
            "key 2025 is missing, and seals the credentials of ga_1, ga_3",
        ),
        (
            "REFUND_SEALING_KEYS",
            Verdict.WRONG,
            "key 2026 is another key than the one that sealed the credentials of ga_2",
        ),
    ]


@pytest.mark.parametrize("more", [0, 1])
def test_of_many_accounts_a_few_are_named(more):
    accounts = {f"ga_{number}": "gone" for number in range(NAMED + more)}
    ((_, _, says),) = bad(judged(holding(unsealable=accounts)))
    assert says.count("ga_") == NAMED
    assert says.endswith(" and 1 more") is bool(more)


@pytest.mark.parametrize(
    ("peppers", "missing"),
    [
        (("2026", "2025", "2024"), []),
        (("2026",), ["pepper 2025 is missing, and 1 API key need it"]),
        (
            (),
            [
                "pepper 2025 is missing, and 1 API key need it",
                "pepper 2026 is missing, and 4 API keys need it",
            ],
        ),
    ],
)
def test_every_pepper_in_use_has_to_be_there(peppers, missing):
    assert bad(judged(peppers=peppers)) == [("REFUND_KEY_PEPPERS", Verdict.WRONG, says) for says in missing]


def test_a_port_is_free_or_taken_or_taken_by_one_of_ours():
    free = PortSeen("REFUND_PORT", "127.0.0.1:8080", None, taken_by_us=False)
    taken = replace(free, refused="address already in use")
    ours = replace(taken, taken_by_us=True)
    assert [line.verdict for line in judge_ports([free, taken, ours])] == [
        Verdict.OK,
        Verdict.WRONG,
        Verdict.WARNING,
    ]


def test_faults_are_wrong_and_odd_variables_a_warning():
    lines = judge_settings({"REFUND_PORT": "is no port"}, {"REFUND_PRT": "is no setting"}, public_url=None)
    assert [(line.what, line.verdict) for line in lines] == [
        ("REFUND_PORT", Verdict.WRONG),
        ("REFUND_PRT", Verdict.WARNING),
    ]
    assert [line.verdict for line in judge_settings({}, {}, public_url=None)] == [Verdict.OK]


@pytest.mark.parametrize(
    ("url", "verdict"),
    [
        ("http://127.0.0.1:8080", Verdict.WARNING),
        ("http://localhost", Verdict.WARNING),
        ("http://[::1]:8080", Verdict.WARNING),
        ("https://refunds.example", Verdict.OK),
        (None, Verdict.OK),
    ],
)
def test_clients_are_not_sent_to_their_own_machine(url, verdict):
    assert [line.verdict for line in judge_settings({}, {}, public_url=url)] == [verdict]
