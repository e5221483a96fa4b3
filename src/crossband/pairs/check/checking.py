"""Read a source's names, headers and labels, and gather what was found."""

from __future__ import annotations

import os
import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from crossband.errors import CrossbandWarning, PairError
from crossband.pairs.band_summary import summarise_files, summarise_pairs
from crossband.pairs.base import PairFiles, Pairs
from crossband.pairs.benchmarks import BENCHMARKS, Benchmark
from crossband.pairs.check.problems import (
    Reading,
    band_problems,
    listing_problems,
    reading_problems,
    tree_problems,
)
from crossband.pairs.check.registration import registration_problems
from crossband.pairs.check.report import CheckReport, Problem, SplitReport
from crossband.pairs.decoding import decode
from crossband.pairs.false_colour import REFUSE
from crossband.pairs.file_pairs import FilePairs
from crossband.pairs.folder import FolderPairs
from crossband.pairs.headers import Header, read_header
from crossband.pairs.opening import (
    Source,
    benchmark_tree,
    list_splits,
    open_pairs,
    parse_ignore,
    parse_source,
    source_registration,
)
from crossband.pairs.pair_list import read_list
from crossband.pairs.radiometric import measured_size
from crossband.pairs.reading import read_label, same_file, stored_levels
from crossband.pairs.suspicions import Suspicion, suspicions


@dataclass
class _Job:
    """The pairs of one split, still to be read: ``read(i)`` is that of ``names[i]``.

    summarise: what looks wrong with the pixels of a sample of them. files: where the pairs lie, if they do.
    """

    report: SplitReport
    names: Sequence[str]
    read: Callable[[int], Reading]
    packed: bool = False
    summarise: Callable[[], list[Suspicion]] = list
    files: Sequence[PairFiles] = ()


def check_source(source: str, *, progress: Callable[[int, int], None] | None = None) -> CheckReport:
    """Check every file of a source: headers and file ends of the bands, all of the labels and of float bands,
    and the pixels of a sample.

    It gathers every problem and stops at none. progress is called with (pairs done, pairs in all).

    Raises OptionError for a source that does not exist, PairError if there is nothing to check: no folder,
    no known layout.
    """
    started = time.perf_counter()
    parsed = parse_source(source)
    registration = source_registration(parsed)
    if parsed.name in BENCHMARKS:
        benchmark = BENCHMARKS[parsed.name]
        report, jobs = _inspect_benchmark(parsed, benchmark)
        resolution = benchmark.resolution
    else:
        report, jobs = _inspect_other(parsed)
        resolution = None
    for job, readings in zip(jobs, _read_all(jobs, progress), strict=True):
        _summarise(job.report, readings)
        named = dict(zip(job.names, readings, strict=True))
        report.problems += reading_problems(
            job.report, named, report.classes, resolution, packed=job.packed, registration=registration
        )
        report.problems += band_problems(job.report, job.summarise())
        report.problems += registration_problems(job.report.name, job.files, registration)
        report.files += sum(len(reading.headers) for reading in readings)
    report.seconds = time.perf_counter() - started
    return report


def _inspect_benchmark(source: Source, benchmark: Benchmark) -> tuple[CheckReport, list[_Job]]:
    """What the tree's names and lists tell, without opening an image."""
    tree = benchmark_tree(source)
    main = tree.main_splits()
    listings = {split: tree.listing(split) for split in tree.splits()}
    splits, jobs, problems = [], [], tree_problems(tree, listings)
    for split, listing in listings.items():
        declared = benchmark.splits[split].counts if split in benchmark.splits else ()
        report = SplitReport(split, len(listing.files), declared, partial=split not in main)
        report.conditions.update(files.condition for files in listing.files if files.condition)
        splits.append(report)
        problems += listing_problems(benchmark, split, listing, declared)
        if not report.partial:
            jobs.append(_file_job(report, listing.files, packed=tree.packed))
    ignore = parse_ignore(source.options.get("ignore"))
    shared = (
        f"It shares images with {BENCHMARKS[key].title} under the same names: leave out the shared names "
        "before a system trained on one is tested on the other."
        for key in benchmark.shares_images_with
    )
    return CheckReport(
        source=str(source),
        title=benchmark.title,
        layout=tree.layout.name,
        classes=benchmark.classes if ignore is None else replace(benchmark.classes, ignore=ignore),
        splits=splits,
        problems=problems,
        quirks=(*filter(None, [tree.layout.note]), *benchmark.quirks, *shared),
        citation=f"{benchmark.citation} {benchmark.url}",
        terms=benchmark.terms,
    ), jobs


_TITLES = {
    "folder": "Folder of pairs",
    "list": "List of pairs",
    "frames": "Frames of files",
    "bag": "Images of a bag",
    "shards": "Shards of pairs",
    "scenes": "Generated scenes",
}


def _inspect_other(source: Source) -> tuple[CheckReport, list[_Job]]:
    """Open every split of what is no benchmark."""
    jobs: list[_Job] = []
    problems: list[Problem] = []
    classes = None
    if source.name == "list" and source.path is not None and source.path.is_file():
        problems = [
            Problem("error", line, "no image is looked at until then")
            for line in read_list(source.path).problems
        ]
    for split in [] if problems else list_splits(str(source)):
        try:
            with warnings.catch_warnings():
                # What a folder warns of when it is opened is a line of the report.
                warnings.simplefilter("ignore", CrossbandWarning)
                pairs = open_pairs(str(source), split)
        except PairError as error:
            problems.append(Problem("error", str(error), f"the split {split} cannot be used until then"))
            continue
        if isinstance(pairs, FolderPairs):
            problems += [Problem("warning", *told) for told in pairs.overlooked]
        classes = classes or pairs.classes
        report = SplitReport(split, len(pairs))
        report.conditions.update(filter(None, map(pairs.condition, range(len(pairs)))))
        jobs.append(
            _file_job(
                report,
                pairs.files,
                false_colour=pairs.false_colour,
                unaligned=pairs.registration is not None,
            )
            if isinstance(pairs, FilePairs)
            else _generated_job(report, pairs)
        )
    return CheckReport(
        source=str(source),
        title=_TITLES[source.name],
        layout=None,
        classes=classes,
        splits=[job.report for job in jobs],
        problems=problems,
    ), jobs


def _file_job(
    report: SplitReport,
    files: Sequence[PairFiles],
    *,
    packed: bool = False,
    false_colour: str = REFUSE,
    unaligned: bool = False,
) -> _Job:
    """unaligned: as in `stored_levels`."""
    return _Job(
        report,
        [entry.name for entry in files],
        lambda index: _read_files(files[index], unaligned=unaligned),
        packed,
        lambda: suspicions(summarise_files(files, false_colour=false_colour), false_colour=false_colour),
        files,
    )


def _generated_job(report: SplitReport, pairs: Pairs) -> _Job:
    names = [pairs.name(index) for index in range(len(pairs))]
    return _Job(
        report,
        names,
        lambda index: _read_generated(pairs, index),
        summarise=lambda: suspicions(summarise_pairs(pairs), false_colour=pairs.false_colour),
    )


def _read_all(jobs: list[_Job], progress: Callable[[int, int], None] | None) -> list[list[Reading]]:
    """Read the pairs of all splits. File access and decoding free the GIL: threads help."""
    total, done = sum(len(job.names) for job in jobs), 0
    readings = []
    with ThreadPoolExecutor(min(16, 2 * (os.cpu_count() or 1))) as pool:
        for job in jobs:
            of_job = []
            for reading in pool.map(job.read, range(len(job.names))):
                of_job.append(reading)
                done += 1
                if progress is not None:
                    progress(done, total)
            readings.append(of_job)
    return readings


def _read_files(files: PairFiles, *, unaligned: bool) -> Reading:
    reading = Reading()
    for band, path in (("visible", files.visible), ("infrared", files.infrared)):
        try:
            header = None if path is None else _header(files, band, path, unaligned)
            if path is not None and header is not None:
                reading.headers[band] = header
                if header.floats:
                    _check_finite(path)
        except PairError as error:
            reading.errors.append(str(error))
    if files.label is not None:
        try:
            reading.headers["label"] = read_header(files.label)
            reading.pixels = np.bincount(read_label(files.label, None).ravel(), minlength=256)
        except PairError as error:
            reading.errors.append(str(error))
    return reading


def _header(files: PairFiles, band: str, path: Path, unaligned: bool) -> Header | None:
    """What is known of a band without its pixels; None for infrared that is a channel of the visible file."""
    if files.visible is None or files.infrared is None or not same_file(files.visible, files.infrared):
        return read_header(path, infrared=band == "infrared")
    if measured_size(path) is None:
        return read_header(path) if band == "visible" else None
    if band == "infrared":
        return read_header(path, infrared=True)
    height, width, channels = stored_levels(files, "visible", unaligned=unaligned).shape
    return Header((height, width), "in a radiometric file", 8, channels)


def _check_finite(path: Path) -> None:
    """Raises PairError if a band of floats holds NaN or infinite values; its header cannot tell."""
    samples = decode(path).samples
    count = samples.size - int(np.count_nonzero(np.isfinite(samples)))
    if count:
        raise PairError(f"{path}: {count} values are NaN or infinite; fill them, or leave the image out")


def _read_generated(pairs: Pairs, index: int) -> Reading:
    """Read a pair that has no files of its own."""
    reading = Reading()
    try:
        pair = pairs[index]
        stored: dict[str, np.ndarray | None] = {band: pairs.levels(index, band) for band in pairs.bands}
    except PairError as error:
        reading.errors.append(str(error))
        return reading
    for role, image in (("visible", pair.visible), ("infrared", pair.infrared), ("label", pair.label)):
        if image is not None:
            levels = stored.get(role)
            samples, kind = (image, "generated") if levels is None else (levels, "frame")
            bits = 8 if levels is None else 8 * levels.dtype.itemsize
            channels = samples.shape[2] if samples.ndim == 3 else 1
            reading.headers[role] = Header((image.shape[0], image.shape[1]), kind, bits, channels)
    if pair.label is not None:
        reading.pixels = np.bincount(pair.label.ravel(), minlength=256)
    return reading


def _summarise(report: SplitReport, readings: list[Reading]) -> None:
    for reading in readings:
        report.sizes.update([header.size for header in reading.headers.values()][:1])
        for role, header in reading.headers.items():
            report.formats.setdefault(role, Counter())[str(header)] += 1
        if reading.pixels is not None:
            report.pixels += reading.pixels
