"""The calls that are on, as their worker knows them."""

from runner.calls import Call, Caller, Calls, Told
from runner.gauges import spooled

ANSWER: Told = {"role": "assistant", "text": "a", "stages_s": {}, "served_by": {}, "services": {}}


def test_nothing_that_was_said_is_kept():
    calls = Calls()
    on = calls.begin("call-1")
    calls.turn(on, ANSWER | {"text": "my account number"})
    assert "account" not in repr(on)
    assert on.turns == 1


def test_who_listens_too_slowly_misses_words_and_nobody_waits():
    heard, begun = [], []
    calls = Calls(lambda _, told: heard.append(told), begun=lambda: begun.append(1))
    on = calls.begin("call-1")
    with calls.captions("call-1") as captions:
        for _ in range(1000):
            calls.turn(on, ANSWER)
        assert captions.qsize() == 100
    assert (len(heard), begun) == (1000, [1])


def test_words_that_are_still_said_leave_room_for_whole_messages():
    calls = Calls()
    on = calls.begin("call-1")
    with calls.captions("call-1") as captions:
        for _ in range(1000):
            calls.caption(on, "user", "Is it")
        calls.turn(on, ANSWER)
        told = [captions.get_nowait() for _ in range(captions.qsize())]
    assert told[0] == {"role": "user", "text": "Is it", "interim": True}
    assert told[-1] == ANSWER


def test_a_call_knows_whether_anybody_listens_to_its_captions():
    calls, told = Calls(), []
    calls.begin("call-1", told.append)
    with calls.captions("call-1"):
        with calls.captions("call-1"):
            assert told[-1]
        assert told[-1]
        calls.begin("call-1", lambda listened: told.append(("the next", listened)))
        assert told[-1] == ("the next", True)
    assert told[-1] == ("the next", False)


def test_a_call_whose_agent_was_replaced_is_one_call():
    begun = []
    calls = Calls(begun=lambda: begun.append(1))
    dead = calls.begin("call-1")
    lives = calls.begin("call-1")
    calls.introduce(lives, Caller("a-session"))
    calls.end(dead)
    assert [call.who.session_id for call in calls] == ["a-session"]
    assert begun == [1]
    calls.end(lives)
    assert len(calls) == 0


def test_what_changes_is_counted():
    calls = Calls()
    before = calls.changes
    on = calls.begin("call-1")
    calls.turn(on, ANSWER)
    calls.end(on)
    assert calls.changes == before + 3
    assert calls.get("call-1") is None
    assert isinstance(on, Call)


def test_what_waits_for_the_database_is_counted(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b"{}\n{}\n")
    (tmp_path / "b.jsonl").write_bytes(b"")
    found = spooled(tmp_path)
    assert (found.files, found.entries, found.size) == (2, 2, 6)
    assert spooled(tmp_path / "missing").files == 0
