"""What the operator changes over HTTP, with a real database: documents, instructions, settings."""

import pytest
from yarl import URL

from runner.store import Store
from tests.integration.operator_port import CHANGE, HOSTILE

# Documents.


async def test_a_document_is_put_into_the_folder_listed_and_taken_out(port, superuser):
    assert (await port.upload("Pricing list.md", b"# Prices\n\nA call costs a euro."))[0] == 200
    assert (port.folder / "Pricing list.md").read_bytes().startswith(b"# Prices")
    _, library = await port.get("/api/documents")
    (file,) = library["files"]
    assert (file["filename"], file["status"], file["chunks"]) == ("Pricing list.md", "waiting", 0)
    insert = (
        "INSERT INTO rag_documents (filename, content, chunk_index, embedding, file_hash) "
        "VALUES ('Pricing list.md', 'A call costs a euro.', 0, %s::vector, 'x')"
    )
    superuser.execute(insert, [str([0.1] * 384)])
    _, library = await port.get("/api/documents")
    assert (library["files"][0]["status"], library["files"][0]["chunks"]) == ("indexed", 1)
    _, hits = await port.get("/api/search?query=what%20does%20it%20cost")
    assert [hit["content"] for hit in hits["hits"]] == ["A call costs a euro."]
    assert (await port.post("/api/documents/Pricing%20list.md/reindex"))[0] == 200
    assert superuser.execute("SELECT file_hash FROM rag_documents").fetchall() == [("",)]
    assert (await port.delete("/api/documents/Pricing%20list.md"))[0] == 200
    assert list(port.folder.iterdir()) == []
    assert [what for _, what, *_ in await port.changes()] == [
        "remove the document Pricing list.md",
        "index again Pricing list.md",
        "add the document Pricing list.md",
    ]


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("../out.md", 422),
        ("/etc/out.md", 422),
        (".hidden.md", 422),
        ("a\\b.md", 422),
        ("evil.exe", 422),
        ("x" * 300 + ".md", 422),
        ("there.md", 409),
    ],
)
async def test_a_file_that_is_no_document_does_not_get_into_the_folder(port, name, status):
    (port.folder / "there.md").write_text("mine")
    assert (await port.upload(name, b"content"))[0] == status
    assert [path.name for path in port.folder.iterdir()] == ["there.md"]
    assert (port.folder / "there.md").read_text() == "mine"
    assert not (port.folder.parent / "out.md").exists()


async def test_a_file_that_is_too_large_leaves_nothing_behind(port, monkeypatch):
    monkeypatch.setattr("runner.rag.documents._MAX_TEXT_BYTES", 10)
    status, answer = await port.upload("long.md", b"x" * 1_000_000)
    assert (status, list(port.folder.iterdir())) == (413, [])
    assert "larger than" in answer["error"]


@pytest.mark.parametrize("name", ["%2e%2e%2fsecret.md", "link.md", "nothing.md"])
async def test_only_what_is_listed_can_be_removed(port, name):
    secret = port.folder.parent / "secret.md"
    secret.write_text("secret")
    (port.folder / "link.md").symlink_to(secret)
    url = URL(f"{port.url}/api/documents/{name}", encoded=True)
    async with port.client.delete(url, headers=CHANGE) as response:
        assert response.status == 404
    assert secret.read_text() == "secret"


# Instructions.


async def test_instructions_are_added_edited_activated_and_put_back(port):
    new = {"name": "night", "language": "en", "greeting": "Good night!", "instructions": "Be calm."}
    _, added = await port.post("/api/instructions", new)
    row = f"/api/instructions/{added['id']}"
    assert (await port.put(row, {"greeting": HOSTILE}))[0] == 200
    assert (await port.post(f"{row}/activate"))[0] == 200
    _, listed = await port.get("/api/instructions")
    assert [(one["greeting"], one["in_use"]) for one in listed] == [
        ("Hello!", False),
        (HOSTILE, True),
    ]
    _, history = await port.get(f"{row}/history")
    greetings = [change["content"]["greeting"] for change in history]
    assert (greetings[0], greetings[-1]) == (HOSTILE, "Good night!")
    restore = f"/api/instructions/history/{history[-1]['version']}/restore"
    assert (await port.post(restore))[0] == 200
    _, listed = await port.get("/api/instructions")
    assert listed[1]["greeting"] == "Good night!"
    assert (await port.post(f"{row}/deactivate"))[0] == 409
    changes = await port.changes()
    assert (
        "loopback",
        f"edit instructions {added['id']} (night)",
        {"greeting": "Good night!"},
        {"greeting": HOSTILE},
    ) in changes


@pytest.mark.parametrize(
    "body",
    [
        {"name": "a", "language": "en", "greeting": "", "instructions": ""},
        {"name": "a", "language": "<b>", "greeting": "", "instructions": "x"},
        {"name": "a\0", "language": "en", "greeting": "", "instructions": "x"},
        {"name": "a", "language": "en", "greeting": "", "instructions": "x", "more": 1},
        [],
    ],
)
async def test_what_is_no_instructions_is_refused(port, body):
    status, answer = await port.post("/api/instructions", body)
    assert (status, answer.keys()) == (422, {"error"})


# Settings and providers.


async def test_a_setting_is_set_for_new_calls_and_taken_back(port, engine):
    assert (await port.put("/api/settings/rag.top_k", {"value": 2}))[0] == 200
    assert await Store(engine).live_settings() == {"rag.top_k": 2}
    _, settings = await port.get("/api/settings")
    (found,) = [setting for setting in settings if setting["key"] == "rag.top_k"]
    assert (found["type"], found["composed"], found["live"]) == ("integer", 5, 2)
    assert (found["allowed"]["minimum"], found["allowed"]["maximum"]) == (1, 50)
    _, entries = await port.get("/api/configuration")
    origins = {entry["key"]: (entry["value"], entry["origin"]) for entry in entries}
    assert origins["rag.top_k"] == (2, "system_config")
    assert (await port.delete("/api/settings/rag.top_k"))[0] == 200
    _, entries = await port.get("/api/configuration")
    origins = {entry["key"]: (entry["value"], entry["origin"]) for entry in entries}
    assert origins["rag.top_k"] == (5, "command line")
    assert [what for _, what, *_ in await port.changes()] == ["unset rag.top_k", "set rag.top_k"]


@pytest.mark.parametrize(
    ("key", "value", "status"),
    [
        ("rag.top_k", "many", 422),
        ("rag.top_k", 0, 422),
        ("llm.max_tokens", 10**6, 422),
        ("database.host", "elsewhere", 404),
    ],
)
async def test_a_setting_that_no_call_could_have_is_refused(port, engine, key, value, status):
    assert (await port.put(f"/api/settings/{key}", {"value": value}))[0] == status
    assert await Store(engine).live_settings() == {}
    assert await port.changes() == []


async def test_a_provider_that_is_off_is_told_to_all_calls(port):
    board, told = port.office.switchboard, []
    board.listen(lambda: told.append(board.state(("LLM", "vllm"))))
    assert (await port.put("/api/providers/LLM/vllm", {"off": True}))[0] == 200
    assert (await port.put("/api/providers/LLM/vllm", {"off": False}))[0] == 200
    assert [str(state) for state in told] == ["off", "closed"]
    assert (await port.put("/api/providers/LLM/nobody", {"off": True}))[0] == 404
    off, on = {"off": True}, {"off": False}
    assert [entry[2:] for entry in await port.changes()] == [(off, on), (on, off)]


async def test_a_database_that_is_away_is_told_as_that(port, superuser):
    superuser.execute("DROP TABLE operator_audit")
    status, answer = await port.put("/api/settings/rag.top_k", {"value": 2})
    assert (status, "operator_audit" in answer["error"]) == (500, True)
    rows = superuser.execute("SELECT key FROM system_config WHERE key = 'rag.top_k'").fetchall()
    assert rows == []  # no change without its row in the audit table
