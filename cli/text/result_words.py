"""Words and figures that all pages of training results share."""

from __future__ import annotations

from tracker.fingerprint import Json
from tracker.listings.compare import short
from tracker.record.catalogue import Row

ALPHA = 0.05
"""Below it a p-value is called more than chance."""


def name_of(row: Row) -> str:
    """``Copa_zo_copa_mezo_v1_1_6``: the directory that all runs of a point share."""
    return str(row["directory"]).rpartition("/")[0].rpartition("/")[2]


def status(row: Row) -> str:
    """``running (step 412 of 1,000)``, ``complete (attempt 2)``."""
    notes = [progress(row)] if row["status"] not in ("complete", "pending") else []
    notes += [f"attempt {row['attempt']}"] if row["attempt"] > 1 else []
    return f"{row['status']} ({', '.join(notes)})" if notes else str(row["status"])


def progress(row: Row) -> str:
    """``step 412 of 1,000``."""
    return f"step {row['step']:,} of {known(row['steps'])}"


def known(count: int | None) -> str:
    """``1,000``, or ``unknown``."""
    return told(count) if count is None else f"{count:,}"


def told(value: int | None) -> str:
    """``1000``; of an imported run, ``unknown`` where nobody wrote it down."""
    return "unknown" if value is None else str(value)


def accuracy(row: Row) -> str:
    """``76.0% (95% interval 66.8% to 83.3%, 100 records)``."""
    low, high = row["accuracy_low"], row["accuracy_high"]
    if low is None:
        return f"{percent(row['accuracy'])} (of how many records is not known)"
    return f"{percent(row['accuracy'])} (95% interval {percent(low)} to {percent(high)}, {row['n_eval']:,} records)"


def baselines(row: Row) -> str:
    """``zero-shot 60.0%, majority class 55.0%``."""
    return f"zero-shot {percent(row['zero_shot_accuracy'])}, majority class {percent(row['majority_accuracy'])}"


def data_fingerprint(row: Row) -> str:
    """The fingerprint of the data's experiment, or the beginning of the train file's digest."""
    if row["n_data"] > 1:
        return f"none (a mix of {row['n_data']} data sets)"
    if row["data_fingerprint"] is None and not row["data_key"]:
        return "none (not in the record)"
    if row["data_fingerprint"] is None:
        return f"none (SHA-256 {row['data_key']})"
    return f"{row['data_fingerprint']} ({row['data_experiment']})"


def percent(share: float | None) -> str:
    """``76.0%``, or ``-``."""
    return "-" if share is None else f"{share:.1%}"


def number(value: Json) -> str:
    """A setting as people write it: ``1e-06``, ``16``, ``not set``."""
    return f"{value:g}" if isinstance(value, float) else short(value)


def duration(seconds: float | None) -> str:
    """``45 s``, ``12.5 min``, ``3.5 h``."""
    if seconds is None:
        return "-"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def chance(difference: float, p: float) -> str:
    """What a difference of two accuracies means: ``the difference of 3.0 points may well be chance (p = 0.55)``."""
    if not difference:
        return f"no difference (p {p_value(p)})"
    size = points(difference)
    what = f"the difference of {'less than 0.05' if size == '0.0' else size} points"
    return f"{what} {'may well be chance' if p >= ALPHA else 'is more than chance explains'} (p {p_value(p)})"


def points(share: float | None) -> str:
    """``3.0``: a difference of shares in percentage points, or ``-``."""
    return "-" if share is None else f"{abs(100 * share):.1f}"


def p_value(p: float) -> str:
    """``= 0.55``, ``= 0.012``, ``< 0.001``."""
    return "< 0.001" if p < 0.001 else f"= {p:.2g}" if p < 0.1 else f"= {p:.2f}"


def figure(value: float | None) -> str:
    """Four digits, or ``-``."""
    return "-" if value is None else f"{value:.4g}"


def short_accuracy(row: Row) -> str:
    """``76.0% (66.8% to 83.3%)``."""
    if row["accuracy"] is None:
        return "-"
    if row["accuracy_low"] is None:
        return percent(row["accuracy"])
    return f"{percent(row['accuracy'])} ({percent(row['accuracy_low'])} to {percent(row['accuracy_high'])})"
