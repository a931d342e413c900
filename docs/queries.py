"""The page of questions in SQL, made of the questions that `sql --schema` prints, and words around them."""

from __future__ import annotations

from collections.abc import Iterator
from textwrap import wrap

from tracker.tracing.questions import QUESTIONS, VIEWS

HEAD = """\
The record answers SQL. Every query on this page can be given to `synthtrack sql` as it stands, on SQLite and on
PostgreSQL; only the names in its conditions are examples.

```text
synthtrack sql "SELECT batch, cost_usd, cost_per_accepted_usd FROM batch_cost"
synthtrack sql --file question.sql --csv > answer.csv
synthtrack sql - --json < question.sql
synthtrack sql --schema                 every view and table, and these questions
synthtrack sql --schema batch_cost      what its columns mean
```

- It only reads, and that is a matter of the connection, not of a look at the text: the file is opened read-only,
  `query_only` is on, and whatever would write, attach or make a file (`ATTACH`, `VACUUM INTO`, a `PRAGMA` that sets
  something, `load_extension`, a transaction) is refused before it runs. What does not fit in memory is not put into a
  temporary file; at 2 GiB the query ends. On PostgreSQL it is a read-only transaction and a cursor. Exit code 18.
- It takes one statement. `--timeout 60` lets it work for 60 seconds instead of 30 (0: any time); waiting for whoever
  reads the rows does not count. Ctrl-C stops it at once.
- As a table 1,000 rows are printed, and stderr says so where there are more; `--limit 0` prints all, as `--csv` and
  `--json` do. On a terminal long cells end in `…`; elsewhere nothing is cut.
- NULL is `NULL` in a table, an empty field in CSV, `null` in JSON. A blob is its size."""

STATISTICS = """\
## How sure a number is

- `standard_error` of an accuracy is that of a share of `n_eval` records. More seeds do not make it smaller: they are
  measured on the same records. It is an upper bound for the mean over seeds.
- `seed_error` and `experiment_error` say how much a mean varies with the seed or the data set, and nothing about other
  records. They are NULL where there is one.
- Two runs on the same records are compared best record by record: `synthtrack result compare` (McNemar's exact test).
  Errors that treat them as independent, as `points_error` does, are mostly too large.
- The best of many is too good. Choose settings by `dev_loss`, and report `accuracy`.
- Money that is not known is NULL, and so is every sum with it: a sum of what happens to be known looks like a whole.
  Imported data came without their cost; what is not known of their settings is NULL or `unknown`."""

ELSEWHERE = """\
## Other programs

**sqlite3** and everything with SQLite in it reads `tracker.db`, also while commands run:
`sqlite3 -readonly tracker.db`. The views of accuracies need SQLite's `SQRT`, which most builds have; `synthtrack sql`
brings its own where it is missing.

**Datasette** (tried with 0.65.5) works when it is pointed at the file:

```text
datasette tracker.db --setting sql_time_limit_ms 30000
```

Tables, views and queries are shown as pages and as JSON (`/tracker/batch_cost.json?_shape=array`), and what is
committed while it runs is there at the next page. Without the setting it stops every query after one second, which
the views need longer for where there are tens of thousands of experiments. Do not use `--immutable` (`-i`) on the
file itself: what was committed last is in `tracker.db-wal` then, and Datasette does not look there. Use it on a copy:

```text
synthtrack backup copy.db
datasette -i copy.db
```

**pandas** (tried with 3.1.1):

```python
import sqlite3

import pandas

with sqlite3.connect("file:tracker.db?mode=ro", uri=True) as connection:
    frame = pandas.read_sql("SELECT * FROM accuracy_by_temperature", connection)
```

**DuckDB** (tried with 2.0.0) and whatever else reads CSV:

```text
synthtrack sql "SELECT * FROM experiment_overview" --csv > experiments.csv
python -c "import duckdb; print(duckdb.sql(\\"SELECT model, COUNT(*) FROM 'experiments.csv' GROUP BY model\\"))"
```"""


def page() -> str:
    """The page without its first line."""
    return "\n".join(["# Questions in SQL", "", HEAD, "", *_questions(), STATISTICS, "", *_views(), ELSEWHERE, ""])


def _questions() -> Iterator[str]:
    for number, each in enumerate(QUESTIONS, 1):
        yield from (f"## {number}. {each.title}", "", "```sql", each.sql, "```", "", *wrap(each.answer, 120), "")


def _views() -> Iterator[str]:
    yield from ("## The views behind them", "")
    yield from (
        "All views and tables are in [schema.md](schema.md). What a column's name says already is left out.",
        "",
    )
    for name, view in VIEWS.items():
        yield from (f"### {name}", "", view.row, "", "| column | meaning |", "|---|---|")
        yield from (f"| `{column}` | {meaning} |" for column, meaning in view.columns.items())
        yield ""
