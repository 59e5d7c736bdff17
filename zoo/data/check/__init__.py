"""`zoo check`: what is wrong with a data set, before a model is trained on it.

scan_images     reads every file once, in several processes -> one record per image, cached
counts, image_findings, duplicates, folders     records -> findings
preflight       the fast part of the check, before each training
"""

from __future__ import annotations

from zoo.data.check.findings import SEVERITIES, Finding, Severity
from zoo.data.check.preflight import PreflightReport, preflight_check
from zoo.data.check.report import Report, examine_data
from zoo.data.check.thresholds import THRESHOLDS, Threshold
from zoo.data.listing import Listing

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
    "preflight_check",
]
