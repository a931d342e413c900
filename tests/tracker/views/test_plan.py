"""What would have to change, case by case: pure, so that each case is two small dictionaries."""

from __future__ import annotations

import pytest

from tracker.views.plan import (
    DIRECTORY,
    FILE,
    LINK,
    OTHER,
    Changes,
    Difference,
    Entry,
    Expected,
    Wanted,
    differences,
    experiment_of,
    link_target,
    own_link,
    parent_of,
    plan,
    union,
)

HOME, DATA, NOTE = "_shared/Copa/temp07", "_shared/Copa/temp07/Copa/train.jsonl", "_shared/Copa/temp07/README.md"
PATH, TARGET = "first/Copa/temp07", "../../_shared/Copa/temp07"
WANTED = Wanted({HOME: {DATA: Expected(5, size=9), NOTE: Expected(5, digest="d")}}, {PATH: TARGET})
FOLDER = Entry(DIRECTORY)
RIGHT = {
    "_shared": FOLDER,
    "_shared/Copa": FOLDER,
    HOME: FOLDER,
    f"{HOME}/Copa": FOLDER,
    DATA: Entry(FILE, size=9, mtime_ns=5),
    NOTE: Entry(FILE, size=1, mtime_ns=5, digest="d"),
    "first": FOLDER,
    "first/Copa": FOLDER,
    PATH: Entry(LINK, TARGET),
}


def test_a_right_tree_needs_nothing() -> None:
    assert plan(WANTED, RIGHT) == Changes()
    assert not plan(WANTED, RIGHT)
    assert list(differences(Changes(), RIGHT)) == []


def test_an_empty_tree_needs_everything() -> None:
    changes = plan(WANTED, {})
    assert changes == Changes(directories=(HOME,), links=((PATH, TARGET),))
    assert list(differences(changes, {})) == [Difference(HOME, "missing"), Difference(PATH, "missing")]


@pytest.mark.parametrize(
    ("changed", "expected", "words"),
    [
        ({DATA: None}, Changes(files=(DATA,)), [Difference(DATA, "missing")]),
        ({DATA: Entry(FILE, size=8, mtime_ns=5)}, Changes(files=(DATA,), aside=(DATA,)), [Difference(DATA, "edited")]),
        ({DATA: Entry(FILE, size=9, mtime_ns=6)}, Changes(files=(DATA,), aside=(DATA,)), [Difference(DATA, "edited")]),
        ({DATA: FOLDER}, Changes(files=(DATA,), aside=(DATA,)), [Difference(DATA, "replaced")]),
        ({DATA: Entry(LINK, "x", 9, 5)}, Changes(files=(DATA,), aside=(DATA,)), [Difference(DATA, "replaced")]),
        ({NOTE: Entry(FILE, digest="e")}, Changes(files=(NOTE,), aside=(NOTE,)), [Difference(NOTE, "edited")]),
        ({NOTE: Entry(FILE, digest="d", mtime_ns=6)}, Changes(stamps=(NOTE,)), []),
        ({PATH: Entry(LINK, f"{TARGET}/")}, Changes(), []),
        ({PATH: None}, Changes(links=((PATH, TARGET),)), [Difference(PATH, "missing")]),
        (
            {PATH: Entry(LINK, "/else")},
            Changes(links=((PATH, TARGET),), aside=(PATH,)),
            [Difference(PATH, "wrong target", f"/else instead of {TARGET}")],
        ),
        ({PATH: Entry(FILE, TARGET)}, Changes(links=((PATH, TARGET),), aside=(PATH,)), [Difference(PATH, "replaced")]),
        ({"mine.txt": Entry(FILE)}, Changes(unknown=("mine.txt",)), [Difference("mine.txt", "unknown")]),
        ({f"{HOME}/mine": Entry(OTHER)}, Changes(unknown=(f"{HOME}/mine",)), [Difference(f"{HOME}/mine", "unknown")]),
        ({"else": FOLDER, "else/below": Entry(FILE)}, Changes(unknown=("else",)), [Difference("else", "unknown")]),
        (
            {"first/.synthtrack-tmp-1": FOLDER},
            Changes(leftovers=("first/.synthtrack-tmp-1",)),
            [Difference("first/.synthtrack-tmp-1", "leftover")],
        ),
        (
            {"first/Copa/old": Entry(LINK, link_target("first/Copa/old"))},
            Changes(aside=("first/Copa/old",)),
            [Difference("first/Copa/old", "not in the record")],
        ),
        (
            {"first/Copa/old": Entry(LINK, "../../_shared/Copa/other")},
            Changes(unknown=("first/Copa/old",)),
            [Difference("first/Copa/old", "unknown")],
        ),
    ],
)  # fmt: skip
def test_each_change_by_itself(changed: dict[str, Entry | None], expected: Changes, words: list[Difference]) -> None:
    tree = {path: found for path, found in {**RIGHT, **changed}.items() if found is not None}
    changes = plan(WANTED, tree)
    assert changes == expected
    assert list(differences(changes, tree)) == words


def test_what_stands_where_a_directory_belongs_is_put_aside() -> None:
    tree = {"_shared": FOLDER, "_shared/Copa": Entry(FILE), "first": Entry(LINK, "elsewhere")}
    changes = plan(WANTED, tree)
    assert changes == Changes(directories=(HOME,), links=((PATH, TARGET),), aside=("first", "_shared/Copa"))
    found = list(differences(changes, tree))
    assert found[:2] == [Difference(HOME, "missing"), Difference(PATH, "missing")]
    assert set(found[2:]) == {Difference("first", "replaced"), Difference("_shared/Copa", "replaced")}
    changes = plan(WANTED, {**RIGHT, HOME: Entry(FILE)})
    assert (changes.directories, changes.aside) == ((HOME,), (HOME,))
    assert next(differences(changes, {**RIGHT, HOME: Entry(FILE)})) == Difference(HOME, "replaced")


def test_one_change_does_not_hide_those_after_it() -> None:
    other = "_shared/Copa/temp09"
    wanted = Wanted(
        {HOME: dict(WANTED.directories[HOME]), other: {f"{other}/a": Expected(1), f"{other}/b": Expected(1)}},
        {PATH: TARGET, "first/Copa/temp09": f"../../{other}"},
    )
    tree = {**RIGHT, HOME: Entry(FILE), other: FOLDER, f"{other}/b": Entry(FILE, mtime_ns=2), "first/Copa/zz": FOLDER,
            "aa": FOLDER}  # fmt: skip
    changes = plan(wanted, tree)
    assert changes.directories == (HOME,)
    assert changes.files == (f"{other}/a", f"{other}/b")
    assert changes.links == (("first/Copa/temp09", f"../../{other}"),)
    assert changes.unknown == ("aa", "first/Copa/zz")
    assert changes.aside == (HOME, f"{other}/b")


def test_what_lies_in_a_persons_own_directory_is_nobodys_and_hides_nothing_after_it() -> None:
    own, deep = "first/mine", "first/mine/.synthtrack-tmp-1-host-2"
    leftover = f"{HOME}/.synthtrack-tmp-1-host-2"
    tree = {**RIGHT, own: FOLDER, deep: Entry(FILE), leftover: Entry(FILE), "first/other": FOLDER}
    assert plan(WANTED, tree) == Changes(leftovers=(leftover,), unknown=(own, "first/other"))


def test_known_and_unfinished_places() -> None:
    wanted = Wanted(known=frozenset({"empty"}), unfinished=frozenset({"empty/half"}))
    tree = {"empty": FOLDER, "empty/half": FOLDER, "empty/mine": FOLDER, "other": FOLDER, "other/half": FOLDER}
    assert plan(wanted, tree) == Changes(aside=("empty/half",), unknown=("empty/mine", "other"))


def test_a_file_without_a_known_size_is_known_by_its_time() -> None:
    wanted = Wanted({"h": {"h/f": Expected(3)}})
    assert plan(wanted, {"h": FOLDER, "h/f": Entry(FILE, size=77, mtime_ns=3)}) == Changes()
    assert plan(wanted, {"h": FOLDER, "h/f": Entry(FILE, size=77, mtime_ns=4)}).files == ("h/f",)


def test_the_union_holds_all_and_the_first_trash() -> None:
    parts = [Changes(files=("a",)), Changes(files=("b",), stamps=("c",), trash="t1"), Changes(trash="t2")]
    assert union(parts) == Changes(files=("a", "b"), stamps=("c",), trash="t1")
    assert union([]) == Changes()


@pytest.mark.parametrize(
    "changes",
    [
        *(Changes(directories=("x",)), Changes(files=("x",)), Changes(links=(("x", "y"),))),
        *(Changes(aside=("x",)), Changes(leftovers=("x",))),
    ],
)
def test_what_counts_as_a_change(changes: Changes) -> None:
    assert changes
    assert not Changes(stamps=("x",), unknown=("x",), trash="t")


def test_paths() -> None:
    assert (parent_of("a/b/c"), parent_of("a")) == ("a/b", "")
    assert experiment_of(DATA) == HOME
    assert experiment_of("a/b/c/d/e") == "a/b/c"
    assert link_target(PATH) == TARGET
    assert own_link(PATH, Entry(LINK, TARGET))
    assert not own_link(PATH, Entry(FILE, TARGET))
    assert not own_link(PATH, Entry(LINK, f"{TARGET}/"))
    assert not own_link("temp07", Entry(LINK, TARGET))
    assert not own_link("a/b/c/d", Entry(LINK, TARGET))
