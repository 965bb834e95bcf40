"""The figures of a report: one file for each kind, and how they look and are stored."""

__all__: list[str] = []
