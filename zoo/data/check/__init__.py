"""What is wrong with a data set, before a model is trained on it.

listing     a path → the images and labels of its parts, and what is odd about its folders
survey      every file read once, by all cores → a row of numbers for each image, kept in a cache
counts, contents, copies, folders     rows → findings
quick       the cheap part of it, for the start of a training
"""

from __future__ import annotations

from zoo.data.check.findings import SEVERITIES, Finding, Severity
from zoo.data.check.listing import Listing, open_listing
from zoo.data.check.quick import PreflightReport, preflight_check
from zoo.data.check.report import Report, examine_data
from zoo.data.check.thresholds import THRESHOLDS, Threshold

__all__ = [
    "SEVERITIES",
    "THRESHOLDS",
    "Finding",
    "Listing",
    "PreflightReport",
    "Report",
    "Severity",
    "Threshold",
    "examine_data",
    "open_listing",
    "preflight_check",
]
