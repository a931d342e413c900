"""The page of a report: whole in itself, harmless whatever is in the record, and fit for any screen."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import sqlite3
from collections.abc import Iterator
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from cli.text import report_figures as figures
from cli.text.report_figures import Mark, Spot
from tests import records
from tests.browsers import running_browser
from tests.records import (
    add_batch,
    add_experiment,
    add_membership,
    add_run,
    add_sample,
    add_source,
    temperature_study,
)
from tests.training_rows import BATCH, COOL, HOT, Trained, add_sweep, training_study, workspace_with_data
from tests.workspaces import call
from tracker.paths import Workspace
from tracker.record.database import open_database

SCRIPT = "<script>document.title = 'taken'</script><img src=x onerror=\"document.title='taken'\">"
TURNED = "right \u202eotat a\u202c to left \u05d0\u05d1\u05d2 \u0645\u0631\u062d\u0628\u0627 \U0001f469\u200d\U0001f680"
LONG = "abcdefghij" * 1_000
WIDTHS = (360, 1280)
N_MANY = 2_000


class Parsed(HTMLParser):
    """The elements of a page with their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.pieces: list[str] = []
        self.feed(page.replace("<wbr>", ""))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.pieces.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.pieces).split())


def written(root: Path, name: str, *arguments: str) -> str:
    """The page that the command writes."""
    done = call(root, "report", name, "-o", "page.html", *arguments)
    assert done.code == 0, done.err
    return (root / "page.html").read_text(encoding="utf-8")


def hostile(root: Path) -> Path:
    """Three experiments whose names, prompts, samples and errors are what nobody should have."""
    workspace = Workspace(root, environ={})
    with open_database(workspace) as database, database.writing() as connection:
        source = add_source(connection, "Copa", [json.dumps({"premise": SCRIPT}), json.dumps({"premise": LONG})])
        batch = add_batch(connection, "hostile", description=f"{SCRIPT} {TURNED}", purpose=SCRIPT)
        for at, prompt in enumerate((SCRIPT, f"{TURNED}\n{LONG}", "}}{{ 7 * 7 }}{% endif %}")):
            experiment = add_experiment(
                connection, f"name{at}{SCRIPT}"[: 60 * (at + 1)] + LONG[: 300 * at], batch=batch, source=source,
                settings={"generation.rephrase_prompt": prompt, "generation.model": f"<b>{at}</b>"},
                model=f"<b>{at}</b>", n_records=2, n_accepted=1, n_rejected=1, cost_usd=0.1,
            )  # fmt: skip
            add_run(connection, experiment, batch, n_calls=2, cost_usd=0.1, command=f"synthtrack generate {SCRIPT}")
            texts = ((SCRIPT, f"{SCRIPT} &amp; {TURNED}"), (LONG, f"{LONG[5:]} {TURNED}"))
            for position, (original, rephrased) in enumerate(texts):
                add_sample(
                    connection, experiment, position, position + 1, original=original, rephrased=rephrased,
                    status=("accepted", "rejected")[(at + position) % 2], decided_by="judge",
                )  # fmt: skip
    return root


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return training_study(tmp_path_factory.mktemp("trained")).workspace.root


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hostile(tmp_path_factory.mktemp("bad"))


@pytest.fixture(scope="module")
def browser(trained: Path, bad: Path) -> Iterator[Browser]:  # both first: writing wants an event loop of its own
    written(trained, BATCH)
    written(bad, "hostile")
    with running_browser() as found:
        yield found


@contextlib.contextmanager
def opened(browser: Browser, path: Path, **context: Any) -> Iterator[Page]:
    """The page from its file; it may ask for nothing else, and the console must be silent."""
    asked: list[str] = []
    said: list[str] = []
    with contextlib.closing(browser.new_context(**context)) as visitor:
        page = visitor.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: said.append(message.text))
        page.goto(path.as_uri())
        yield page
    assert [url for url in asked if not url.startswith("data:")] == [path.as_uri()]
    assert said == []


def test_it_says_what_is_in_the_record(tmp_path: Path) -> None:
    root = temperature_study(tmp_path).root
    text = Parsed(written(root, "batch_20241229_temperature")).text
    assert "7 of 12 judged records were accepted: 58.3% (95% interval 32.0% to 80.7%)." in text
    assert "1 experiment was not judged at all" in text
    assert "The interval takes each record for itself" in text
    assert "Its own runs paid unknown (1 amount of 1 not known, or not yet)" in text
    assert "cost at least $0.0120 whoever paid, each experiment once, without the unfinished" in text
    assert "$0.0000" not in text
    assert "accepted in some, rejected in others" in text
    assert "The man opened door 3." in text
    assert "synthtrack generate configs/copa.yaml" in text
    assert "No model was trained on these data yet." in text


def test_accuracies_are_said_with_their_noise(trained: Path) -> None:
    text = Parsed(written(trained, BATCH)).text
    assert "Copa: meta-llama/Llama-3.2-1B, zo" in text
    assert "Highest: temp09_topp10_gpt4o, learning rate 1e-06 with 77.0%" in text
    assert "standard error 2.0 points over 2 seeds" in text
    assert "within noise" in text
    assert "before training (zero-shot) 60.0%" in text
    assert "majority class 55.0%" in text
    for name in ("settings", "acceptance", "cost", "accuracy", "samples", "people", "lineage", "reproduce"):
        assert f'id="{name}"' in written(trained, BATCH)


def test_equal_accuracies_are_all_named(tmp_path: Path) -> None:
    root = training_study(tmp_path).workspace.root
    with contextlib.closing(sqlite3.connect(root / "tracker.db")) as connection, connection:
        connection.execute("UPDATE training_run SET accuracy = 0.7")
    text = Parsed(written(root, BATCH)).text
    assert "fo_lora: 70.0% with original data and original+temp05_topp10_gpt4o (equal)" in text


def test_results_whose_answers_are_not_known(tmp_path: Path) -> None:
    """As trainings are that were brought in from logs: an accuracy, and nothing else."""
    root = training_study(tmp_path).workspace.root
    with contextlib.closing(sqlite3.connect(root / "tracker.db")) as connection, connection:
        connection.execute("DELETE FROM prediction")
        connection.execute(
            """UPDATE training_run SET accuracy_low = NULL, accuracy_high = NULL, majority_accuracy = NULL,
               zero_shot_accuracy = CASE WHEN seed = 0 THEN 0.5 ELSE zero_shot_accuracy END"""
        )
        connection.execute("UPDATE training_data SET eval_digest = NULL")
    text = Parsed(written(root, BATCH)).text
    assert (
        "Highest: temp09_topp10_gpt4o, learning rate 1e-06 with 77.0% (standard error 2.0 points over 2 seeds)." in text
    )
    assert "Nothing could be tested" in text
    assert "before training (zero-shot) 50.0% to 60.0%" in text
    assert "majority class" not in text


def test_trainings_that_were_imported_without_their_seed_and_their_records(tmp_path: Path) -> None:
    """Nothing is known of them but a rate, an accuracy and what their data was called."""
    workspace = workspace_with_data(tmp_path)
    with open_database(workspace) as database:
        lost = [Trained(("lost",), n_correct=70 + seed, hyperparameters={"learning_rate": 1e-6, "seed": seed})
                for seed in range(2)]  # fmt: skip
        add_sweep(database, "old", [Trained(("original",)), Trained((COOL,)), *lost])
        with database.writing() as connection:
            connection.exec_driver_sql("DELETE FROM prediction")
            connection.exec_driver_sql(
                "UPDATE training_run SET seed = NULL, n_eval = NULL, n_correct = NULL, accuracy_low = NULL,"
                " accuracy_high = NULL, n_train = NULL, n_dev = NULL, steps = NULL, batch_size = NULL"
            )
            connection.exec_driver_sql("UPDATE training_data SET eval_digest = NULL, n_records = NULL, n_train = NULL")
            connection.exec_driver_sql("UPDATE training_data SET train_digest = '' WHERE name = 'lost'")
    text = Parsed(written(workspace.root, "old")).text
    assert "Accuracy on records of which nothing is known" in text
    assert "nothing is known, with" not in text
    assert "its 95% interval" not in text
    assert "highest original data other data before training" in text
    assert "lost 70.5%" in text
    assert "Nothing could be tested: not known to be measured on the same records." in text


def test_settings_that_an_imported_training_does_not_tell_are_not_known(tmp_path: Path) -> None:
    workspace = workspace_with_data(tmp_path)
    with open_database(workspace) as database:
        add_sweep(database, "old", [Trained((COOL,)), Trained((COOL,), hyperparameters={"learning_rate": 5e-7})])
        with database.writing() as connection:
            connection.exec_driver_sql(
                "INSERT INTO import_run (id, uuid, kind, origin, started_at, n_taken, n_skipped, n_wrong, host,"
                " command, report) VALUES (1, 'u', 'tree', 'elsewhere', 't', 1, 0, 0, 'h', 'c', '[]')"
            )
            connection.exec_driver_sql("UPDATE training_run SET import_run_id = 1")
            connection.exec_driver_sql(
                "UPDATE training_run SET settings = json_remove(settings, '$.\"hyperparameters.batch_size\"'),"
                " identity = json_remove(identity, '$.identity.hyperparameters.batch_size') WHERE learning_rate = 5e-7"
            )
    text = Parsed(written(workspace.root, "old")).text
    assert "learning rate 5e-07, batch size not known" in text
    assert "batch size not set" not in text


def test_data_that_is_not_in_the_record_is_no_original_data(tmp_path: Path) -> None:
    workspace = workspace_with_data(tmp_path)
    with open_database(workspace) as database:
        add_sweep(database, "alone", [Trained((COOL,), n_correct=77), Trained(("lost",), n_correct=60)])
        add_sweep(database, "other", [Trained(("unrelated",), n_correct=90)])
        add_sweep(database, "plain", [Trained(("original",))])
    text = Parsed(written(workspace.root, "plain")).text
    assert "highest original data before training" in text
    with contextlib.closing(sqlite3.connect(workspace.database)) as connection, connection:
        connection.execute("UPDATE training_run SET accuracy = NULL WHERE purpose = 'plain'")
    text = Parsed(written(workspace.root, "alone")).text
    assert "nothing was trained on original data to compare it with" in text
    assert "unrelated" not in text
    assert "tested against original data" not in text


@pytest.mark.parametrize(
    "name", ["hyperparameter_tuning", "data_quality_impact", "baseline_comparison", "model_comparison"]
)
def test_every_training_purpose_has_a_page(trained: Path, name: str) -> None:
    done = call(trained, "report", name, "-o", "-")
    assert (done.code, done.err) == (0, "")
    text = Parsed(done.out).text
    assert f"Training purpose {name}" in text
    assert "Cost of the data" in text


def test_an_empty_batch_and_imported_data(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, environ={})
    with open_database(workspace) as database, database.writing() as connection:
        add_batch(connection, "empty")
        batch, source = add_batch(connection, "old"), add_source(connection)
        add_experiment(
            connection, "found", batch=batch, source=source, judge=False, provider="unknown", model="unknown",
            endpoint="unknown", strategy="unknown", field_to_rephrase="unknown", n_records=9, n_accepted=9,
            directory="elsewhere/found", legacy_fingerprint="0123456789ab",
        )  # fmt: skip
        connection.exec_driver_sql(
            "INSERT INTO import_run (id, uuid, kind, origin, started_at, n_taken, n_skipped, n_wrong, host, command,"
            " report) VALUES (1, 'u', 'tree', 'elsewhere', 't', 1, 0, 0, 'h', 'c', '[]')"
        )
        connection.exec_driver_sql("UPDATE shared_experiment SET import_run_id = 1")
    empty = Parsed(written(tmp_path, "empty")).text
    assert "No experiment belongs to it." in empty
    assert "No experiment is behind it." in empty
    old = Parsed(written(tmp_path, "old")).text
    assert "1 complete; 1 imported" in old
    assert "nothing was judged" in old
    assert "The data behind it cost unknown whoever paid" in old
    assert "That is an unknown amount for each accepted record." in old
    assert "nothing: imported" in old
    assert "imported from elsewhere , formerly 0123456789ab" in old
    assert "not known: imported" in old
    assert "100.0%" not in old


def test_a_legend_names_what_is_drawn(tmp_path: Path) -> None:
    workspace = workspace_with_data(tmp_path)
    with open_database(workspace) as database:
        add_sweep(database, "alone", [Trained((COOL,)), Trained((HOT,), n_correct=77)])
    text = Parsed(written(workspace.root, "alone")).text
    assert "nothing was trained on original data to compare it with" in text
    assert "synthetic data before training (zero-shot) 60.0% majority class 55.0%" in text
    assert "No difference to the 1 other point is more than chance explains: they are within noise." in text


def test_nothing_comes_from_elsewhere(trained: Path) -> None:
    page = written(trained, BATCH)
    parsed = Parsed(page)
    names = {name for name, _ in parsed.elements}
    assert not names & {"script", "iframe", "object", "embed", "form", "base", "img", "video", "audio"}
    for _, attributes in parsed.elements:
        assert not any(name.startswith("on") or name in ("src", "style", "srcset") for name in attributes)
        assert (attributes.get("href") or "#").startswith(("#", "data:"))
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    assert "url(" not in style
    assert "@import" not in style
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    (policy,) = [a["content"] for name, a in parsed.elements if "http-equiv" in a and name == "meta"]
    assert policy == (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'"
    )


def test_the_markup_is_in_order(trained: Path) -> None:
    page = Parsed(written(trained, BATCH))
    levels = [int(name[1]) for name, _ in page.elements if re.fullmatch(r"h[1-6]", name)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(below - above <= 1 for above, below in pairwise(levels))
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(set(ids)) == len(ids)
    targets = [(a["href"] or "")[1:] for _, a in page.elements if (a.get("href") or "").startswith("#")]
    targets += [a["aria-labelledby"] or "" for _, a in page.elements if "aria-labelledby" in a]
    assert set(targets) <= set(ids)
    assert all("scope" in a for name, a in page.elements if name == "th")
    drawn = [a for name, a in page.elements if name == "svg" and a.get("role") == "img"]
    assert drawn
    assert all(a["aria-label"] for a in drawn)


def test_what_is_hostile_is_shown_as_text(bad: Path) -> None:
    page = written(bad, "hostile")
    assert "<script" not in page
    assert "<img" not in page
    assert "\u202e" not in page
    assert "&lt;script&gt;" in page
    assert "&lt;U+202E&gt;" in page
    assert "\u05d0\u05d1\u05d2" in page
    assert "{{ 7 * 7 }}{% endif %}" in page
    assert LONG not in page
    assert "(10,000 characters in all)" in page
    assert len(page) < 300_000


def test_the_same_record_gives_the_same_bytes(trained: Path, tmp_path: Path) -> None:
    first = written(trained, BATCH)
    assert written(trained, BATCH) == first
    assert call(trained, "report", BATCH, "-o", "-").out == f"{first}\n"
    other = training_study(tmp_path).workspace.root
    assert re.sub(r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d", "", written(other, BATCH)) == re.sub(
        r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d", "", first
    )


def test_it_overwrites_its_own_files_alone(tmp_path: Path) -> None:
    root = temperature_study(tmp_path).root
    done = call(root, "report", "pilot", "--batch")
    assert done.code == 4
    done = call(root, "report", "batch_20241228_pilot")
    assert (done.code, done.err) == (0, "")
    path = root / "report_batch_20241228_pilot.html"
    assert re.fullmatch(r"📄 report_batch_20241228_pilot\.html \(\d+ KiB\)\n", done.out)
    before = path.read_bytes()
    path.write_bytes(before[:5000] + b"cut off")
    assert call(root, "report", "batch_20241228_pilot").code == 0
    assert path.read_bytes() == before
    path.write_text("<p>my own page", encoding="utf-8")
    refused = call(root, "report", "batch_20241228_pilot")
    assert refused.code == 5
    assert "--overwrite" in refused.err
    assert path.read_text(encoding="utf-8") == "<p>my own page"
    assert call(root, "report", "batch_20241228_pilot", "--overwrite").code == 0
    assert path.read_bytes() == before
    assert [each.name for each in root.glob(".report*")] == []


def test_which_of_two_meanings_was_taken_is_said(tmp_path: Path) -> None:
    root = temperature_study(tmp_path).root
    with contextlib.closing(sqlite3.connect(root / "tracker.db")) as connection, connection:
        connection.execute("UPDATE batch SET name = 'temperature_study' WHERE name = 'batch_20241228_pilot'")
    done = call(root, "report", "temperature_study", "-o", "one.html")
    assert "is taken as a batch; it is a generation purpose, too: --purpose reports that." in done.err
    assert "<h1>temperature_study</h1>" in (root / "one.html").read_text(encoding="utf-8")
    done = call(root, "report", "temperature_study", "--purpose", "-o", "two.html")
    assert "is taken as a generation purpose; it is a batch, too: --batch reports that." in done.err
    assert '<span class="big">4</span>' in (root / "two.html").read_text(encoding="utf-8")


def test_a_name_that_is_no_file_name(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, environ={})
    with open_database(workspace) as database, database.writing() as connection:
        batch = add_batch(connection, "one")
        experiment = add_experiment(connection, "x", batch=batch, source=add_source(connection), purpose="../a b")
        add_run(connection, experiment, batch, purpose="../a b")
    done = call(tmp_path, "report", "../a b")
    assert done.code == 0, done.err
    assert (tmp_path / "report__a_b.html").is_file()
    assert not list(tmp_path.parent.glob("*.html"))


def test_a_batch_of_thousands_stays_a_page(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, environ={})
    with open_database(workspace) as database, database.writing() as connection:
        source = add_source(connection, "Copa", records.LINES)
        batch, other = add_batch(connection, "many"), add_batch(connection, "other")
        for at in range(N_MANY):
            experiment = add_experiment(
                connection, f"made{at:04}", batch=other, source=source, temperature=at / 1000,
                settings={"generation.rephrase_prompt": f"{records.PROMPT}\n{at} {LONG[:2000]}"}, n_records=4,
                n_accepted=3, n_rejected=1, cost_usd=0.001,
            )  # fmt: skip
            add_membership(connection, batch, experiment)
    page = written(tmp_path, "many")
    assert len(page.encode()) < 1_500_000
    text = Parsed(page).text
    assert "6,000 of 8,000 judged records were accepted" in text
    assert "the newest 200 of 2,000; the sums are of all" in text
    assert "40 of 2,000 are drawn" in text
    assert "and 1,988 more values" in text
    assert "60 of 2,000 experiments" in text
    assert "whoever paid, each experiment once. That is $0.000333 for each accepted record." in text
    assert "cost $2.0000" in text


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_every_screen(browser: Browser, trained: Path, bad: Path, width: int, scheme: Any) -> None:
    for root in (trained, bad):
        size: Any = {"width": width, "height": 800}
        with opened(browser, root / "page.html", viewport=size, color_scheme=scheme) as page:
            for each in page.locator("details").all():
                each.evaluate("each => each.open = true")
            assert page.evaluate("document.documentElement.scrollWidth") == width
            assert page.evaluate(OUTSIDE) == []
            assert page.evaluate(FAINT) == []


OUTSIDE = """() => [...document.querySelectorAll('svg text')].filter(text => {
    const box = text.getBoundingClientRect(), own = text.ownerSVGElement.getBoundingClientRect();
    return box.width && (box.left < own.left - 1 || box.right > own.right + 1 || box.top < own.top - 1);
}).map(text => text.textContent)"""
"""The letters of figures that are cut off."""
FAINT = """() => {
    const channels = colour => colour.match(/[\\d.]+/g).map(Number);
    const light = colour => channels(colour).slice(0, 3).map(c => c / 255)
        .map(c => c <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4)
        .reduce((sum, c, at) => sum + c * [.2126, .7152, .0722][at], 0);
    const behind = element => {
        for (; element; element = element.parentElement) {
            const colour = getComputedStyle(element).backgroundColor;
            if (channels(colour)[3] !== 0) return colour;
        }
    };
    const found = new Set();
    for (const element of document.querySelectorAll('body *:not(title)')) {
        if (![...element.childNodes].some(node => node.nodeType === 3 && node.textContent.trim())) continue;
        const own = getComputedStyle(element), text = element.namespaceURI.endsWith('svg') ? own.fill : own.color;
        const [a, b] = [light(text), light(behind(element))].sort((x, y) => y - x);
        if ((a + .05) / (b + .05) < 4.5) found.add(element.className + ' ' + text + ' on ' + behind(element));
    }
    return [...found];
}"""
"""Texts whose contrast is below what WCAG 2 asks for at level AA."""


def test_it_follows_the_dark_mode(browser: Browser, trained: Path) -> None:
    shades = []
    for scheme in ("light", "dark"):
        with opened(browser, trained / "page.html", color_scheme=scheme) as page:
            shades.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
            expect(page.locator("svg circle").first).to_be_visible()
            shades.append(page.evaluate("getComputedStyle(document.querySelector('svg circle')).fill"))
    assert len(set(shades)) == 4


def test_a_table_that_scrolls_says_so_on_a_phone(browser: Browser, trained: Path) -> None:
    hint = "box => getComputedStyle(box, '::before').content"
    for width, is_said in zip(WIDTHS, (True, False), strict=True):
        size: Any = {"width": width, "height": 800}
        with opened(browser, trained / "page.html", viewport=size) as page:
            for box in page.locator(".scroll").all():
                if box.evaluate("box => box.checkVisibility() && box.scrollWidth > box.clientWidth"):
                    assert ("more to the side" in box.evaluate(hint)) == is_said
            assert page.locator(".scroll:has(thead th:nth-child(3))").count() > 1


def test_prompts_are_open_and_trainings_tell_their_learning_rate(tmp_path: Path) -> None:
    workspace = workspace_with_data(tmp_path)
    with open_database(workspace) as database:
        add_sweep(database, "rates", [Trained((HOT,)), Trained((HOT,), hyperparameters={"learning_rate": 1e-5})])
    page = written(workspace.root, BATCH)
    folded = "".join(re.findall(r"<details>.*?</details>", page, re.DOTALL))
    first = records.PROMPT.split("\n")[0]
    assert first in page
    assert first not in folded
    lineage = Parsed(page).text.partition("From the source data to experiments")[2]
    assert len(set(re.findall(r"learning rate [\d.e-]+", lineage))) == 2


def test_it_is_reached_by_keyboard(browser: Browser, trained: Path) -> None:
    with opened(browser, trained / "page.html") as page:
        page.keyboard.press("Tab")
        expect(page.locator(".skip")).to_be_focused()
        expect(page.locator(".skip")).to_be_in_viewport()
        page.keyboard.press("Enter")
        expect(page).to_have_url(re.compile("#content$"))
        page.locator("summary").first.focus()
        page.keyboard.press("Enter")
        expect(page.locator("details").first).to_have_attribute("open", "")
        for box in page.locator(".scroll").all():
            expect(box).to_have_attribute("tabindex", "0")


def test_hostile_data_runs_nothing(browser: Browser, bad: Path) -> None:
    with opened(browser, bad / "page.html") as page:
        expect(page).to_have_title("hostile · synthtrack report")


def test_a_scale_holds_all_and_has_round_ticks() -> None:
    found = figures.scale([0.554, 0.831])
    assert found.ticks == (0.5, 0.6, 0.7, 0.8, 0.9)
    assert found.at(found.low) > 0
    assert found.at(found.high) < 100
    for shares in ([0.0], [1.0], [0.5], [0.0, 1.0], [0.5, 0.5001]):
        whole = figures.scale(shares)
        assert whole.low <= min(shares) <= max(shares) <= whole.high
        assert 0 <= whole.low < whole.high <= 1


def test_of_many_points_the_highest_is_drawn(tmp_path: Path) -> None:
    workspace = workspace_with_data(tmp_path)
    with open_database(workspace) as database:
        rates = [round(1e-6 * at, 12) for at in range(1, 50)]
        runs = [Trained((HOT,), n_correct=70 if at != 37 else 90, hyperparameters={"learning_rate": rate})
                for at, rate in enumerate(rates)]  # fmt: skip
        add_sweep(database, "many", [Trained(("original",), hyperparameters={"learning_rate": 1e-6}), *runs])
    parsed = Parsed(written(workspace.root, "many"))
    assert (
        "40 of 50 points are drawn by data, at even distances and with the highest; the table has all." in parsed.text
    )
    classes = [a.get("class") for name, a in parsed.elements if name in ("path", "rect", "circle")]
    # In the rows, the legends, and over the learning rate; and what was accepted of the one experiment.
    assert classes.count("best") == 3
    assert classes.count("original") == 3
    assert classes.count("other") == 1 + 38 + 2 + 48


def test_crowded_spots_have_no_intervals() -> None:
    spots = [Spot(at % 2, Mark(0.7, (0.6, 0.8)), "a") for at in range(14)]
    assert "interval" in figures.over(spots[:12], [], logarithmic=False, label="few")
    assert "interval" not in figures.over(spots, [], logarithmic=False, label="many")


def test_a_figure_escapes_its_names() -> None:
    spots = [Spot(0.5, Mark(0.7, (0.6, 0.8)), SCRIPT), Spot(0.9, Mark(0.75, None, "best"), "b")]
    drawn = figures.over(spots, [("majority", 0.55)], logarithmic=False, label=f'"{SCRIPT}')
    assert "<script" not in drawn
    assert "<img" not in drawn
    assert drawn.count("<circle") == 1
    assert drawn.count('class="best"') == 1
