"""Reads the tables that a benchmark prints."""

from __future__ import annotations


def tables(printed: str) -> list[dict[str, list[str]]]:
    """Each markdown table as its rows' cells by their first one, the head among them."""
    found: list[dict[str, list[str]]] = []
    inside = False
    for line in printed.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")] if line.startswith("|") else []
        if cells and not inside:
            found.append({cells[0]: cells[1:]})
        elif cells and not set("".join(cells)) <= set("-:"):
            found[-1][cells[0]] = cells[1:]
        inside = bool(cells)
    return found
