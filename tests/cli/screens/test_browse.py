from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
import signal
import socket
import sqlite3
import struct
import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from playwright.sync_api import APIResponse, Browser, Dialog, Page, Route, expect

from cli.screens.browse import create_app, serve
from pipeline.annotating.checkpoints import Sheet, open_sheet
from tests.browsers import running_browser
from tests.two_stage import N_RECORDS, OFFLINE, generated, staged
from tests.workspaces import finish, new_root, records, rows, start, write_config, write_lines
from tracker.errors import Conflict
from tracker.paths import Workspace
from tracker.record.decisions import close

TOKEN = "the-token"
HERE = "http://127.0.0.1:8123"
BAD = "<img src=x onerror=\"document.title = 'bad'\"></script><script>document.title = 'bad'</script>"
LONG = "x" * 300
GIVEN = {"number": 1, "verdict": "same", "note": "", "seen": 0}
DECISIONS = "SELECT position + 1, verdict, annotator, note, via, settles FROM decision ORDER BY id"


@pytest.fixture(scope="module")
def draft(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace at its review of four samples: the second is hostile, the third has no place to break a line."""
    root = new_root(tmp_path_factory.mktemp("draft"), N_RECORDS)
    given = records(N_RECORDS)
    given[1] |= {"premise": f"{BAD} The man fell.", "choice1": BAD}
    given[2] |= {"premise": f"The man {LONG} fell.", "choice2": LONG}
    write_lines(root / "Data/original/Copa/copa_train.jsonl", given)
    write_config(root, staged())
    generated(root)
    return root


@pytest.fixture
def root(draft: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(draft, tmp_path / "workspace", symlinks=True))


@contextlib.contextmanager
def opened(
    root: Path, annotator: str = "alice", *, environ: dict[str, str] | None = None, **given: Any
) -> Iterator[Sheet]:
    with open_sheet(Workspace(root, environ=environ or {}), OFFLINE, "review", annotator=annotator, **given) as sheet:
        yield sheet


@pytest.fixture
def sheet(root: Path) -> Iterator[Sheet]:
    with opened(root) as sheet:
        yield sheet


def bearing(token: str = TOKEN) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def admitted(sheet: Sheet) -> FlaskClient:
    """A client that brings the token each time."""
    client = create_app(sheet, TOKEN).test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = bearing()["Authorization"]
    return client


def look(client: FlaskClient) -> Any:
    return client.get("/state", base_url=HERE).get_json()


def answer(client: FlaskClient, number: int, verdict: str, seen: int, remark: str = "") -> Any:
    body = {"number": number, "verdict": verdict, "note": remark, "seen": seen}
    return client.post("/answers", base_url=HERE, json=body)


def close_review(sheet: Sheet) -> None:
    """What a running `generate` does with the decisions."""
    with contextlib.closing(sqlite3.connect(sheet.database.workspace.root / "tracker.db")) as database, database:
        database.execute("UPDATE generation_run SET status = 'running' WHERE id = 1")
    close(sheet.database, int(sheet.state.experiment["id"]), "review", {}, [], run_id=1)


def test_the_bare_page_knows_nothing(sheet: Sheet) -> None:
    page = create_app(sheet, TOKEN).test_client().get("/", base_url=HERE)
    assert page.status_code == 200
    for known in (TOKEN, OFFLINE, sheet.annotator, sheet.field, sheet.cards[0].original, sheet.cards[0].rephrased):
        assert known not in page.text


def test_no_answer_leaves_a_cookie(sheet: Sheet) -> None:
    client = admitted(sheet)
    for path in ("/", "/sheet", "/state", f"/?token={TOKEN}"):
        response = client.get(path, base_url=HERE)
        assert (response.status_code, "Set-Cookie" in response.headers) == (200, False)
    assert "Set-Cookie" not in answer(client, 1, "same", 0).headers


def test_every_answer_keeps_the_page_to_itself(sheet: Sheet) -> None:
    client = admitted(sheet)
    policies = set()
    for path, status in (("/", 200), ("/sheet", 200), ("/elsewhere", 404), ("/finish", 405)):
        response = client.get(path, base_url=HERE)
        assert response.status_code == status
        assert response.headers["X-Frame-Options"] == "DENY"
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["Referrer-Policy"] == "no-referrer"
        assert "default-src 'none'" in response.headers["Content-Security-Policy"]
        assert "unsafe" not in response.headers["Content-Security-Policy"]
        policies.add(response.headers["Content-Security-Policy"])
    assert len(policies) == 4  # each with a nonce of its own
    page = client.get("/", base_url=HERE).text
    assert not re.findall(r'(?:src|href)="(?!data:,)', page)


@pytest.mark.parametrize(
    ("given", "status", "words"),
    [
        ({"headers": {"Authorization": ""}}, 401, "needs the token"),
        ({"headers": bearing("wrong")}, 401, "Open the whole address"),
        ({"headers": bearing("t\u00f6ken")}, 401, "Open the whole address"),
        ({"headers": {"Authorization": TOKEN}}, 401, "needs the token"),
        ({"headers": {"Authorization": "", "Cookie": f"token={TOKEN}"}}, 401, "needs the token"),
        ({"headers": {"Authorization": ""}, "query_string": {"token": TOKEN}}, 401, "needs the token"),
        ({"headers": {"Host": "evil.example:8123"}}, 403, "on this machine"),
        ({"headers": {"Host": "127.0.0.1:8124"}}, 403, "on this machine"),
        ({"headers": {"Origin": "http://127.0.0.1:8124"}}, 403, "another page"),
        ({"headers": {"Origin": "null"}}, 403, "another page"),
        ({"json": None, "data": {"number": "1"}}, 415, "JSON"),
        ({"json": None, "data": '{"number": 1}', "content_type": "text/plain"}, 415, "JSON"),
        ({"json": {"number": 1}}, 400, "An answer has"),
        ({"json": [1]}, 400, "An answer has"),
        ({"json": None, "data": "{", "content_type": "application/json"}, 400, "Bad Request"),
        ({"json": GIVEN | {"verdict": "maybe"}}, 400, "same, not_the_same"),
        ({"json": GIVEN | {"number": 99}}, 400, "samples 1 to 4"),
        ({"json": GIVEN | {"number": True}}, 400, "An answer has"),
        ({"json": GIVEN | {"number": 1.0}}, 400, "An answer has"),
        ({"json": GIVEN | {"number": -1}}, 400, "An answer has"),
        ({"json": GIVEN | {"seen": 10**30}}, 400, "An answer has"),
        ({"json": GIVEN | {"seen": 2**63}}, 400, "An answer has"),
        ({"json": GIVEN | {"seen": False}}, 400, "An answer has"),
        ({"json": GIVEN | {"seen": -1}}, 400, "An answer has"),
        ({"json": GIVEN | {"note": None}}, 400, "An answer has"),
        ({"json": GIVEN | {"verdict": []}}, 400, "An answer has"),
        ({"json": None, "data": "[" * 60_000, "content_type": "application/json"}, 400, "An answer has"),
        ({"json": GIVEN | {"note": LONG * 300}}, 413, "Too Large"),
    ],
)
def test_what_is_not_the_persons_own_answer_is_refused(
    root: Path, sheet: Sheet, given: dict[str, Any], status: int, words: str
) -> None:
    response = admitted(sheet).post("/answers", base_url=HERE, **{"json": GIVEN} | given)
    assert response.status_code == status
    assert words in response.text
    assert rows(root, DECISIONS) == []


@pytest.mark.parametrize("path", ["/sheet", "/state", "/answers", "/finish", "/elsewhere"])
def test_all_but_the_bare_page_is_for_who_brings_the_token(sheet: Sheet, path: str) -> None:
    client = create_app(sheet, TOKEN, on_finish=lambda: pytest.fail("finished")).test_client()
    for response in (client.get(path, base_url=HERE), client.post(path, base_url=HERE, json=GIVEN)):
        assert (response.status_code, response.headers["WWW-Authenticate"]) == (401, "Bearer")
        assert "needs the token" in response.text


def test_another_name_gets_not_even_the_bare_page(sheet: Sheet) -> None:
    client = create_app(sheet, TOKEN).test_client()
    assert client.get("/", base_url=HERE, headers={"Host": "evil.example:8123"}).status_code == 403


def test_an_answer_in_the_address_is_refused(root: Path, sheet: Sheet) -> None:
    assert admitted(sheet).get("/answers?number=1&verdict=same&note=&seen=0", base_url=HERE).status_code == 405
    assert rows(root, DECISIONS) == []


def test_localhost_is_this_machine_too(sheet: Sheet) -> None:
    assert admitted(sheet).get("/sheet", base_url="http://localhost:8123").status_code == 200


def test_the_sheet_has_what_a_person_decides_by(sheet: Sheet) -> None:
    sheet.answer(sheet.cards[0], "skipped", note="unsure")
    client = admitted(sheet)
    texts, found = client.get("/sheet", base_url=HERE).get_json()["samples"], look(client)
    assert found["counts"] == {"same": 0, "not_the_same": 0, "skipped": 1, "disputed": 0, "waits": 3}
    assert sheet.cards[0].original not in json.dumps(found)  # texts are sent once
    first, second = (text | card for text, card in zip(texts[:2], found["cards"][:2], strict=True))
    assert "".join(text for text, _ in first["original"]) == "The man in house 000 fell."
    assert "".join(text for text, _ in first["rephrased"]) == sheet.cards[0].rephrased
    assert [name for name, _ in first["fields"]] == ["choice1", "choice2", "question", "idx", "label"]
    assert dict(map(tuple, first["fields"]))["idx"] == "0"
    assert (first["state"], first["waits"], first["note"]) == ("skipped", False, "unsure")
    assert re.fullmatch(
        "You \\(alice\\): skipped, [-0-9]+ [:0-9]+ UTC, in the terminal, \u201cunsure\u201d", *first["decisions"]
    )
    assert (second["state"], second["waits"], second["decisions"]) == ("waits", True, [])


def test_an_answer_is_saved_as_the_terminal_saves_it(root: Path, sheet: Sheet) -> None:
    client = admitted(sheet)
    found = answer(client, 3, "not_the_same", look(client)["seen"], "half \ud800 a \0 character").get_json()
    assert rows(root, DECISIONS) == [(3, "not_the_same", "alice", "half ? a  character", "web", 0)]
    assert found["told"] is None
    assert found["state"]["counts"]["not_the_same"] == 1


def test_the_end_names_the_next_command(sheet: Sheet) -> None:
    client = admitted(sheet)
    for number in range(1, 5):
        found = answer(client, number, "same", 0).get_json()["state"]
    assert re.fullmatch(r"synthtrack generate \S*copa.yaml --batch first", found["next"])
    assert found["counts"]["waits"] == 0


def test_who_decides_independently_does_not_see_others(root: Path) -> None:
    with opened(root, "bob") as bob, opened(root, independent=True) as sheet:
        client = admitted(sheet)
        seen = look(client)["seen"]
        bob.answer(bob.cards[0], "same", note="obviously")
        found = look(client)
        assert (found["cards"][0]["state"], found["cards"][0]["decisions"]) == ("waits", [])
        reply = answer(client, 1, "not_the_same", seen).get_json()
    assert (reply["told"], reply["state"]["cards"][0]["state"]) == (None, "not_the_same")
    assert rows(root, DECISIONS)[-1] == (1, "not_the_same", "alice", "", "web", 0)


def test_who_decides_meanwhile_is_named_and_only_what_was_shown_is_settled(root: Path) -> None:
    with opened(root, "bob") as bob, opened(root, "carol") as carol, opened(root) as sheet:
        client = admitted(sheet)
        bob.answer(bob.cards[0], "same")
        seen = look(client)["seen"]
        carol.answer(carol.cards[0], "not_the_same", note="no")
        look(client)  # another tab sees it, the page does not
        reply = answer(client, 1, "same", seen).get_json()
        assert "carol rejected sample 1 a moment ago." in reply["told"]
        assert "bob" not in reply["told"]
        assert "sample 1 is disputed until one of you settles it" in reply["told"]
        assert reply["state"]["cards"][0]["state"] == "disputed"
        settled = answer(client, 1, "same", reply["state"]["seen"]).get_json()
    assert (settled["told"], settled["state"]["cards"][0]["state"]) == (None, "same")
    assert [row[-1] for row in rows(root, DECISIONS)] == [0, 0, 0, 1]


def test_a_closed_checkpoint_is_told_in_words(root: Path, sheet: Sheet) -> None:
    client = admitted(sheet)
    assert look(client)["closed"] is None
    close_review(sheet)
    response = answer(client, 1, "same", 0)
    assert response.status_code == 409
    assert f"The review of {OFFLINE} is closed" in response.text
    assert look(client)["closed"] == response.text.strip()
    assert rows(root, DECISIONS) == []


def test_a_locked_database_is_told_in_words(root: Path) -> None:
    with (
        opened(root, environ={"SYNTHTRACK_BUSY_TIMEOUT": "0.05"}) as sheet,
        contextlib.closing(sqlite3.connect(root / "tracker.db", isolation_level=None)) as other,
    ):
        client = admitted(sheet)
        other.execute("BEGIN IMMEDIATE")
        response = answer(client, 1, "same", 0)
        assert (response.status_code, "is locked by another program" in response.text) == (503, True)
        other.execute("ROLLBACK")
        assert answer(client, 1, "same", 0).status_code == 200
    assert [row[0] for row in rows(root, DECISIONS)] == [1]


def test_a_port_in_use_is_told_in_words(sheet: Sheet) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(Conflict, match="cannot be used"):
        serve(sheet, port=taken.getsockname()[1])


def test_an_answer_that_is_being_saved_is_saved_before_it_ends(root: Path) -> None:
    with (
        opened(root, environ={"SYNTHTRACK_BUSY_TIMEOUT": "60"}) as sheet,
        contextlib.closing(sqlite3.connect(root / "tracker.db", isolation_level=None)) as other,
        serving(sheet) as server,
    ):
        other.execute("BEGIN IMMEDIATE")
        saving = threading.Thread(target=post, args=(server.base, server.token, "answers", GIVEN))
        saving.start()
        while not is_busy(server):
            assert saving.is_alive()
        post(server.base, server.token, "finish", {})
        server.thread.join(1)
        assert server.thread.is_alive()
        other.execute("ROLLBACK")
        server.thread.join(30)
        assert not server.thread.is_alive()
        assert [row[:2] for row in rows(root, DECISIONS)] == [(1, "same")]
        saving.join(30)


def test_ctrl_c_ends_the_server_and_keeps_the_answers(root: Path) -> None:
    process = start(root, "review", OFFLINE, "--web", "--annotator", "alice")
    assert process.stderr is not None
    base, _, token = process.stderr.readline().split()[-1].partition("#token=")
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", base)
    assert process.stderr.readline() == "Ctrl-C ends it; every answer is saved.\n"
    post(base, token, "answers", GIVEN | {"number": 2})
    process.send_signal(signal.SIGINT)
    done = finish(process)
    assert (done.code, done.err) == (0, "Stopped.\n")
    assert "1 approved" in done.out
    assert [row[:2] for row in rows(root, DECISIONS)] == [(2, "same")]


def post(base: str, token: str, path: str, body: dict[str, Any]) -> Any:
    headers = {"Content-Type": "application/json", **bearing(token)}
    asked = urllib.request.Request(f"{base}{path}", json.dumps(body).encode(), headers)
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(asked) as response:
        return json.load(response)


def is_busy(server: Serving) -> bool:
    """Whether an answer is being saved, for which every look at what is decided waits."""
    asked = urllib.request.Request(f"{server.base}state", headers=bearing(server.token))
    try:
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(asked, timeout=1).close()
    except TimeoutError:
        return True
    return False


class Serving:
    """A sheet that is being served: where, and how it ends."""

    def __init__(self, sheet: Sheet) -> None:
        self.said = io.StringIO()
        self.thread = threading.Thread(target=serve, args=(sheet,))
        with contextlib.redirect_stderr(self.said):
            self.thread.start()
            while "Ctrl-C" not in self.said.getvalue():
                assert self.thread.is_alive()
        self.address = str(re.findall(r"http\S+", self.said.getvalue())[0])
        self.base, _, self.token = self.address.partition("#token=")

    def end(self) -> None:
        if self.thread.is_alive():
            post(self.base, self.token, "finish", {})
        self.thread.join(30)
        assert not self.thread.is_alive()


@contextlib.contextmanager
def serving(sheet: Sheet) -> Iterator[Serving]:
    found = Serving(sheet)
    try:
        yield found
    finally:
        found.end()


@pytest.mark.parametrize("attempt", range(5))
def test_finish_ends_it_even_if_nobody_reads_the_answer(sheet: Sheet, attempt: int) -> None:
    with serving(sheet) as server:
        host = server.base.removeprefix("http://").removesuffix("/")
        head = f"Host: {host}\r\nAuthorization: Bearer {server.token}\r\nContent-Type: application/json\r\n"
        with socket.create_connection(("127.0.0.1", int(host.partition(":")[2]))) as tab:
            tab.sendall(f"POST /finish HTTP/1.1\r\n{head}Content-Length: 2\r\n\r\n{{}}".encode())
            assert tab.recv(1)
            # The rest is not read, which resets the connection: a tab that is closed.
            tab.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        server.thread.join(30)
        assert not server.thread.is_alive()


@contextlib.contextmanager
def listening(told: list[str]) -> Iterator[str]:
    """Another server on this machine, and all that it is told."""

    class Keep(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            told.append(f"{self.requestline}\n{self.headers}")
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name it has above
            """Prints nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Keep) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="module")
def browser(draft: Path) -> Iterator[Browser]:  # the draft first: its engine wants an event loop of its own
    with running_browser() as found:
        yield found


@contextlib.contextmanager
def visiting(browser: Browser, address: str, **context: Any) -> Iterator[Page]:
    """The page of a person; nothing may be wrong with it that only the console tells."""
    wrong: list[str] = []
    with contextlib.closing(browser.new_context(**context)) as visitor:
        page = visitor.new_page()
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
        page.goto(address)
        expect(page.locator("#heading")).not_to_be_empty()
        yield page
        # What the page itself tells is no secret of the console.
        assert [text for text in wrong if not text.startswith("Failed to load resource")] == []


def press(page: Page, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def test_a_whole_review_by_keyboard(root: Path, sheet: Sheet, browser: Browser) -> None:
    heading, end = "#heading", "#end"
    with serving(sheet) as server, visiting(browser, server.address) as page:
        assert "token" not in page.url
        expect(page.locator(heading)).to_have_text("Sample 1 · 1 of 4")
        expect(page.locator("#purpose")).to_have_text("an example for the others, if approved")
        assert page.locator("del").count()
        assert page.locator("ins").count()
        press(page, "?")
        expect(page.get_by_role("dialog")).to_be_visible()
        press(page, "y")  # asks for nothing while the keys are shown
        press(page, "?")
        expect(page.get_by_role("dialog")).to_be_hidden()
        press(page, "y")
        expect(page.locator(heading)).to_have_text("Sample 2 · 2 of 4")
        press(page, "e", *"no sun", "Escape", "n")
        expect(page.locator(heading)).to_have_text("Sample 3 · 3 of 4")
        press(page, "s")
        expect(page.locator(heading)).to_have_text("Sample 4 · 4 of 4")
        expect(page.get_by_role("progressbar")).to_have_attribute("value", "3")
        press(page, "ArrowLeft", "ArrowLeft")
        expect(page.locator("#note")).to_have_value("no sun")
        press(page, "ArrowRight", "ArrowLeft", "Y")
        expect(page.locator(heading)).to_have_text("Sample 4 · 4 of 4")
        expect(page.locator("#live")).to_contain_text("3 of 4 decided")
        press(page, "y")
        expect(page.locator(end)).to_contain_text("Nothing waits any more.")
        expect(page.locator(end)).to_contain_text("copa.yaml --batch first")
        expect(page.locator("#numbers tr")).to_have_text(["approved3", "skipped1"])
        press(page, "Tab", "Enter")
        expect(page.locator(end)).to_contain_text("Finished.")
        server.thread.join(30)
        assert not server.thread.is_alive()
    assert rows(root, DECISIONS) == [
        (1, "same", "alice", "", "web", 0),
        (2, "not_the_same", "alice", "no sun", "web", 0),
        (3, "skipped", "alice", "", "web", 0),
        (2, "same", "alice", "no sun", "web", 0),
        (4, "same", "alice", "", "web", 0),
    ]


def test_a_key_that_is_held_answers_once(root: Path, sheet: Sheet, browser: Browser) -> None:
    with serving(sheet) as server, visiting(browser, server.address) as page:
        page.keyboard.down("y")
        expect(page.locator("#heading")).to_have_text("Sample 2 · 2 of 4")
        for _ in range(3):
            page.keyboard.down("y")
        page.keyboard.up("y")
        press(page, "n")
        expect(page.locator("#heading")).to_have_text("Sample 3 · 3 of 4")
    assert [row[:2] for row in rows(root, DECISIONS)] == [(1, "same"), (2, "not_the_same")]


def test_coming_back_starts_where_it_stopped(sheet: Sheet, browser: Browser) -> None:
    sheet.answer(sheet.cards[0], "same")
    with serving(sheet) as server, visiting(browser, server.address) as page:
        expect(page.locator("#heading")).to_have_text("Sample 2 · 2 of 4")
        page.get_by_role("button", name="Sample 1, approved").click()
        expect(page.locator("#decisions li")).to_contain_text(["You (alice): approved"])


def test_hostile_texts_are_shown_and_do_not_run(root: Path, browser: Browser) -> None:
    with opened(root, BAD) as other, opened(root) as sheet:
        other.answer(other.cards[1], "same", note=BAD)
        with serving(sheet) as server, visiting(browser, server.address) as page:
            page.get_by_role("button", name="Sample 2, approved").click()
            expect(page.locator("#original")).to_have_text(f"{BAD} The man fell.")
            expect(page.locator("#fields dd").first).to_have_text(BAD)
            expect(page.locator("#decisions li")).to_contain_text([f"{BAD}: approved"])
            expect(page.locator("#decisions li")).to_contain_text([f"\u201c{BAD}\u201d"])
            press(page, "e")
            page.keyboard.insert_text(BAD)
            press(page, "Escape", "n")
            expect(page.locator("#notices")).to_be_attached()
            expect(page.locator("#heading")).to_have_text("Sample 3 · 3 of 4")
            assert "bad" not in page.title()
            assert page.locator("img").count() == 0
    assert rows(root, DECISIONS)[-1][3] == BAD


def test_a_note_keeps_its_lines(root: Path, sheet: Sheet, browser: Browser) -> None:
    with serving(sheet) as server, visiting(browser, server.address) as page:
        press(page, "e", *"no", "Enter", *"sun", "Escape", "n")
        expect(page.locator("#heading")).to_contain_text("Sample 2")
        press(page, "ArrowLeft")
        expect(page.locator("#note")).to_have_value("no\nsun")
        assert "\u201cno\nsun\u201d" in page.locator("#decisions li").inner_text()
    assert [row[3] for row in rows(root, DECISIONS)] == ["no\nsun"]


def test_a_note_that_is_not_saved_is_named_before_it_is_lost(root: Path, sheet: Sheet, browser: Browser) -> None:
    with serving(sheet) as server, visiting(browser, server.address) as page:
        asked: list[str] = []

        def stay(dialog: Dialog) -> None:
            asked.append(dialog.type)
            dialog.dismiss()

        page.on("dialog", stay)
        press(page, "e", *"why", "Escape", "ArrowRight", "e", "x", "Backspace", "Escape")
        page.get_by_role("button", name="Summary").click()
        expect(page.locator("#unsaved")).to_contain_text("Your note on sample 1 is not saved")
        expect(page.locator("#unsaved > *")).to_have_count(1)
        expect(page.get_by_role("button", name="Finish without these notes")).to_be_visible()
        page.evaluate("() => { setTimeout(() => location.reload()); }")
        while not asked:
            page.wait_for_timeout(10)
        assert asked == ["beforeunload"]
        page.get_by_role("button", name="Look at 1").click()
        expect(page.locator("#note")).to_have_value("why")
        press(page, "y")
        expect(page.locator("#heading")).to_contain_text("Sample 2")
        page.get_by_role("button", name="Summary").click()
        expect(page.locator("#unsaved > *")).to_have_count(0)
        expect(page.get_by_role("button", name="Finish", exact=True)).to_be_visible()
        page.reload()
        expect(page.locator("#heading")).to_contain_text("Sample 2")
        assert asked == ["beforeunload"]
    assert [row[3] for row in rows(root, DECISIONS)] == ["why"]


def test_a_note_that_grows_while_the_answer_is_sent_is_not_lost(root: Path, sheet: Sheet, browser: Browser) -> None:
    with serving(sheet) as server, visiting(browser, server.address) as page:
        held: list[Route] = []
        page.route("**/answers", lambda route: held.append(route))  # noqa: PLW0108 - Playwright marks what it is given
        press(page, "e", "a", "Escape", "y", "e", "b")
        while not held:
            page.wait_for_timeout(10)
        held[0].continue_()
        expect(page.locator("#heading")).to_contain_text("Sample 2")
        page.get_by_role("button", name="Summary").click()
        expect(page.locator("#unsaved")).to_contain_text("Your note on sample 1 is not saved")
    assert [row[3] for row in rows(root, DECISIONS)] == ["a"]


def test_a_look_that_arrives_late_does_not_undo_an_answer(sheet: Sheet, browser: Browser) -> None:
    with serving(sheet) as server, visiting(browser, server.address) as page:
        held: list[tuple[Route, APIResponse]] = []

        def hold(route: Route) -> None:
            held.append((route, route.fetch()))

        page.route("**/state", hold)
        page.evaluate("() => void window.dispatchEvent(new Event('focus'))")
        while not held:
            page.wait_for_timeout(10)
        press(page, "y")
        expect(page.get_by_role("button", name="Sample 1, approved")).to_be_visible()
        with page.expect_response("**/state"):
            held[0][0].fulfill(response=held[0][1])
        page.wait_for_timeout(100)
        expect(page.get_by_role("button", name="Sample 1, approved")).to_be_visible()


def test_a_key_of_an_input_method_is_not_a_key_of_the_page(sheet: Sheet, browser: Browser) -> None:
    with serving(sheet) as server, visiting(browser, server.address) as page:
        press(page, "e")
        typed = "new KeyboardEvent('keydown', {key: 'Escape', bubbles: true, isComposing: true})"
        page.evaluate(f"() => void document.activeElement.dispatchEvent({typed})")
        expect(page.locator("#note")).to_be_focused()
        press(page, "Escape")
        expect(page.locator("#note")).not_to_be_focused()


def test_what_hides_in_a_text_is_shown(sheet: Sheet, browser: Browser) -> None:
    hidden, shown = "a\u202eb\u200bc\ufeff\x1b\u00a0d", "a<U+202E>b<U+200B>c<U+FEFF>\u241b d"
    first, second, third = sheet.cards[:3]
    first.original, first.rephrased = f"The man fell. {hidden}", "The man fell."
    first.record |= {"choice1": hidden, hidden: {"inner": hidden}}
    second.original = second.rephrased = hidden
    third.original, third.rephrased = "The man  fell.", "The man\u00a0fell."
    with opened(sheet.database.workspace.root, f"bob{hidden}") as bob:
        bob.answer(bob.cards[0], "same", note=hidden)
    with serving(sheet) as server, visiting(browser, server.address) as page:
        page.get_by_role("button", name="Sample 1, approved").click()
        expect(page.locator("#original")).to_have_text(f"The man fell. {shown}")
        expect(page.locator("#rephrased ins")).to_have_count(0)
        expect(page.locator("#fields")).to_contain_text(shown)
        expect(page.locator("#fields dt").last).to_have_text(shown)
        expect(page.locator("#fields dd").last).to_contain_text('{"inner": "a<U+202E>')
        expect(page.locator("#decisions li")).to_contain_text([f"bob{shown}: approved"])
        expect(page.locator("#decisions li")).to_contain_text([f"\u201c{shown}\u201d"])
        expect(page.locator("#alike")).to_be_hidden()
        press(page, "n")
        expect(page.locator("#notices")).to_contain_text(f"bob{shown} approved sample 1")
        expect(page.locator("#heading")).to_contain_text("Sample 2")
        expect(page.locator("#alike")).to_have_text("The two texts are equal.")
        press(page, "ArrowRight")
        expect(page.locator("#alike")).to_have_text("Only blanks differ.")
        assert page.locator("#original").inner_text() == "The man  fell."
        assert not set("\u202e\u200b\ufeff\x1b") & set(page.inner_text("body"))


@pytest.mark.parametrize("width", [360, 390])
def test_a_phone_needs_no_scrolling_to_the_side(sheet: Sheet, browser: Browser, width: int) -> None:
    phone = {"viewport": {"width": width, "height": 640}, "is_mobile": True, "has_touch": True}
    with serving(sheet) as server, visiting(browser, server.address, **phone) as page:
        page.locator("summary").click()
        for number in (1, 2, 3):
            page.get_by_role("button", name=f"Sample {number}, waits").click()
            scroll, client = page.evaluate(
                "() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
            )
            assert scroll <= client == width
            before, after = (page.locator(place).bounding_box() for place in ("#original", "#rephrased"))
            assert before is not None
            assert after is not None
            assert after["y"] >= before["y"] + before["height"]
            for name in ("Approve", "Reject", "Skip"):
                box = page.get_by_role("button", name=name).bounding_box()
                assert box is not None
                assert (box["height"] >= 44, box["y"] + box["height"] <= 640) == (True, True)
        page.get_by_role("button", name="Skip").tap()
        expect(page.locator("#heading")).to_have_text("Sample 4 · 4 of 4")


def test_dark_where_the_system_is(sheet: Sheet, browser: Browser) -> None:
    with serving(sheet) as server:
        shades = []
        for scheme in ("light", "dark"):
            with visiting(browser, server.address, color_scheme=scheme) as page:
                shades.append(page.evaluate("() => getComputedStyle(document.body).backgroundColor"))
    light, dark = (sum(map(int, re.findall(r"\d+", shade))) for shade in shades)
    assert dark < 200
    assert light > 600


@pytest.mark.parametrize("end", ["", "#token=wrong", "#"])
def test_without_the_token_there_is_nothing_to_see(sheet: Sheet, browser: Browser, end: str) -> None:
    with serving(sheet) as server, contextlib.closing(browser.new_context()) as stranger:
        page = stranger.new_page()
        page.goto(f"{server.base}{end}")
        expect(page.get_by_role("alert")).to_contain_text("Open the whole address that synthtrack printed")
        expect(page.locator("#card")).to_be_hidden()
        assert OFFLINE not in page.content()
        # The right address in the same tab, of which only the end differs.
        page.evaluate("address => { location.href = address; }", server.address)
        expect(page.locator("#heading")).to_contain_text("Sample 1")
        assert page.url == server.base


def test_the_token_stays_in_the_tab_at_this_address(sheet: Sheet, browser: Browser) -> None:
    """Any other server of this machine that the browser visits, before or after, is told nothing."""
    told: list[str] = []
    with serving(sheet) as server, listening(told) as elsewhere, contextlib.closing(browser.new_context()) as context:
        page = context.new_page()
        page.goto(server.address)
        page.reload()
        expect(page.locator("#heading")).to_contain_text("Sample 1")
        press(page, "y")
        expect(page.locator("#heading")).to_contain_text("Sample 2")
        assert context.cookies() == []
        for visitor in (page, context.new_page()):
            visitor.goto(elsewhere)
            assert visitor.evaluate("() => [sessionStorage.length, localStorage.length, document.cookie]") == [0, 0, ""]
            visitor.evaluate("base => fetch(base, {mode: 'no-cors', credentials: 'include'}).then(() => 0)", elsewhere)
            refused = "() => 'refused', () => 'refused'"
            ask = f"base => fetch(`${{base}}sheet`, {{headers: {{Authorization: 'Bearer x'}}}}).then({refused})"
            assert visitor.evaluate(ask, server.base) == "refused"
        page.go_back()
        expect(page.locator("#heading")).to_contain_text("Sample 2")
    assert len(told) >= 4
    assert all(server.token not in request and "Cookie" not in request for request in told)


def test_a_tab_without_storage_works_until_it_is_loaded_again(sheet: Sheet, browser: Browser) -> None:
    forbidden = (
        "Object.defineProperty(window, 'sessionStorage', {get() { throw new DOMException('', 'SecurityError'); }})"
    )
    with serving(sheet) as server, contextlib.closing(browser.new_context()) as context:
        context.add_init_script(forbidden)
        page = context.new_page()
        page.goto(server.address)
        expect(page.locator("#heading")).to_contain_text("Sample 1")
        press(page, "y")
        expect(page.locator("#heading")).to_contain_text("Sample 2")
        page.reload()
        expect(page.get_by_role("alert")).to_contain_text("needs the token")


def test_two_people_at_once(root: Path, browser: Browser) -> None:
    with (
        opened(root, "alice") as first,
        opened(root, "bob") as second,
        serving(first) as one,
        serving(second) as two,
        visiting(browser, one.address) as alice,
    ):
        # In one browser, where the two know nothing of each other.
        bob = alice.context.new_page()
        bob.goto(two.address)
        expect(bob.locator("#heading")).to_have_text("Sample 1 · 1 of 4")
        press(bob, "n")
        expect(bob.locator("#heading")).to_have_text("Sample 2 · 2 of 4")
        press(alice, "y")
        expect(alice.locator("#notices")).to_contain_text("bob rejected sample 1 a moment ago.")
        expect(alice.locator("#notices")).to_contain_text("sample 1 is disputed")
        expect(alice.locator("#heading")).to_have_text("Sample 2 · 2 of 4")
        alice.get_by_role("button", name="Look at 1").click()
        expect(alice.locator("#differ")).to_be_visible()
        expect(alice.locator("#decisions li")).to_contain_text(["bob: rejected", "You (alice): approved"])
        press(alice, "y")
        expect(alice.get_by_role("button", name="Sample 1, approved")).to_be_visible()
        bob.evaluate("() => void window.dispatchEvent(new Event('focus'))")
        expect(bob.get_by_role("button", name="Sample 1, approved")).to_be_visible()
    assert [(row[2], row[1], row[5]) for row in rows(root, DECISIONS)] == [
        ("bob", "not_the_same", 0), ("alice", "same", 0), ("alice", "same", 1),
    ]  # fmt: skip


def test_an_answer_that_comes_too_late_is_not_lost_in_silence(root: Path, sheet: Sheet, browser: Browser) -> None:
    with serving(sheet) as server, visiting(browser, server.address) as page:
        press(page, "e", *"why", "Escape")
        close_review(sheet)
        press(page, "y")
        expect(page.get_by_role("alert")).to_contain_text("Your answer to sample 1 (approved) is not saved.")
        expect(page.get_by_role("alert")).to_contain_text(f"The review of {OFFLINE} is closed")
        expect(page.locator("#heading")).to_have_text("Sample 1 · 1 of 4")
        expect(page.locator("#note")).to_have_value("why")
        server.end()
        press(page, "n")
        expect(page.get_by_role("alert")).to_contain_text("(rejected) may not be saved. synthtrack does not answer.")
    assert rows(root, DECISIONS) == []
