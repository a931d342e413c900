"""A checkpoint in the browser, for one person on this machine: who may see it, what the page is told, the server."""

from __future__ import annotations

import functools
import secrets
import socket
import threading
from collections.abc import Callable, Iterator

from flask import Flask, Response, g, jsonify, render_template, request
from flask.json.provider import DefaultJSONProvider
from werkzeug.exceptions import HTTPException
from werkzeug.serving import WSGIRequestHandler, make_server

from cli.render import harmless, note
from cli.screens.browse_text import about, described
from cli.screens.review_text import told
from cli.text.next_command import next_command
from pipeline.annotating.checkpoints import VERDICTS, Sheet, check_step, chosen_numbers
from pipeline.two_stage import load
from tracker.errors import Conflict, Error, UnknownReference, WrongStep
from tracker.fingerprint import Json
from tracker.listings import listings
from tracker.record.catalogue import reading

HOST = "127.0.0.1"
_LARGEST_ANSWER = 64 * 1024
_LARGEST_NUMBER = 2**31 - 1
_POLL_S = 0.1
_OPEN_AGAIN = "Open the whole address that synthtrack printed in the terminal, with its token."
_HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


def serve(sheet: Sheet, *, port: int = 0) -> None:
    """Shows the sheet in the browser until Ctrl-C, or until the person presses Finish; port 0 is any free one.

    Raises Conflict where the port cannot be had.
    """
    token, lock, finished = secrets.token_urlsafe(), threading.Lock(), threading.Event()
    app = create_app(sheet, token, lock=lock, on_finish=finished.set)
    with _listening(port) as listener:
        # Given a socket, werkzeug prints nothing, and leaves what is wrong with the port to us.
        server = make_server(HOST, 0, app, threaded=True, request_handler=_Quiet, fd=listener.fileno())
        threading.Thread(target=server.serve_forever, args=(_POLL_S,), daemon=True).start()
        try:
            note(f"Open this in your browser: http://{HOST}:{server.port}/#token={token}")
            note("Ctrl-C ends it; every answer is saved.")
            finished.wait()
            note("Finished in the browser.")
        except KeyboardInterrupt:
            note("Stopped.")
        finally:
            server.shutdown()
            server.server_close()
            # An answer that is being saved is saved to its end; none begins after that.
            lock.acquire()


def create_app(
    sheet: Sheet,
    token: str,
    *,
    lock: threading.Lock | None = None,
    on_finish: Callable[[], object] = lambda: None,
) -> Flask:
    """The page of a sheet, and all that it asks for, which is only for who brings the token.

    ``on_finish`` is called once the answer to Finish is sent.
    """
    app = Flask(__name__, static_folder=None, template_folder=".")
    app.config["MAX_CONTENT_LENGTH"] = _LARGEST_ANSWER
    app.json = _InOrder(app)
    app.register_error_handler(Error, _explained)
    lock = lock or threading.Lock()
    texts = functools.cache(lambda: about(sheet))

    @app.before_request
    def guard() -> None:
        g.nonce = secrets.token_urlsafe(16)
        _admit(token)

    @app.after_request
    def harden(response: Response) -> Response:
        response.headers.update(_HEADERS)
        response.headers["Content-Security-Policy"] = _policy(g.nonce)
        return response

    @app.get("/")
    def page() -> str:
        return render_template("browse.html", nonce=g.nonce)

    @app.get("/sheet")
    def show() -> Response:
        return jsonify(texts())

    @app.get("/state")
    def look() -> Response:
        with lock:
            sheet.refresh()
            return jsonify(_described(sheet))

    @app.post("/answers")
    def answer() -> Response:
        number, verdict, remark, seen = _given()
        with lock:
            try:
                card = chosen_numbers(sheet, [number])[0]
            except UnknownReference as error:
                raise _refused(400, str(error)) from error
            # What the page showed, however much another tab has seen since.
            sheet.refresh(seen=seen)
            others = sheet.answer(card, verdict, note=remark, via="web")
            known = told(sheet, card, others)
            return jsonify({"state": _described(sheet), "told": harmless(known) if known else None})

    @app.post("/finish")
    def finish() -> Response:
        def body() -> Iterator[bytes]:
            # Werkzeug closes no response whose reader has gone; a generator ends all the same.
            try:
                yield b"{}"
            finally:
                on_finish()

        return Response(body(), mimetype="application/json", headers={"Content-Length": "2"})

    return app


def _described(sheet: Sheet) -> dict[str, Json]:
    workspace = sheet.database.workspace
    with reading(workspace) as reader:
        row = listings.experiment(reader, sheet.reference, workspace)
        state, runs = load(reader, row), listings.generation_runs(reader, row["id"])
    try:
        check_step(state, sheet.checkpoint, sheet.cards)
        closed = None
    except WrongStep as error:
        closed = str(error)
    return described(sheet, following=next_command(state, runs), closed=closed)


def _admit(token: str) -> None:
    """Refuses what is not a request of the person who was given the token; the bare page is for everybody here.

    The token is no cookie: these know no ports, and any other server of this machine would be sent it.
    """
    port, host = request.environ["SERVER_PORT"], request.headers.get("Host", "")
    # Another name that leads here is a page elsewhere that rebinds its own (DNS rebinding).
    if host not in {f"{HOST}:{port}", f"localhost:{port}"}:
        raise _refused(403, f"This is only for a browser on this machine, at http://{HOST}:{port}/. {_OPEN_AGAIN}")
    if request.headers.get("Origin", f"http://{host}") != f"http://{host}":
        raise _refused(403, "This request came from another page.")
    if request.path != "/" and not _equal(request.headers.get("Authorization", ""), f"Bearer {token}"):
        raise _refused(401, f"This page needs the token of the review that is running. {_OPEN_AGAIN}")
    if request.method == "POST" and request.mimetype != "application/json":
        raise _refused(415, "Answers are sent as JSON.")


def _equal(given: str, expected: str) -> bool:
    return secrets.compare_digest(given.encode(errors="replace"), expected.encode())


def _policy(nonce: str) -> str:
    return (
        f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'"
    )


def _given() -> tuple[int, str, str, int]:
    try:
        body = request.get_json()
    except RecursionError:
        body = None
    match body:
        case {"number": number, "verdict": str(verdict), "note": str(remark), "seen": seen} if (
            verdict in VERDICTS and _is_count(number) and _is_count(seen)
        ):
            # What no database can hold: half a character, and on PostgreSQL the null.
            return number, verdict, remark.encode(errors="replace").decode().replace("\0", ""), seen
    raise _refused(400, f"An answer has number, verdict ({', '.join(VERDICTS)}), note and seen.")


def _is_count(value: object) -> bool:
    # To Python true is a number; and a database's numbers end.
    return type(value) is int and 0 <= value <= _LARGEST_NUMBER


def _explained(error: Error) -> Response:
    return _said(str(error), 409 if isinstance(error, WrongStep) else 503)


def _refused(status: int, text: str) -> HTTPException:
    return HTTPException(response=_said(text, status))


def _said(text: str, status: int) -> Response:
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
    return Response(f"{harmless(text)}\n", status, headers, mimetype="text/plain")


def _listening(port: int) -> socket.socket:
    try:
        return socket.create_server((HOST, port))
    except (OSError, OverflowError) as error:
        raise Conflict(
            f"Port {port} of {HOST} cannot be used: {getattr(error, 'strerror', None) or error}.",
            hint="Leave the port away: a free one is taken.",
        ) from error


class _InOrder(DefaultJSONProvider):
    """Leaves what is shown in its order."""

    sort_keys = False


class _Quiet(WSGIRequestHandler):
    """Leaves the terminal to what synthtrack says; tracebacks are printed elsewhere."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Prints nothing."""

    def log_error(self, template: str, *args: object) -> None:
        """Prints nothing."""
